"""What a run says when it begins, ends, fails, is stopped or is started again."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dlgsum.core.errors import DlgsumError, Interrupted
from dlgsum.core.text import duration, plural
from dlgsum.recipes.failures import has_checkpoint, resume_command

if TYPE_CHECKING:
    from dlgsum.config.schema import Config
    from dlgsum.monitoring.alerts import Alerts
    from dlgsum.recipes.result import TrainingResult
    from dlgsum.tracking.run import RunFolder

_SCORES = ("rouge_combined_f1", "rouge1_f1", "rouge2_f1", "rougeL_f1", "loss")


def source_of(config: Config, run: RunFolder) -> str:
    """Return the name under which a run is spoken of: that of its experiment, and its own."""
    return f"{config.meta.experiment_name} {run.id}"


def started(
    alerts: Alerts, run: RunFolder, config: Config, *, model: str, rows: str, processes: int = 1, step: int = 0
) -> None:
    """Tell that a run begins, or goes on after ``step``.

    Args:
        model: what is trained; ``rows``: on what, in words.
    """
    title = f"goes on after step {step}" if step else "started"
    lines = [f"Model: {model}", f"Data: {rows}", f"Best model by: {config.metrics.best}"]
    if processes > 1:
        lines.append(f"Processes: {processes}")
    lines.append(f"Follow it: dlgsum watch {run.id}")
    alerts.send("start", "info", title, "\n".join(lines), lifecycle=True, step=step or None, processes=processes)


def completed(alerts: Alerts, run: RunFolder, result: TrainingResult, findings: Mapping[str, int]) -> None:
    """Tell that a run is complete, with its scores beside the baseline's.

    Args:
        findings: how often each kind of trouble was found.
    """
    main = next((name for name in _SCORES if name in result.best_metrics), "")
    title = "complete" + (f", {main} {result.best_metrics[main]:.4f}" if main else "")
    early = ", stopped early" if result.stopped_early else ""
    lines = [f"{plural(result.steps, 'step')}, {result.epochs:.4g} epochs in {duration(result.seconds)}{early}"]
    lines += _scores(f"Validation, step {result.best_step}", result.best_metrics, result.baseline_metrics)
    lines += _scores("Test", result.test_metrics, result.test_baseline_metrics)
    lines += [_trouble(findings), f"Model: {result.model_path}", f"Look at it: dlgsum evaluate {run.id}"]
    numbers = {name: value for name, value in result.best_metrics.items() if name in _SCORES}
    alerts.send("complete", "info", title, "\n".join(lines), lifecycle=True, step=result.steps,
                seconds=result.seconds, **numbers)  # fmt: skip


def ended(
    alerts: Alerts,
    run: RunFolder,
    error: BaseException,
    *,
    seconds: float | None = None,
    step: int | None = None,
    best: Mapping[str, float] | None = None,
    processes: int = 1,
) -> None:
    """Tell that a run failed, or was stopped, and how to go on.

    Args:
        seconds: how long it ran; ``step``: how far it came; ``best``: metrics of the best model so far.
    """
    stopped = isinstance(error, (KeyboardInterrupt, Interrupted))
    at = "" if step is None else f" at step {step}"
    title = f"{'was stopped' if stopped else 'failed'}{at}"
    lines = [_reason(error)]
    if seconds is not None:
        lines.append(f"It ran for {duration(seconds)}.")
    lines += _scores("Best model so far", best or {}, {})
    if has_checkpoint(run):
        lines.append(f"Go on with: {resume_command(run, processes)}")
    else:
        lines.append("Nothing was saved to go on from.")
    lines.append(f"Log: {run.log}")
    kind, severity = ("interrupted", "warning") if stopped else ("failed", "error")
    alerts.send(kind, severity, title, "\n".join(lines), lifecycle=True, step=step, seconds=seconds)  # type: ignore[arg-type]


def relaunched(alerts: Alerts, run: RunFolder, *, attempt: int, reason: str, pause: float, processes: int) -> None:
    """Tell that all processes are started again.

    Args:
        attempt: the number of the attempt that begins; ``pause``: seconds before it.
    """
    lines = [
        f"{reason.rstrip('.')}. All {processes} processes are started again in {duration(pause)}, from the newest "
        f"valid checkpoint.",
        f"What they said: {run.log} and {run.path / 'logs'}",
    ]
    title = f"processes started again (attempt {attempt})"
    alerts.send("relaunched", "warning", title, "\n".join(lines), lifecycle=True, attempt=attempt, reason=reason)


def _scores(of: str, metrics: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    """Return a line of scores, each with the lead baseline's behind it where there is one; none without scores."""
    parts = [
        f"{name} {metrics[name]:.4f}" + (f" (lead baseline {baseline[name]:.4f})" if name in baseline else "")
        for name in _SCORES
        if name in metrics
    ]
    return [f"{of}: {', '.join(parts)}"] if parts else []


def _trouble(findings: Mapping[str, int]) -> str:
    told = ", ".join(f"{kind.replace('_', ' ')} ({count})" for kind, count in findings.items() if count)
    return f"Found on the way: {told}" if told else "No trouble was found on the way."


def _reason(error: BaseException) -> str:
    if isinstance(error, DlgsumError):
        return error.message
    if isinstance(error, KeyboardInterrupt):
        number = error.args[0] if error.args and isinstance(error.args[0], int) else int(signal.SIGINT)
        return f"Interrupted ({signal.Signals(number).name})."
    return f"{type(error).__name__}: {error}"
