"""A loss that no longer moves."""

from __future__ import annotations

from collections import deque
from typing import Any

from dlgsum.config.schema.detectors import LossPlateau as Options
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.series import Level, times, usable

# A spike enters the smoothed loss as no more than this many times its value.
_LIMIT = 2.0
_LONG = 3  # windows: the longer look back
_LEFT = 0.02  # a loss this far from where it stood still has left the plateau


class LossPlateau(Detector):
    """Finds a smoothed loss that moved by less than ``threshold`` of itself over ``window`` steps.

    ``|L_t - L_(t-W)| / |L_(t-W)|`` of the SMOOTHED loss: the losses of single batches differ by tens of per cent, so
    that two of them agree to 0.1 % by chance only, on a plateau as anywhere else. What is left of the noise would still
    pass off a loss that falls by 1 % a window as standing still now and then; so the change over three windows (or as
    many steps as there are) must be below three times ``threshold`` as well. ``patience`` steps in a row must stand
    still, because a curve that turns crosses its earlier value once. The plateau lasts until the smoothed loss is 2 %
    away from where it was found: noise lifts a flat curve over the threshold now and then. Where the schedule is
    below ``least_learning_rate`` of its peak nothing is judged: the loss flattens by design.

    A loss that is None, NaN or infinite changes nothing. Nothing is judged before the average has
    settled (1 / (1 - beta) losses: 100) and ``window`` losses more.
    """

    name = "loss_plateau"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._ema = Level(options.beta, limit=_LIMIT, history=round(1 / (1 - options.beta)))
        self._past: deque[float] = deque(maxlen=_LONG * options.window)
        self._change: float | None = None
        self._count = 0
        self._level: float | None = None

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether there is a finite loss of a step at which the learning rate is worth the name."""
        return isinstance(reading, StepReading) and usable(reading.loss) and not self._asleep(reading)

    def _asleep(self, reading: StepReading) -> bool:
        share = reading.learning_rate_share
        return usable(share) and share < self.options.least_learning_rate

    def step(self, reading: StepReading) -> Finding | None:
        """Compare the smoothed loss with what it was ``window`` steps before."""
        if not usable(reading.loss):
            return None
        self._ema.add(reading.loss)
        now = self._ema.settled
        if now is None:
            return None
        if len(self._past) < self.options.window:
            self._past.append(now)
            return None
        before, long_before = self._past[-self.options.window], self._past[0]
        self._past.append(now)
        self._change = times(abs(now - before), abs(before))
        still = (
            self._change < self.options.threshold
            and times(abs(now - long_before), abs(long_before)) < _LONG * self.options.threshold
            and not self._asleep(reading)
        )
        self._count = self._count + 1 if still else 0
        if self._level is not None and times(abs(now - self._level), abs(self._level)) > _LEFT:
            self._level = None
        if self._level is None and self._count >= self.options.patience:
            self._level = now
        if self._level is None or self._asleep(reading):
            return None
        window = self.options.window
        message = f"The smoothed loss stands still at {now:.4g}: it moved by {self._change:.3%} in {window} steps"
        return self.finding(reading, "warning", message, loss=now, change=self._change, steps=self._count)

    def metrics(self) -> dict[str, float]:
        """Return the relative change over the window and how many steps in a row stood still."""
        if self._change is None:
            return {}
        return {"monitor/loss_change_rate": self._change, "monitor/plateau_count": float(self._count)}

    def state(self) -> dict[str, Any]:
        """Return the smoothed losses of the window."""
        return {
            "ema": self._ema.state(),
            "past": list(self._past),
            "change": self._change,
            "count": self._count,
            "level": self._level,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier ``state``; of a longer window, the end is kept."""
        self._ema.restore(state["ema"])
        self._past = deque(map(float, state["past"]), maxlen=_LONG * self.options.window)
        self._change, self._count, self._level = state["change"], int(state["count"]), state["level"]


PLUGIN = LossPlateau
