"""Which models are the best, and when to stop waiting for a better one.

Pure decisions; the files are moved by ``hooks/keep_best.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """A model at a step with the score it is judged by."""

    step: int
    score: float


@dataclass(frozen=True)
class Verdict:
    """What to do with a candidate: keep it or not, is it the best, which kept ones fall out, and why."""

    kept: bool
    best: bool
    dropped: tuple[Candidate, ...]
    reason: str


@dataclass
class Ranking:
    """The best models so far.

    A score that is NaN or infinite is never kept. On a tie the earlier model stays ahead.

    Args:
        keep: how many models are kept.
        greater_is_better: whether a larger score is better.
    """

    keep: int
    greater_is_better: bool
    kept: list[Candidate] = field(default_factory=list)

    @property
    def best(self) -> Candidate | None:
        """The best model so far; None while no score was finite."""
        return self.kept[0] if self.kept else None

    def consider(self, candidate: Candidate) -> Verdict:
        """Place a candidate in the ranking."""
        if not math.isfinite(candidate.score):
            return Verdict(False, False, (), f"a score of {candidate.score} is never kept")
        sign = 1 if self.greater_is_better else -1
        before = [other for other in self.kept if sign * other.score >= sign * candidate.score]
        place = len(before)
        if place >= self.keep:
            rival = self.kept[0] if self.keep == 1 else self.kept[-1]
            tie = rival.score == candidate.score
            return Verdict(False, False, (), f"{'a tie with' if tie else 'worse than'} step {rival.step}")
        previous = self.best
        self.kept.insert(place, candidate)
        dropped = tuple(self.kept[self.keep :])
        del self.kept[self.keep :]
        if place:
            return Verdict(True, False, dropped, f"number {place + 1} of the best")
        reason = "the first score" if previous is None else f"better than step {previous.step}"
        return Verdict(True, True, dropped, reason)

    def state(self) -> dict[str, Any]:
        """Return the ranking for a file."""
        return {"kept": [{"step": candidate.step, "score": candidate.score} for candidate in self.kept]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the ranking of an earlier ``state``."""
        self.kept = [Candidate(int(entry["step"]), float(entry["score"])) for entry in state["kept"]][: self.keep]


@dataclass
class Patience:
    """Early stopping: count evaluations without improvement.

    Args:
        patience: stop after this many; None: never.
        threshold: an improvement must exceed this.
        greater_is_better: whether a larger score is better.
    """

    patience: int | None
    threshold: float
    greater_is_better: bool
    reference: float | None = None
    waited: int = 0

    def exhausted(self, score: float) -> bool:
        """Take the score of an evaluation and tell whether it is time to stop; NaN is no improvement."""
        sign = 1 if self.greater_is_better else -1
        improved = math.isfinite(score) and (self.reference is None or sign * (score - self.reference) > self.threshold)
        if improved:
            self.reference, self.waited = score, 0
        else:
            self.waited += 1
        return self.patience is not None and self.waited >= self.patience

    def state(self) -> dict[str, Any]:
        """Return what was waited for, and how long."""
        return {"reference": self.reference, "waited": self.waited}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on waiting."""
        reference = state["reference"]
        self.reference, self.waited = None if reference is None else float(reference), int(state["waited"])
