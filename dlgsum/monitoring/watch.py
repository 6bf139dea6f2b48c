"""Turn the findings of all detectors into episodes: one message when trouble begins, one when it has passed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import SEVERITIES, Finding, Recovery, Severity
from dlgsum.monitoring.readings import EvaluationReading, StepReading

logger = logging.getLogger(__name__)


@dataclass
class _Episode:
    """Trouble that has not passed yet; ``quiet``: judged readings without it since."""

    severity: Severity
    first_step: int
    last_step: int
    count: int = 1
    quiet: int = 0


class Watch:
    """Asks every detector about every reading.

    A detector that raises is left out from then on, with one warning; training goes on.

    Args:
        on_finding: called when trouble begins, and again when it becomes more severe; not for repeats.
        on_recovery: called after a detector's ``quiet`` judged readings without a finding.

    Attributes:
        counts: in how many readings each kind was found; ``monitor/total_anomalies`` is their sum.
        episodes: how often each kind began.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        *,
        on_finding: Callable[[Finding], None],
        on_recovery: Callable[[Recovery], None],
    ) -> None:
        self._detectors = list(detectors)
        self._on_finding, self._on_recovery = on_finding, on_recovery
        self._open: dict[str, _Episode] = {}
        self.counts: Counter[str] = Counter()
        self.episodes: Counter[str] = Counter()

    def step(self, reading: StepReading) -> None:
        """Judge one optimizer step."""
        for detector in tuple(self._detectors):
            try:
                finding = detector.step(reading)
                quiet = finding is None and detector.name in self._open and detector.judges(reading)
            except Exception as error:
                self._drop(detector, error)
                continue
            self._tell(detector, finding, reading, quiet)

    def evaluation(self, reading: EvaluationReading) -> None:
        """Judge one evaluation."""
        for detector in tuple(self._detectors):
            try:
                finding = detector.evaluation(reading)
                quiet = finding is None and detector.name in self._open and detector.judges(reading)
            except Exception as error:
                self._drop(detector, error)
                continue
            self._tell(detector, finding, reading, quiet)

    def metrics(self) -> dict[str, float]:
        """Return the current values of all detectors, and ``monitor/total_anomalies``."""
        values: dict[str, float] = {}
        for detector in tuple(self._detectors):
            try:
                values.update(detector.metrics())
            except Exception as error:
                self._drop(detector, error)
        return values | {"monitor/total_anomalies": float(self.counts.total())}

    def _tell(
        self, detector: Detector, finding: Finding | None, reading: StepReading | EvaluationReading, quiet: bool
    ) -> None:
        try:
            if finding is not None:
                self._found(detector.name, finding)
            elif quiet:
                self._passed(detector, reading.step)
        except Exception as error:  # whoever is told has trouble of his own: no reason to stop
            logger.warning("what %s found could not be told: %r", detector.name, error)

    def _found(self, kind: str, finding: Finding) -> None:
        self.counts[kind] += 1
        episode = self._open.get(kind)
        if episode is None:
            self.episodes[kind] += 1
            self._open[kind] = _Episode(finding.severity, finding.step, finding.step)
            self._on_finding(finding)
            return
        episode.last_step, episode.quiet = finding.step, 0
        episode.count += 1
        if SEVERITIES.index(finding.severity) > SEVERITIES.index(episode.severity):
            episode.severity = finding.severity
            self._on_finding(finding)

    def _passed(self, detector: Detector, step: int) -> None:
        episode = self._open[detector.name]
        episode.quiet += 1
        if episode.quiet < detector.quiet:
            return
        del self._open[detector.name]
        self._on_recovery(
            Recovery(
                kind=detector.name, step=step, first_step=episode.first_step, last_step=episode.last_step,
                count=episode.count,
            )
        )  # fmt: skip

    def _drop(self, detector: Detector, error: Exception) -> None:
        self._detectors.remove(detector)
        self._open.pop(detector.name, None)
        logger.warning("The detector %s failed and watches no longer: %r", detector.name, error)

    def state(self) -> dict[str, Any]:
        """Return the state of the detectors, the open episodes and the counts, as strict JSON."""
        states: dict[str, Any] = {}
        for detector in tuple(self._detectors):
            try:
                states[detector.name] = detector.state()
            except Exception as error:
                self._drop(detector, error)
        return {
            "detectors": states,
            "open": {kind: asdict(episode) for kind, episode in self._open.items()},
            "counts": dict(self.counts),
            "episodes": dict(self.episodes),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from an earlier ``state``.

        What belongs to a detector that is not there any more is ignored, and a detector without a state starts anew:
        settings may change between the parts of a run. So does one that cannot read its state, with a warning.
        """
        states = state["detectors"]
        for place, detector in enumerate(self._detectors):
            if detector.name not in states:
                continue
            try:
                detector.restore(states[detector.name])
            except Exception as error:
                logger.warning(
                    "The detector %s starts anew, its earlier state cannot be read: %r", detector.name, error
                )
                self._detectors[place] = type(detector)(detector.options)
        known = {detector.name for detector in self._detectors}
        self._open = {kind: _Episode(**episode) for kind, episode in state["open"].items() if kind in known}
        self.counts = Counter(state["counts"])
        self.episodes = Counter(state["episodes"])
