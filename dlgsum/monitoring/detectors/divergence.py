"""A loss that has risen and stays up."""

from __future__ import annotations

from typing import Any

from dlgsum.config.schema.detectors import Divergence as Options
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.series import Level, times, usable

# A single spike enters the smoothed loss as no more than this many times its value, and so lifts it by 5 %.
_LIMIT = 2.0


class Divergence(Detector):
    """Finds a smoothed loss that stays above ``factor`` times its lowest value for ``patience`` steps in a row.

    The rise must reach ``least_rise`` too, for the noise of small losses. A loss that is None, NaN or infinite
    changes nothing; the lowest value counts from the ``history``-th loss on.
    """

    name = "divergence"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._ema = Level(options.beta, limit=_LIMIT, history=options.history)
        self._lowest: float | None = None
        self._count = 0

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether there is a finite loss of a step."""
        return isinstance(reading, StepReading) and usable(reading.loss)

    def step(self, reading: StepReading) -> Finding | None:
        """Compare the smoothed loss with its lowest."""
        if not usable(reading.loss):
            return None
        self._ema.add(reading.loss)
        now = self._ema.settled
        if now is None:
            return None
        lowest = self._lowest = now if self._lowest is None else min(self._lowest, now)
        high = now > max(self.options.factor * lowest, lowest + self.options.least_rise)
        self._count = self._count + 1 if high else 0
        if self._count < self.options.patience:
            return None
        message = (
            f"The loss has diverged: smoothed, it is {now:.4g}, {times(now, lowest):.1f} times its lowest of "
            f"{lowest:.4g}, and has been that high for {self._count} steps"
        )
        return self.finding(reading, "error", message, loss=now, lowest=lowest, steps=self._count)

    def state(self) -> dict[str, Any]:
        """Return the smoothed loss and its lowest."""
        return {"ema": self._ema.state(), "lowest": self._lowest, "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier ``state``."""
        self._ema.restore(state["ema"])
        self._lowest, self._count = state["lowest"], int(state["count"])


PLUGIN = Divergence
