"""Predictions that are empty, all the same or going round in circles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from dlgsum.config.schema.detectors import RougeCollapse as Options
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.series import times, usable

_LEAST_ROWS = 5  # fewer predictions than this may well be the same
_NGRAM = 8  # characters; Korean writes few blanks where a model loops
_LOOPING = 0.5  # of a text's n-grams are repeats of earlier ones


class RougeCollapse(Detector):
    """Finds an evaluation whose predictions are mostly empty, mostly the same, or mostly loops, or whose score fell.

    Every model starts so: an untrained one says the same of every dialogue, or random things at first and the same
    later. Therefore predictions count only after a good evaluation whose score they do not reach, or where they are
    still so at the ``patience``-th evaluation. A score counts as fallen below ``score_share`` of the best; one for
    which smaller is better is not judged, and neither is a best of 0.

    Without predictions only the score is judged; a score that is None, NaN or infinite changes nothing. Fewer than 5
    predictions are not compared with each other.
    """

    name = "rouge_collapse"
    quiet = 1

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._best: float | None = None
        self._poor = 0
        self._good = False

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether there are predictions or a score."""
        if not isinstance(reading, EvaluationReading):
            return False
        return bool(reading.predictions) or (usable(reading.score) and reading.greater_is_better)

    def evaluation(self, reading: EvaluationReading) -> Finding | None:
        """Look at the predictions and the score."""
        problems = dict(self._poor_predictions(reading.predictions or ()))
        poor = bool(problems)
        if reading.predictions:
            self._poor = self._poor + 1 if poor else 0
            counts = (self._good and not self._is_best(reading)) or self._poor >= self.options.patience
            self._good = self._good or not poor
            problems = problems if counts else {}
        problems |= self._fallen(reading)
        if not problems:
            return None
        numbers = {name: value for name, (value, _) in problems.items()}
        message = f"The predictions have collapsed: {'; '.join(text for _, text in problems.values() if text)}"
        return self.finding(reading, "error", message, **numbers)

    def _poor_predictions(self, texts: Sequence[str]) -> Iterator[tuple[str, tuple[float, str]]]:
        """Yield what is wrong with the predictions: the name of the number, the number and a phrase."""
        rows = len(texts)
        if not rows:
            return
        filled = [text for text in map(str.strip, texts) if text]
        empty = (rows - len(filled)) / rows
        if empty > self.options.empty_share:
            yield "empty_share", (empty, f"{empty:.0%} are empty")
        if not filled:
            return
        most = Counter(filled).most_common(1)[0][1]
        if rows >= _LEAST_ROWS and most / rows > self.options.same_share:
            yield "same_share", (most / rows, f"{most / rows:.0%} are the same")
        looping = sum(map(_loops, filled)) / rows
        if looping > self.options.looping_share:
            yield "looping_share", (looping, f"{looping:.0%} repeat themselves over and over")

    def _is_best(self, reading: EvaluationReading) -> bool:
        """Say whether the score is above all before it; False where scores are not judged."""
        if not usable(reading.score) or not reading.greater_is_better:
            return False
        return self._best is None or reading.score > self._best

    def _fallen(self, reading: EvaluationReading) -> dict[str, tuple[float, str]]:
        score = reading.score
        if not usable(score) or not reading.greater_is_better:
            return {}
        best = self._best
        self._best = score if best is None else max(best, score)
        if best is None or best <= 0 or score >= self.options.score_share * best:
            return {}
        phrase = f"the score fell to {score:.4g}, {times(score, best):.0%} of its best of {best:.4g}"
        return {"score": (score, phrase), "best": (best, "")}

    def state(self) -> dict[str, Any]:
        """Return the best score and whether there was a good evaluation."""
        return {"best": self._best, "poor": self._poor, "good": self._good}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier ``state``."""
        self._best, self._poor, self._good = state["best"], int(state["poor"]), bool(state["good"])


def _loops(text: str) -> bool:
    """Tell whether most of a text repeats earlier parts of it."""
    total = len(text) - _NGRAM + 1
    if total < _NGRAM:
        return False
    return 1 - len({text[start : start + _NGRAM] for start in range(total)}) / total > _LOOPING


PLUGIN = RougeCollapse
