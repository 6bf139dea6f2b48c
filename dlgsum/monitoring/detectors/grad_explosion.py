"""A gradient that is far too large."""

from __future__ import annotations

from typing import Any

from dlgsum.config.schema.detectors import GradExplosion as Options
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.series import Level, times, usable


class GradExplosion(Detector):
    """Finds a gradient norm above ``threshold`` (an error), or above ``factor`` times its average (a warning).

    The norm is that before clipping, compared before it enters the average. A norm up to ``normal`` is no trouble
    even where its average is tiny. A norm that is None, NaN or infinite changes nothing (``non_finite`` tells); the
    average is not used before ``history`` norms. An explosion enters it as ``factor`` times the average at most.
    """

    name = "grad_explosion"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._ema = Level(options.beta, limit=options.factor, history=options.history)
        self._raw: float | None = None
        self._exploded = False

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether there is a finite gradient norm."""
        return isinstance(reading, StepReading) and usable(reading.grad_norm)

    def step(self, reading: StepReading) -> Finding | None:
        """Compare the norm with the threshold and with its average."""
        norm = reading.grad_norm
        if not usable(norm):
            return None
        average = self._ema.settled
        multiple = None if average is None else times(norm, average)
        beyond = norm > self.options.threshold
        far = multiple is not None and norm > self.options.normal and multiple > self.options.factor
        self._raw, self._exploded = norm, beyond or far
        self._ema.add(norm)
        if not self._exploded:
            return None
        numbers = {"grad_norm": norm}
        message = f"The gradient norm is {norm:.4g}"
        if average is not None and multiple is not None:
            numbers |= {"average": average, "times": multiple}
            message += f", {multiple:.1f} times its average of {average:.4g}"
        if beyond:
            message += f"; anything above {self.options.threshold:g} is an explosion"
        return self.finding(reading, "error" if beyond else "warning", message, **numbers)

    def metrics(self) -> dict[str, float]:
        """Return the last finite norm, its average, and 1 while it is an explosion."""
        average = self._ema.value
        if self._raw is None or average is None:
            return {}
        return {
            "monitor/grad_norm_raw": self._raw,
            "monitor/grad_norm_ema": average,
            "monitor/grad_explosion": float(self._exploded),
        }

    def state(self) -> dict[str, Any]:
        """Return the average and the last norm."""
        return {"ema": self._ema.state(), "raw": self._raw, "exploded": self._exploded}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier ``state``."""
        self._ema.restore(state["ema"])
        self._raw, self._exploded = state["raw"], bool(state["exploded"])


PLUGIN = GradExplosion
