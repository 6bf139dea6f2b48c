"""Which model is best: NaN, ties, direction, how many are kept, and when to stop."""

import math

import pytest

from dlgsum.training.best import Candidate, Patience, Ranking


def rank(scores: list[float], *, keep: int = 1, greater: bool = True) -> Ranking:
    ranking = Ranking(keep, greater)
    for step, score in enumerate(scores, start=1):
        ranking.consider(Candidate(step, score))
    return ranking


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("greater", [True, False])
def test_a_score_that_is_not_finite_is_never_kept(bad: float, greater: bool) -> None:
    ranking = rank([bad], greater=greater)
    assert ranking.best is None
    assert not ranking.consider(Candidate(2, bad)).kept
    assert ranking.consider(Candidate(3, 0.1)).best
    assert not ranking.consider(Candidate(4, bad)).kept
    assert ranking.best == Candidate(3, 0.1)


def test_a_tie_keeps_the_earlier_model() -> None:
    ranking = rank([0.5, 0.5])
    assert ranking.best == Candidate(1, 0.5)


def test_smaller_can_be_better() -> None:
    assert rank([2.0, 1.0, 3.0], greater=False).best == Candidate(2, 1.0)


def test_the_k_best_are_kept_in_order_and_the_rest_dropped() -> None:
    ranking = Ranking(2, True)
    assert ranking.consider(Candidate(1, 0.3)).best
    second = ranking.consider(Candidate(2, 0.1))
    assert second.kept and not second.best
    third = ranking.consider(Candidate(3, 0.2))
    assert third.kept and not third.best and third.dropped == (Candidate(2, 0.1),)
    fourth = ranking.consider(Candidate(4, 0.9))
    assert fourth.best and fourth.dropped == (Candidate(3, 0.2),)
    assert [candidate.step for candidate in ranking.kept] == [4, 1]
    assert not ranking.consider(Candidate(5, 0.2)).kept


def test_every_verdict_has_a_reason() -> None:
    ranking = Ranking(1, True)
    reasons = [ranking.consider(Candidate(i, s)).reason for i, s in enumerate([0.1, 0.2, 0.2, 0.1, math.nan])]
    assert reasons[0] == "the first score"
    assert reasons[1] == "better than step 0"
    assert reasons[2] == "a tie with step 1"
    assert reasons[3] == "worse than step 1"
    assert "never kept" in reasons[4]


def test_patience_counts_evaluations_without_improvement() -> None:
    patience = Patience(2, 0.01, True)
    assert [patience.exhausted(score) for score in (0.5, 0.505, 0.52, 0.5, math.nan)] == [
        False, False, False, False, True,
    ]  # fmt: skip


def test_a_small_gain_is_measured_against_the_last_improvement() -> None:
    """Gains below the threshold add up instead of resetting the reference."""
    patience = Patience(3, 0.1, True)
    assert [patience.exhausted(score) for score in (0.5, 0.55, 0.58, 0.62)] == [False, False, False, False]
    assert patience.waited == 0


def test_no_patience_never_stops() -> None:
    patience = Patience(None, 0.0, True)
    assert not any(patience.exhausted(0.0) for _ in range(100))
