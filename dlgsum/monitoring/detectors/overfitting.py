"""Validation loss that rises while training loss falls."""

from __future__ import annotations

from typing import Any

from dlgsum.config.schema.detectors import Overfitting as Options
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.series import times, usable


class Overfitting(Detector):
    """Finds a validation loss above its best, and ever farther from the training loss, ``patience`` times in a row.

    The rise above the best must exceed ``growth`` of it: validation loss ends most healthy runs with a small rise.
    Once found, it lasts until the validation loss is back within ``growth`` of its best.

    An evaluation whose training or validation loss is None, NaN or infinite changes nothing. The first one judges
    nothing.
    """

    name = "overfitting"
    quiet = 1

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._best: float | None = None
        self._gap: float | None = None
        self._rising = 0
        self._found = False

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether both losses are there."""
        return isinstance(reading, EvaluationReading) and usable(reading.eval_loss) and usable(reading.train_loss)

    def evaluation(self, reading: EvaluationReading) -> Finding | None:
        """Compare the gap with that of the evaluation before, and the loss with its best."""
        loss, train = reading.eval_loss, reading.train_loss
        if not usable(loss) or not usable(train):
            return None
        gap, before = loss - train, self._gap
        best = self._best = loss if self._best is None else min(self._best, loss)
        self._gap = gap
        self._rising = self._rising + 1 if loss > best and before is not None and gap > before else 0
        above = loss - best > self.options.growth * abs(best)
        self._found = above and (self._found or self._rising >= self.options.patience)
        if not self._found:
            return None
        rise = times(loss - best, abs(best))
        message = (
            f"The validation loss is {loss:.4g}, {rise:.1%} above its best of {best:.4g}, while the training loss is "
            f"{train:.4g}: the model learns its training rows by heart"
        )
        return self.finding(reading, "warning", message, eval_loss=loss, best=best, train_loss=train, gap=gap)

    def state(self) -> dict[str, Any]:
        """Return the best loss, the last gap and how long it has grown."""
        return {"best": self._best, "gap": self._gap, "rising": self._rising, "found": self._found}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier ``state``."""
        self._best, self._gap = state["best"], state["gap"]
        self._rising, self._found = int(state["rising"]), bool(state["found"])


PLUGIN = Overfitting
