"""Gradients that are clipped hard at most steps."""

from __future__ import annotations

from collections import deque
from typing import Any

from dlgsum.config.schema.detectors import ClipRatio as Options
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.series import usable

_NOT, _CLIPPED, _HARD = 0, 1, 2


class ClipRatio(Detector):
    """Finds that more than ``threshold`` of the last ``window`` steps were clipped hard.

    Hard is a norm above ``excess`` times ``max_grad_norm``. Steps that are clipped at all say little: with
    ``max_grad_norm=1`` and norms about 2, a healthy run clips 86 % of its steps. ``monitor/clip_ratio`` is the plain
    share of clipped steps in the window.

    A norm that is None, NaN or infinite changes nothing, nor does a step without clipping (``max_grad_norm`` 0).
    Nothing is judged before the window is full.
    """

    name = "clip_ratio"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._window: deque[int] = deque(maxlen=options.window)
        self._clipped = self._hard = 0

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether there is a finite gradient norm, and clipping."""
        return isinstance(reading, StepReading) and usable(reading.grad_norm) and _clips(reading.max_grad_norm)

    def step(self, reading: StepReading) -> Finding | None:
        """Count the step."""
        norm, limit = reading.grad_norm, reading.max_grad_norm
        if not usable(norm) or not _clips(limit):
            return None
        self._count(_HARD if norm > self.options.excess * limit else _CLIPPED if norm > limit else _NOT)
        steps = len(self._window)
        if steps < self.options.window or self._hard <= self.options.threshold * steps:
            return None
        message = (
            f"{self._hard / steps:.0%} of the last {steps} steps had a gradient norm above "
            f"{self.options.excess * limit:g}, {self.options.excess:g} times what it is clipped to"
        )
        return self.finding(
            reading, "warning", message, hard_ratio=self._hard / steps, clip_ratio=self._clipped / steps
        )

    def _count(self, kind: int) -> None:
        if len(self._window) == self.options.window:
            self._weigh(self._window[0], -1)
        self._window.append(kind)
        self._weigh(kind, 1)

    def _weigh(self, kind: int, sign: int) -> None:
        self._clipped += sign * (kind != _NOT)
        self._hard += sign * (kind == _HARD)

    def metrics(self) -> dict[str, float]:
        """Return the share of clipped steps in the window."""
        return {"monitor/clip_ratio": self._clipped / len(self._window)} if self._window else {}

    def state(self) -> dict[str, Any]:
        """Return the window."""
        return {"window": "".join(map(str, self._window))}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier ``state``; of a longer window, the end is kept."""
        self._window.clear()
        self._clipped = self._hard = 0
        for kind in state["window"]:
            self._count(int(kind))


def _clips(limit: float) -> bool:
    return usable(limit) and limit > 0


PLUGIN = ClipRatio
