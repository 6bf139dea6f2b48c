"""The search against made-up memory and speed: never far from the truth, never more than ten tries."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dlgsum.training.batch_size import (
    CLOSE,
    MOST,
    DoesNotFit,
    Found,
    Probe,
    divisors,
    find_fastest,
    find_largest,
    ladder,
    largest_divisor,
)

Curve = Callable[[int], float]


def search(curve: Curve, limit: float, largest: int, smallest: int = 1) -> Found:
    def probe(size: int) -> Probe:
        assert smallest <= size <= largest
        peak = int(curve(size))
        return Probe(size, peak <= limit, peak if peak <= limit else 0)

    return find_largest(probe, limit=int(limit), smallest=smallest, largest=largest)


def true_maximum(curve: Curve, limit: float, largest: int, smallest: int = 1) -> int:
    """Every size, one after the other."""
    best = smallest
    while best < largest and int(curve(best + 1)) <= limit:
        best += 1
    return best


def judge(found: Found, truth: int, smallest: int = 1) -> None:
    assert len(found.probes) <= MOST
    sizes = [probe.size for probe in found.probes]
    assert len(set(sizes)) == len(sizes), "the same size twice"
    assert next(probe for probe in found.probes if probe.size == found.size).fits
    assert found.size <= truth and (found.size >= truth / CLOSE or found.size == truth - 1), (found, truth)


@st.composite
def curves(draw: st.DrawFn) -> tuple[Curve, float]:
    """Memory over size: what is always there, a line, a bend, a floor that hides the line, blocks of the allocator."""
    base = draw(st.floats(0, 1e9))
    slope = draw(st.floats(1e3, 1e8))
    bend = draw(st.sampled_from([0.0, 0.0, 1e2, 1e5]))
    floor = base + draw(st.floats(0, 1e9))
    block = draw(st.sampled_from([1, 2**20, 20 * 2**20]))

    def curve(size: int) -> float:
        return math.ceil(max(floor, base + slope * size + bend * size * size) / block) * block

    return curve, base


@settings(max_examples=400, deadline=None)
@given(curves(), st.integers(1, 20_000), st.floats(0, 1))
def test_whatever_the_curve_the_answer_is_within_five_percent(made: tuple[Curve, float], largest: int, where: float):
    curve, _ = made
    limit = curve(max(1, int(largest * 1.2 * where)))
    judge(search(curve, limit, largest), true_maximum(curve, limit, largest))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=300), st.integers(0, 200_000))
@example([0] * 100 + [1000], 999)
def test_curves_of_any_shape_that_only_rise(steps: list[int], limit: int):
    peaks = [sum(steps[: index + 1]) for index in range(len(steps))]
    limit = max(limit, peaks[0])

    def curve(size: int) -> float:
        return peaks[size - 1]

    judge(search(curve, limit, len(peaks)), true_maximum(curve, limit, len(peaks)))


@settings(max_examples=200, deadline=None)
@given(st.integers(64, 700), st.floats(1, 3000), st.integers(1, 2**31))
def test_token_budgets_count_from_the_longest_row_on(smallest: int, wanted: float, seed: int):
    """A budget's peak jumps about, for each budget packs the rows in another way."""

    def curve(size: int) -> float:
        noise = (size * 2654435761 + seed) % 1000 / 1000
        return 5e8 + 1e6 * size * (1 + 0.01 * noise)

    largest = smallest * 3000
    limit = 5e8 + 1e6 * smallest * max(wanted, 1.02)
    found = search(curve, limit, largest, smallest)
    assert len(found.probes) <= MOST
    sure = min(largest, int((limit - 5e8) / 1e6 / 1.01))  # whatever the noise, this one fits
    assert found.size >= sure / CLOSE - 1
    assert curve(found.size) <= limit


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.floats(0.9, 1.1), st.floats(0.9, 1.1), st.floats(0.5, 2))
def test_peaks_that_are_measured_badly_do_not_spoil_the_answer(truth: int, first: float, second: float, later: float):
    calls = 0

    def probe(size: int) -> Probe:
        nonlocal calls
        calls += 1
        factor = (first, second)[calls - 1] if calls <= 2 else later
        return Probe(size, size <= truth, int((1e8 + 1e6 * size) * factor))

    found = find_largest(probe, limit=int(1e8 + 1e6 * truth), largest=20_000)
    judge(found, truth)


