"""A loss far above its average."""

from __future__ import annotations

from typing import Any

from dlgsum.config.schema.detectors import LossSpike as Options
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.series import Level, times, usable


class LossSpike(Detector):
    """Finds a loss above ``factor`` times its average, compared before the loss enters the average.

    The rise must reach ``least_rise`` too: a memorised training set has losses of 0.01 that double by chance.
    A loss that is None, NaN or infinite changes nothing; nothing is judged before ``history`` losses. A spike
    enters the average as ``factor`` times the average at most.
    """

    name = "loss_spike"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._ema = Level(options.beta, limit=options.factor, history=options.history)
        self._raw: float | None = None
        self._spike = False

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether there is a finite loss of a step."""
        return isinstance(reading, StepReading) and usable(reading.loss)

    def step(self, reading: StepReading) -> Finding | None:
        """Compare the loss with its average."""
        loss = reading.loss
        if not usable(loss):
            return None
        normal = self._ema.settled
        rise = self.options.least_rise
        self._raw, self._spike = loss, normal is not None and loss > max(self.options.factor * normal, normal + rise)
        self._ema.add(loss)
        if not self._spike or normal is None:
            return None
        message = f"The loss jumped to {loss:.4g}, {times(loss, normal):.1f} times its average of {normal:.4g}"
        return self.finding(reading, "warning", message, loss=loss, average=normal, times=times(loss, normal))

    def metrics(self) -> dict[str, float]:
        """Return the last finite loss, its average, and 1 while it is a spike."""
        average = self._ema.value
        if self._raw is None or average is None:
            return {}
        return {
            "monitor/loss_raw": self._raw,
            "monitor/loss_ema": average,
            "monitor/loss_spike": float(self._spike),
        }

    def state(self) -> dict[str, Any]:
        """Return the average and the last loss."""
        return {"ema": self._ema.state(), "raw": self._raw, "spike": self._spike}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier ``state``."""
        self._ema.restore(state["ema"])
        self._raw, self._spike = state["raw"], bool(state["spike"])


PLUGIN = LossSpike
