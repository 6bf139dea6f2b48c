"""Training that has become slow."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Any

from dlgsum.config.schema.detectors import ThroughputDrop as Options
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.series import times, usable


class ThroughputDrop(Detector):
    """Finds ``patience`` measurements in a row below ``factor`` times the median of the last ``window``.

    They must span ``least_steps`` as well: with a measurement at every step, five of them are a hiccup of the machine.
    Slow measurements do not enter the window, or a run that stays slow would soon count as normal. A measurement that
    is None, NaN or infinite changes nothing. Nothing is judged before ``history`` measurements.
    """

    name = "throughput_drop"
    quiet = 3  # measurements are many steps apart

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._window: deque[float] = deque(maxlen=options.window)
        self._sorted: list[float] = []
        self._slow = 0
        self._since = 0

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether the throughput was measured."""
        return isinstance(reading, StepReading) and usable(reading.tokens_per_sec)

    def step(self, reading: StepReading) -> Finding | None:
        """Compare the measurement with the median."""
        speed = reading.tokens_per_sec
        if not usable(speed):
            return None
        median = self._median()
        if median is None or speed >= self.options.factor * median:
            self._slow = 0
            self._enter(speed)
            return None
        self._since = self._since if self._slow else reading.step
        self._slow += 1
        lasted = reading.step - self._since
        if self._slow < self.options.patience or lasted < self.options.least_steps:
            return None
        message = (
            f"Training has slowed down to {speed:,.0f} tokens a second, {times(speed, median):.0%} of the usual "
            f"{median:,.0f}, since step {self._since}"
        )
        return self.finding(reading, "warning", message, tokens_per_sec=speed, median=median, measurements=self._slow)

    def _median(self) -> float | None:
        count = len(self._sorted)
        if count < min(self.options.history, self.options.window):
            return None
        return (self._sorted[(count - 1) // 2] + self._sorted[count // 2]) / 2

    def _enter(self, speed: float) -> None:
        if len(self._window) == self.options.window:
            del self._sorted[bisect_left(self._sorted, self._window[0])]
        self._window.append(speed)
        insort(self._sorted, speed)

    def state(self) -> dict[str, Any]:
        """Return the window."""
        return {"window": list(self._window), "slow": self._slow, "since": self._since}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier ``state``; of a longer window, the end is kept."""
        self._window = deque(map(float, state["window"]), maxlen=self.options.window)
        self._sorted = sorted(self._window)
        self._slow, self._since = int(state["slow"]), int(state["since"])


PLUGIN = ThroughputDrop
