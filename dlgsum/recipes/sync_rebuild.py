"""Rebuild a run of W&B from the local record."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from dlgsum.config.schema import Config
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import read_json, read_jsonl
from dlgsum.recipes.result import read_result
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.samples import samples_from
from dlgsum.tracking.tracker import Opening
from dlgsum.tracking.trackers.wandb import WandbTracker

_PREDICTIONS = re.compile(r"(eval|test)-step-(\d+)\.jsonl")
_FINISH = 600.0  # seconds for the end: nothing waits behind it here, and a model may have to be uploaded


def rebuild(
    run: RunFolder,
    config: Config,
    *,
    mode: Literal["online", "offline"],
    known: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Any:
    """Write all that the folder knows of a run into the run of W&B with its id, and return that.

    Rows keep the time at which they were recorded. A row that is there already comes twice: its points lie on those
    that are there. Histograms and alerts are not kept locally, so that they cannot be brought back.

    Args:
        known: how many of the first rows W&B has for certain; they are not sent, unless it turns out to have no such
            run any more. Its last step is no proof of the rows before it.

    Raises:
        EnvironmentProblem: W&B cannot be reached, refuses, or did not take all of it.
        TimeoutError: not all was uploaded in ten minutes.
    """
    settings = dataclasses.replace(config.wandb, mode=mode)
    tracking = dataclasses.replace(config.tracking, finish_timeout=_FINISH)
    tracker = WandbTracker.open(Opening(run, dataclasses.replace(config, wandb=settings, tracking=tracking)))
    tracker.marks = False  # whoever called this knows when all of it is there
    where = tracker.where
    if tracker.last_step is None:
        known = 0
    try:
        _replay(tracker, run, config, known, progress)
    except BaseException:
        tracker.finish({}, failed=True)
        raise
    tracker.finish(_summary(run), failed=run.state != "completed")
    if tracker.lacks:
        raise EnvironmentProblem(f"W&B did not take {', '.join(tracker.lacks)} of {run.id}", "Try again.")
    return where


def _replay(
    tracker: WandbTracker, run: RunFolder, config: Config, known: int, progress: Callable[[int, int], None]
) -> None:
    rows = list(read_jsonl(run.metrics))
    left = tables(run)
    shown = config.tracking.samples
    step = 0
    for count, row in enumerate(rows, start=1):
        step = int(row["step"])
        metrics = {name: _number(value) for name, value in row["metrics"].items()}
        if count <= known:
            tracker.pass_over(step, metrics)
        else:
            tracker.log(step, metrics, at=row.get("time"))
            for name in ("eval", "test"):
                if shown and any(key.startswith(f"{name}/") for key in metrics):
                    path = left.pop((name, step), None)
                    if path is not None:
                        tracker.samples(step, name, samples_from(run, path, shown))
        progress(count, len(rows))
    for chart in sorted(run.visualizations.glob("*.png")):
        tracker.image(step, chart.stem, chart)
    best = _best(run)
    path = tables(run).get(("eval", best.get("step", -1)))
    if shown and path is not None:
        tracker.samples(step, "best", samples_from(run, path, shown))
    if run.state == "completed" and run.best_model.is_dir():
        about: dict[str, Any] = {name: best[name] for name in ("metrics", "signature", "step") if name in best}
        tracker.model(int(about.pop("step", step)), run.best_model, about)


def tables(run: RunFolder) -> dict[tuple[str, int], Path]:
    """Return the files of predictions, by what they are of and their step."""
    found = {}
    for path in run.predictions.glob("*-step-*.jsonl"):
        match = _PREDICTIONS.fullmatch(path.name)
        if match:
            found[match[1], int(match[2])] = path
    return found


def _best(run: RunFolder) -> dict[str, Any]:
    """Return step, metrics and signature of the best model; empty where there is none."""
    try:
        return read_json(run.best_model / "metrics.json")
    except (OSError, ValueError):
        return {}


def _summary(run: RunFolder) -> dict[str, Any]:
    result = read_result(run)
    best = result.best_metrics if result else _best(run).get("metrics", {})
    return {"status": run.state or "unknown", **{f"best/{name}": _number(value) for name, value in best.items()}}


def _number(value: Any) -> Any:
    """Return the number that a value of a JSON file stands for; NaN and infinities are words there."""
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value
