"""A gradient that is next to nothing."""

from __future__ import annotations

from collections import deque
from typing import Any

from dlgsum.config.schema.detectors import GradVanishing as Options
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.series import Level, usable

_LIMIT = 10.0  # a single explosion enters the smoothed norm as no more than this many times its value
# The loss must still be this share of what it was: a gradient that goes with the loss has done its work.
_LOSS_LEFT = 0.5


class GradVanishing(Detector):
    """Finds a gradient norm below ``threshold``, or below ``ratio`` of what it was ``window`` steps before.

    The second compares SMOOTHED norms, because a single large norm would make the one ``window`` steps later look
    small, and holds only while the loss is still at least half of what it was: on a memorised training set both go to
    nothing, and that is no fault of the gradient.

    A norm that is None, NaN or infinite changes nothing, and neither does such a loss; without losses the norms alone
    decide. Nothing is compared before ``window`` norms.
    """

    name = "grad_vanishing"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._norm = Level(options.beta, limit=_LIMIT, history=options.window)
        self._loss = Level(options.beta, limit=_LIMIT, history=options.window)
        self._past: deque[tuple[float, float | None]] = deque(maxlen=options.window)
        self._vanished: bool | None = None

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether there is a finite gradient norm."""
        return isinstance(reading, StepReading) and usable(reading.grad_norm)

    def step(self, reading: StepReading) -> Finding | None:
        """Compare the norm with the threshold and with earlier ones."""
        norm = reading.grad_norm
        if not usable(norm):
            return None
        past = self._past[0] if len(self._past) == self.options.window else None
        smoothed = self._norm.add(norm)
        loss = self._loss.add(reading.loss) if usable(reading.loss) else self._loss.value
        self._past.append((smoothed, loss))
        nothing = norm < self.options.threshold
        fallen = past is not None and smoothed < self.options.ratio * past[0] and not _learned(past[1], loss)
        self._vanished = nothing or fallen
        if nothing:
            message = f"The gradient norm is {norm:.3g}, below {self.options.threshold:g}: hardly a weight moves"
            return self.finding(reading, "warning", message, grad_norm=norm)
        if fallen and past is not None:
            message = (
                f"The gradient norm fell from {past[0]:.3g} to {smoothed:.3g} in {self.options.window} steps, "
                "and the loss did not fall with it"
            )
            return self.finding(reading, "warning", message, grad_norm=smoothed, before=past[0])
        return None

    def metrics(self) -> dict[str, float]:
        """Return 1 while the gradient has vanished."""
        return {} if self._vanished is None else {"monitor/grad_vanishing": float(self._vanished)}

    def state(self) -> dict[str, Any]:
        """Return the smoothed norms and losses of the window."""
        return {
            "norm": self._norm.state(),
            "loss": self._loss.state(),
            "past": [list(pair) for pair in self._past],
            "vanished": self._vanished,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier ``state``; of a longer window, the end is kept."""
        self._norm.restore(state["norm"])
        self._loss.restore(state["loss"])
        self._past = deque(((float(norm), loss) for norm, loss in state["past"]), maxlen=self.options.window)
        self._vanished = state["vanished"]


def _learned(before: float | None, now: float | None) -> bool:
    """Tell whether the loss fell so far that the gradient had reason to."""
    return before is not None and now is not None and now < _LOSS_LEFT * before


PLUGIN = GradVanishing