def test_a_straight_line_takes_five_tries():
    found = search(lambda size: 1e9 + 37e6 * size, 1e9 + 37e6 * 800.5, 1_000)
    assert found.size == 800
    assert [probe.size for probe in found.probes] == [4, 16, 720, 800, 840]
    assert found.reason == "800 fits and 840 does not"


def test_what_fits_altogether_is_not_searched_further():
    found = search(lambda size: 1e6 * size, 1e12, 64)
    assert (found.size, found.reason) == (64, "all of 64 fits")
    assert len(found.probes) == 3


def test_landmarks_inside_the_last_five_percent_are_tried():
    plain = search(lambda size: 1e6 * size, 61.5e6, 500)
    assert plain.size in (60, 61)
    for truth in (59, 60):
        found = find_largest(
            lambda size, truth=truth: Probe(size, size <= truth, size), limit=58, largest=120, landmarks=divisors(120)
        )
        assert largest_divisor(120, found.size) == (60 if truth == 60 else 40)


@pytest.mark.parametrize("largest", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("truth", [1, 2, 3, 4, 5])
def test_a_handful_of_rows(largest: int, truth: int):
    assert search(lambda size: size, truth, largest).size == min(largest, truth)


def test_a_single_row_that_does_not_fit_is_said():
    with pytest.raises(DoesNotFit) as caught:
        search(lambda size: 100.0 + size, 100, 50)
    assert caught.value.probe.size == 1
    with pytest.raises(ValueError, match="largest=0"):
        search(lambda size: size, 1, 0)


# --- speed ---


def fastest(speed: Curve, largest: int, memory: int = 10**9, sizes: list[int] | None = None) -> Found:
    def probe(size: int) -> Probe:
        fits = size <= memory
        return Probe(size, fits, size, speed(size) if fits else 0.0)

    return find_fastest(probe, sizes or ladder(largest))


@settings(max_examples=200, deadline=None)
@given(st.floats(0.1, 5), st.integers(1, 4096), st.integers(1, 4096))
def test_the_smallest_size_that_is_fast_enough(half: float, largest: int, memory: int):
    """Speed that rises and levels out: half of the most at ``half`` rows."""

    def speed(size: int) -> float:
        return 1000 * size / (size + half)

    found = fastest(speed, largest, memory)
    assert len(found.probes) <= MOST
    sizes = [size for size in ladder(largest) if size <= memory]
    assert found.size in sizes
    best_tried = max(probe.tokens_per_second for probe in found.probes)
    assert speed(found.size) >= 0.95 * best_tried
    # What was not tried is hardly faster, and with tries to spare no smaller size would have done.
    assert best_tried >= 0.95 * max(speed(size) for size in sizes)
    if len(found.probes) < MOST:
        assert all(speed(size) < 0.95 * best_tried for size in sizes if size < found.size)


def test_a_cpu_that_gains_nothing_from_batches_gets_one_row():
    found = fastest(lambda size: 1000.0, 4096)
    assert found.size == 1
    assert len(found.probes) == 3


def test_memory_ends_the_doubling_and_the_gap_is_looked_into():
    found = fastest(lambda size: 100.0 * size, 64, memory=25)
    assert found.size == 24
    assert "32 does not fit" in found.reason


def test_only_sizes_that_divide_the_effective_batch():
    found = fastest(lambda size: size / (size + 3), 60, sizes=divisors(60))
    assert found.size in divisors(60)
    with pytest.raises(DoesNotFit):
        fastest(lambda size: 1.0, 8, memory=0)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_divisors(number: int, at_most: int):
    brute = [part for part in range(1, number + 1) if number % part == 0]
    assert divisors(number) == brute
    assert largest_divisor(number, at_most) == max(part for part in brute if part <= at_most)
    assert ladder(number)[0] == 1
    assert ladder(number)[-1] == number
