"""A loss or gradient that is NaN or infinite."""

from __future__ import annotations

import math
from typing import Any

from dlgsum.config.schema.detectors import NonFinite as Options
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading


class NonFinite(Detector):
    """Finds a step whose loss or gradient norm is NaN or infinite, or that was skipped because of it.

    The very first one counts; None says nothing. The numbers of the finding are counts: NaN is in the message only,
    because JSON has no NaN.
    """

    name = "non_finite"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._in_a_row = self._total = 0

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether anything was measured."""
        if not isinstance(reading, StepReading):
            return False
        return reading.skipped or reading.loss is not None or reading.grad_norm is not None

    def step(self, reading: StepReading) -> Finding | None:
        """Look at the loss and the gradient."""
        bad = [
            f"the {what} is {value}"
            for what, value in (("loss", reading.loss), ("gradient norm", reading.grad_norm))
            if value is not None and not math.isfinite(value)
        ]
        if not bad and not reading.skipped:
            if self.judges(reading):
                self._in_a_row = 0
            return None
        self._in_a_row += 1
        self._total += 1
        message = " and ".join(bad) or "the gradient is not finite"
        message = message[0].upper() + message[1:]
        if reading.skipped:
            message += "; the step was skipped, so the weights are as they were"
        if self._in_a_row > 1:
            message += f" ({self._in_a_row} steps in a row)"
        return self.finding(reading, "error", message, in_a_row=self._in_a_row, total=self._total)

    def state(self) -> dict[str, Any]:
        """Return the counts."""
        return {"in_a_row": self._in_a_row, "total": self._total}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self._in_a_row, self._total = int(state["in_a_row"]), int(state["total"])


PLUGIN = NonFinite
