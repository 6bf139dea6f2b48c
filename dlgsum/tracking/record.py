"""What is known of one experiment, read from its run folder: the row of the index, and what people are shown."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from dlgsum.core.lenient import moment, read_object, whole
from dlgsum.core.text import duration, plural
from dlgsum.tracking.liveness import Holder
from dlgsum.tracking.lock import is_held
from dlgsum.tracking.progress import NAME
from dlgsum.tracking.record_parts import described, environment_parts, fitting, metrics, read_config, splits, text
from dlgsum.tracking.run import RunFolder, Status
from dlgsum.tracking.timeline import Timeline, last_metrics, read_timeline

_YOUNG = 3600.0  # seconds for which a folder without any status counts as one of a run that is about to begin
_QUIET = 3600.0  # seconds of silence after which a lock that nobody holds tells: some file systems keep locks local
_SILENT = 86400.0  # seconds of silence after which a run counts as lost where nothing else tells


@dataclass(frozen=True, kw_only=True)
class ExperimentRecord:
    """One experiment. What is not known is None, or empty; nothing is guessed.

    Attributes:
        id: name of the run folder.
        folder: the run folder, absolute, as seen from the machine that recorded it.
        output_dir: the folder of all results that it lies in, absolute; empty for a run folder elsewhere.
        status: ``lost`` where the folder says running and the process is gone. A process of another machine or
            container cannot be asked for: there a run is lost after an hour without any change of its files if nobody
            holds its folder's lock, and after a day where no lock tells.
        reason: why it failed or was interrupted, or how long a lost run that cannot be asked for has been silent.
        started: in UTC.
        ended: in UTC; None while it runs. Of a lost run, its last sign of life.
        seconds: time in which it ran, all parts of a resumed run together; a part that was killed counts until its
            last sign of life.
        config: the resolved configuration, without secrets.
        config_hash: equal for two runs that were asked to learn the same thing.
        hardware: gpus, cpu_count, platform.
        versions: of dlgsum, python and the packages that matter.
        data: fingerprint of each split's rows, by the split's name.
        rows: number of rows of each split.
        parent: id of the run, sweep or checkpoint that it came from.
        parent_kind: rerun, checkpoint, sweep or fold; empty without a parent.
        best_metrics: validation metrics of the best model so far, under names such as rouge_combined_f1.
        final_metrics: those of the last evaluation, under the same names.
        test_metrics: those of the best model on the test rows.
        signature: how ``best_metrics`` were computed; only scores of one signature may be compared.
        validation_fingerprint: the rows that they were computed on.
        model_path: the best model's folder, absolute; None where there is none.
        wandb_run_id: the run of W&B that mirrors it; None where W&B was disabled.
        missing: whether the folder was not there when it was last looked for.
    """

    id: str
    folder: str
    output_dir: str = ""
    name: str = ""
    description: str = ""
    status: Status = "running"
    reason: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    seconds: float | None = None
    config: dict[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    seed: int | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    command: str = ""
    host: str = ""
    hardware: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    parent: str | None = None
    parent_kind: str = ""
    tags: list[str] = field(default_factory=list)
    notes: str = ""
    best_metrics: dict[str, float] = field(default_factory=dict)
    final_metrics: dict[str, float] = field(default_factory=dict)
    test_metrics: dict[str, float] = field(default_factory=dict)
    signature: str = ""
    test_signature: str = ""
    validation_fingerprint: str = ""
    best_step: int | None = None
    steps: int | None = None
    total_steps: int | None = None
    model_path: str | None = None
    wandb_run_id: str | None = None
    missing: bool = False


def read_record(run: RunFolder) -> ExperimentRecord:
    """Return what the files of a run folder say; what is absent, torn, unreadable or foreign is left out.

    Nothing is raised. A folder without a readable status counts by its results, its last event and its age.
    """
    environment, progress, results, best = (
        read_object(path) or {}
        for path in (
            run.path / "environment.json", run.path / NAME, run.results, run.best_model / "metrics.json",
        )
    )  # fmt: skip
    config = read_config(run.config)
    last_row, last_scored = last_metrics(run)
    timeline = read_timeline(run, moment(last_row.get("time")))
    state, status = _state(run, _status(run), results, timeline)
    if best and state != "completed":
        results = {}  # of an earlier part: the run has gone on since
    data = splits(read_object(run.path / "data.json") or {})
    path = _absolute(run.path)
    return ExperimentRecord(
        id=path.name,
        folder=str(path),
        output_dir=str(path.parent.parent) if path.parent.name == "experiments" else "",
        status=state,
        reason=text(status.get("reason")),
        started=_utc(moment(status.get("started"))) or _utc(timeline.started) or _named_time(path.name),
        ended=_ended(state, status, timeline),
        seconds=timeline.seconds,
        host=text(environment.get("host")) or text(status.get("host")),
        data={name: split["fingerprint"] for name, split in data.items() if text(split.get("fingerprint"))},
        rows={name: rows for name, split in data.items() if (rows := fitting(split.get("rows"))) is not None},
        best_metrics=metrics(results.get("best_metrics")) or metrics(best.get("metrics")),
        final_metrics=metrics(results.get("final_metrics"), "eval_") or metrics(last_scored.get("metrics"), "eval/"),
        test_metrics=metrics(results.get("test_metrics")),
        signature=text(results.get("signature")) or text(best.get("signature")),
        test_signature=text(results.get("test_signature")),
        validation_fingerprint=text(results.get("validation_fingerprint"))
        or text(data.get("validation", {}).get("fingerprint")),
        best_step=fitting(results.get("best_step") if results else best.get("step")),
        steps=_first(results.get("steps"), progress.get("step"), last_row.get("step")),
        total_steps=fitting(progress.get("total")),
        model_path=str(path / "models" / "best_model") if os.path.isdir(run.best_model) else None,  # noqa: PTH112
        **described(run, config),
        **environment_parts(environment),
    )


def _state(
    run: RunFolder, status: dict[str, Any], results: dict[str, Any], timeline: Timeline
) -> tuple[Status, dict[str, Any]]:
    """Return the state of a run, and the content of its status at that time."""
    said = status.get("status")
    if said == "running":
        alive = Holder(run).alive(whole(status.get("pid")))
        silence = _silence(run, status) if alive is None else ""
        if alive is not False and not silence:
            return "running", status
        again = _status(run)  # it may have ended in order meanwhile
        if again.get("status", said) != said:
            return _state(run, again, results, timeline)
        return "lost", status | ({"reason": silence} if silence else {})
    for known in get_args(Status):
        if known in (said, "" if said else timeline.outcome):
            return known, status
    if results:
        return "completed", status
    alive = Holder(run).alive(None)
    try:
        young = time.time() - run.path.stat().st_mtime < _YOUNG
    except OSError:
        young = False
    return ("running" if alive or (alive is None and young) else "lost"), status


def _silence(run: RunFolder, status: dict[str, Any]) -> str:
    """Return that a run that nobody can ask for has been silent for too long; empty where it has not."""
    changed = []
    for name in (NAME, "metrics.jsonl", "events.jsonl", "status.json"):
        try:
            changed.append(os.stat(run.path / name).st_mtime)  # noqa: PTH116
        except OSError:
            continue
    seconds = time.time() - max(changed, default=time.time())
    if seconds < _QUIET or (held := is_held(run.path)) or (held is None and seconds < _SILENT):
        return ""
    days = int(seconds // 86400)
    how_long = plural(days, "day") if days else duration(seconds)
    return f"silent for {how_long} on {text(status.get('host')) or 'an unknown machine'}"


def _ended(state: Status, status: dict[str, Any], timeline: Timeline) -> datetime | None:
    if state == "running":
        return None
    return (None if state == "lost" else _utc(moment(status.get("time")))) or _utc(timeline.last)


def _status(run: RunFolder) -> dict[str, Any]:
    return read_object(run.path / "status.json") or {}


def _first(*values: Any) -> int | None:
    return next((found for value in values if (found := fitting(value)) is not None), None)


def _absolute(path: Path) -> Path:
    """Return one name for one folder; a run folder that is itself a link keeps the name that it has here."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 - "." and ".." have no name
    return Path(os.path.realpath(path.parent)) / path.name


def _utc(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _named_time(name: str) -> datetime | None:
    """Return the local time that a run folder is named after."""
    try:
        return datetime.strptime(name[:15], "%Y%m%d_%H%M%S").astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
