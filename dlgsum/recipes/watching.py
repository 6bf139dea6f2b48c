"""Who learns of trouble: the log, the events, the alerts; and the report of a step that is not finite."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dlgsum.config.schema import Config
from dlgsum.monitoring.alerts import Alerts
from dlgsum.monitoring.detector import build_detectors
from dlgsum.monitoring.finding import Finding, Recovery
from dlgsum.monitoring.watch import Watch
from dlgsum.tracking.run import RunFolder

if TYPE_CHECKING:
    from dlgsum.training.trainer import SummarizationTrainer

logger = logging.getLogger(__name__)

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def build_watch(config: Config, run: RunFolder, alerts: Alerts, *, first: bool) -> Watch:
    """Return the detectors, which tell the log, the run's events and the alerts; only the first process has any."""

    def found(finding: Finding) -> None:
        todo = f" → {finding.advice[0]}" if finding.advice else ""
        level = _LEVELS[finding.severity]
        logger.log(level, "step %d: %s%s", finding.step, finding.message, todo, extra={"event": True})
        report = run.nan_reports / f"step-{finding.step}"
        links = {"nan_report": str(report)} if finding.kind == "non_finite" and report.is_dir() else {}
        run.event("finding", level=finding.severity, message=finding.message, finding=asdict(finding))
        alerts.finding(finding, **links)

    def recovered(recovery: Recovery) -> None:
        logger.info("step %d: %s has passed", recovery.step, recovery.kind, extra={"event": True})
        run.event("recovery", recovery=asdict(recovery))
        alerts.recovery(recovery)

    watched = first and config.monitoring.enabled
    detectors = build_detectors(config.monitoring.detectors) if watched else []
    return Watch(detectors, on_finding=found, on_recovery=recovered)


def tell_event(run: RunFolder, alerts: Alerts, kind: str, **details: Any) -> None:
    """Write an event of the trainer down, and alert where it is trouble that no detector sees."""
    run.event(kind, **details)
    if kind == "out_of_memory":
        alerts.send(
            kind,
            "warning",
            f"Out of memory at step {details['step']}",
            f"{details['again'].capitalize()} with {details['rows']} rows at a time; the effective batch stays.",
            **details,
        )


def nan_reporter(trainer: SummarizationTrainer, run: RunFolder, config: Config) -> Callable[[], str]:
    """Return what writes the report of the first step that is not finite, and says in a sentence what it found."""

    def report() -> str:
        if not config.monitoring.nan_report:
            return ""
        if not said:
            said.append(first_report())
        return said[0]

    def first_report() -> str:
        rank = trainer.args.process_index
        mine = trainer.this_step.local_loss_is_finite()
        if rank and mine:
            return ""  # the first process reports for those that have nothing of their own to show
        step = trainer.state.global_step + 1
        try:
            from dlgsum.monitoring.nan_report import write_report
            from dlgsum.training.bad_step import bad_step
            from dlgsum.training.loss import SummaryLoss

            written = write_report(
                run.nan_reports / (f"step-{step}" if rank == 0 else f"step-{step}-rank-{rank}"),
                trainer.generator.model,
                bad_step(trainer),
                loss=SummaryLoss(config.training.label_smoothing_factor),
                weights=not trainer.shared_out,
                rerun=trainer.args.world_size == 1,
            )
        except Exception as error:  # the report explains trouble; it must not make any
            logger.warning("the step that is not finite could not be reported (%s)", error, exc_info=True)
            return ""
        run.event("nan_report", step=step, folder=str(written.folder), what=written.what)
        if written.folder is None:
            return written.what
        logger.error("step %d: %s The report is in %s", step, written.what, written.folder, extra={"event": True})
        return f"{written.what} The report is in {written.folder}; `dlgsum debug-nan {run.id}` does the step again."

    said: list[str] = []
    return report
