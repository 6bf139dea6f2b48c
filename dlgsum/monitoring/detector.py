"""The seam "detectors": judge the numbers of a run, one reading after the other."""

from __future__ import annotations

import dataclasses
import logging
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from dlgsum.config.schema.detectors import Detectors
from dlgsum.core import plugins
from dlgsum.core.errors import UsageError, nearest
from dlgsum.monitoring.advice import NOTHING_KNOWN, advice_for
from dlgsum.monitoring.finding import Finding, Severity
from dlgsum.monitoring.readings import EvaluationReading, StepReading

logger = logging.getLogger(__name__)


class Detector(ABC):
    """Judges readings and says what is wrong.

    To add a detector, write ``dlgsum/monitoring/detectors/<name>.py`` with a subclass and ``PLUGIN = <the class>``,
    its options in ``config/schema/detectors.py`` under the same name, and an entry in ``advice.py``. Another package
    adds its own through the entry point group ``dlgsum.detectors``: it gets what the user wrote under
    ``monitoring.detectors.extra.<name>`` as a plain mapping, checks it, and raises ``UsageError`` naming the key.
    Every detector keeps these promises, which ``tests/monitoring/test_detector_conformance.py`` checks:

    * a finding is returned for EVERY reading in which the trouble holds; ``Watch`` tells onset from repeat;
    * no reading raises: numbers may be None, NaN, infinite, 0 or huge;
    * what was not measured changes nothing, and what is not finite enters no average and no window;
    * numbers of findings and metrics are finite;
    * ``state()`` is strict JSON, and a fresh detector with the same options that restores it goes on as if nothing
      had happened;
    * nothing but the readings counts: no clock, no randomness, no device, and a step costs microseconds.

    Args:
        options: the dataclass of ``config/schema/detectors.py``; a mapping for a detector of another package.
    """

    name: ClassVar[str]
    quiet: ClassVar[int] = 20
    """Judged readings without a finding after which the trouble has passed."""

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether the reading holds what this detector judges; any other neither prolongs nor ends trouble."""

    def step(self, reading: StepReading) -> Finding | None:
        """Judge one optimizer step."""
        return None

    def evaluation(self, reading: EvaluationReading) -> Finding | None:
        """Judge one evaluation."""
        return None

    def metrics(self) -> dict[str, float]:
        """Return the current values under their names ``monitor/...``; what is not known yet is left out."""
        return {}

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return everything that later findings and metrics depend on, as strict JSON."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier ``state``; thresholds and windows may have changed in between."""

    def finding(
        self, reading: StepReading | EvaluationReading, severity: Severity, message: str, **numbers: float
    ) -> Finding:
        """Return a finding with the causes and the advice that are known for this kind."""
        known = advice_for(self.name) or NOTHING_KNOWN
        return Finding(
            kind=self.name, severity=severity, step=reading.step, epoch=reading.epoch, message=message,
            numbers=numbers, causes=known.causes, advice=known.advice, key=known.key,
        )  # fmt: skip


def build_detectors(settings: Detectors) -> list[Detector]:
    """Return every detector that is not turned off, by name.

    One of another package that cannot be loaded is left out, with a warning.

    Raises:
        UsageError: options are given for a detector that does not exist, or that its own section holds, or a
            detector of another package refuses its options.
    """
    own = {field.name for field in dataclasses.fields(settings)} - {"extra"}
    names = plugins.names("detectors")
    _check_extra(settings.extra, own, names)
    built: list[Detector] = []
    for name in names:
        options: Any = getattr(settings, name) if name in own else dict(settings.extra.get(name, {}))
        if not (options.enabled if name in own else _enabled(name, options)):
            continue
        try:
            detector = plugins.load("detectors", name)(options)
        except UsageError:
            raise
        except Exception as error:
            if name in own:
                raise
            logger.warning("The detector %s is left out: it cannot be loaded: %r", name, error)
            continue
        built.append(detector)
    return built


def _enabled(name: str, options: dict[str, Any]) -> bool:
    """Take ``enabled`` out of the options of a detector of another package."""
    enabled = options.pop("enabled", True)
    if not isinstance(enabled, bool):
        raise UsageError(f"monitoring.detectors.extra.{name}.enabled={enabled}: must be true or false")
    return enabled


def _check_extra(extra: dict[str, dict[str, Any]], own: set[str], names: tuple[str, ...]) -> None:
    for name in extra:
        key = f"monitoring.detectors.extra.{name}"
        if name in own:
            raise UsageError(f"{key}: this detector has a section of its own", f"Set monitoring.detectors.{name}.KEY")
        if name not in names:
            guess = nearest(name, names)
            raise UsageError(
                f"{key}: there is no such detector; there are: {', '.join(names)}",
                f"Did you mean '{guess}'?" if guess else "Is the package installed that brings it?",
            )
