"""A learning rate off its schedule."""

from __future__ import annotations

from typing import Any

from dlgsum.config.schema.detectors import LearningRate as Options
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.series import usable

_LEAST = 1e-12  # schedules begin and end at 0, where a relative difference means nothing


class LearningRate(Detector):
    """Finds a learning rate that differs from its schedule by more than ``tolerance``, ``patience`` steps in a row.

    Silent where the schedule says nothing (None). Either number being None, NaN or infinite changes nothing. Needs no
    history.
    """

    name = "learning_rate"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._now: float | None = None
        self._off = 0

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether both are known."""
        return (
            isinstance(reading, StepReading)
            and usable(reading.learning_rate)
            and usable(reading.expected_learning_rate)
        )

    def step(self, reading: StepReading) -> Finding | None:
        """Compare the learning rate with its schedule."""
        now, expected = reading.learning_rate, reading.expected_learning_rate
        if not usable(now):
            return None
        self._now = now
        if not usable(expected):
            return None
        off = abs(now - expected) > max(self.options.tolerance * abs(expected), _LEAST)
        self._off = self._off + 1 if off else 0
        if self._off < self.options.patience:
            return None
        message = (
            f"The learning rate is {now:.4g}, but its schedule says {expected:.4g}, for {self._off} steps in a row"
        )
        return self.finding(reading, "warning", message, learning_rate=now, expected=expected, steps=self._off)

    def metrics(self) -> dict[str, float]:
        """Return the learning rate of the last step."""
        return {} if self._now is None else {"monitor/learning_rate": self._now}

    def state(self) -> dict[str, Any]:
        """Return how long it has been off."""
        return {"now": self._now, "off": self._off}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier ``state``."""
        self._now, self._off = state["now"], int(state["off"])


PLUGIN = LearningRate
