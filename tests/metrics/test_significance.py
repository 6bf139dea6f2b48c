"""Bootstrap intervals and paired comparisons."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlgsum.metrics import significance
from dlgsum.metrics.significance import bootstrap_interval, paired_bootstrap

RNG = np.random.default_rng(5)
SCORES = RNG.uniform(0, 1, 300)


def test_the_interval_holds_the_mean_and_repeats() -> None:
    first = bootstrap_interval(SCORES, 1000, seed=3)
    assert first.mean == pytest.approx(SCORES.mean())
    assert first.low < first.mean < first.high
    assert first == bootstrap_interval(SCORES, 1000, seed=3)
    assert first != bootstrap_interval(SCORES, 1000, seed=4)


def test_the_interval_is_as_wide_as_theory_says() -> None:
    interval = bootstrap_interval(SCORES, 5000, seed=0)
    expected = 2 * 1.96 * SCORES.std() / math.sqrt(SCORES.size)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.08)


def test_a_higher_level_gives_a_wider_interval() -> None:
    wide, narrow = (bootstrap_interval(SCORES, 1000, level=level) for level in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    draws = RNG.uniform(0, 1, (200, 60))
    hits = [(got := bootstrap_interval(row, 300)).low < 0.5 and got.high > 0.5 for row in draws]
    assert 0.88 <= np.mean(hits) <= 0.99


def test_chunks_do_not_change_the_number_of_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "_CHUNK", 300 * 7)
    assert significance._resampled_means(SCORES, 100, 0).shape == (100,)
    assert bootstrap_interval(SCORES, 100).low < SCORES.mean()


def test_too_few_values_have_no_interval() -> None:
    one = bootstrap_interval([0.4])
    assert one.mean == 0.4
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(bootstrap_interval([]).mean)
    single = paired_bootstrap([0.4], [0.1])
    assert single.difference == pytest.approx(0.3)
    assert all(math.isnan(value) for value in (single.low, single.high, single.p))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="value 1 is"):
        bootstrap_interval([0.1, bad, 0.2])
    with pytest.raises(ValueError, match="value 0 is"):
        paired_bootstrap([0.1, 0.2], [bad, 0.2])


def test_other_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="same rows"):
        paired_bootstrap([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="one value a row"):
        bootstrap_interval(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="samples=0"):
        bootstrap_interval([0.1, 0.2], samples=0)
    with pytest.raises(ValueError, match="level=1"):
        bootstrap_interval([0.1, 0.2], level=1)


def test_a_steady_gain_is_significant_and_noise_is_not() -> None:
    better = paired_bootstrap(SCORES + RNG.normal(0.05, 0.02, SCORES.size), SCORES)
    assert better.low > 0
    assert better.p == pytest.approx(2 / 1001)
    noise = RNG.normal(0, 0.1, SCORES.size)
    same = paired_bootstrap(SCORES + noise - noise.mean(), SCORES)
    assert same.low < 0 < same.high
    assert same.p > 0.5


def test_swapping_the_systems_mirrors_the_answer() -> None:
    other = SCORES + RNG.normal(0.01, 0.1, SCORES.size)
    there, back = paired_bootstrap(other, SCORES, seed=1), paired_bootstrap(SCORES, other, seed=1)
    assert there.difference == pytest.approx(-back.difference)
    assert there.low == pytest.approx(-back.high)
    assert there.p == pytest.approx(back.p)


def test_equal_systems_have_p_1() -> None:
    same = paired_bootstrap(SCORES, SCORES)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_pairing_sees_what_separate_intervals_miss() -> None:
    shifted = SCORES + 0.01
    a, b = bootstrap_interval(shifted), bootstrap_interval(SCORES)
    assert a.low < b.high
    assert paired_bootstrap(shifted, SCORES).p < 0.01


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(0, 5))
@settings(deadline=None, max_examples=50)
def test_ends_stay_within_the_values(values: list[float], seed: int) -> None:
    interval = bootstrap_interval(values, 50, seed)
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
