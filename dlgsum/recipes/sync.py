"""Bring runs to W&B that it does not have: files of its own where they hold all, the local record where they do not."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.errors import ConfigError, DlgsumError, EnvironmentProblem
from dlgsum.core.files import read_jsonl
from dlgsum.core.lenient import read_object, whole
from dlgsum.core.text import plural
from dlgsum.recipes.resume import find_folder
from dlgsum.recipes.stored import find_place
from dlgsum.tracking.liveness import Holder
from dlgsum.tracking.progress import NAME as PROGRESS
from dlgsum.tracking.run import RunFolder, list_runs

if TYPE_CHECKING:
    from dlgsum.tracking.wandb_file import OfflineRun

logger = logging.getLogger(__name__)

Action = Literal["upload", "rebuild", "nothing", "left out"]
_RECENT = 3600.0  # seconds since its last report for which a run of another machine is taken to run
_PLACES = ("WANDB_PROJECT", "WANDB_ENTITY")


@dataclass(frozen=True)
class Plan:
    """What is to be done about one run.

    Attributes:
        action: ``upload`` W&B's own files, ``rebuild`` a run of W&B from the local record, ``nothing`` where W&B has
            all of it, ``left out`` where it is not wanted, or not over.
        reason: why, in words.
        rows: rows of ``metrics.jsonl``.
        last: time of the last of them.
        known: how many of the first rows a rebuild need not send, since W&B has them.
        files: W&B's own files, oldest first; a resumed run has several.
    """

    run: RunFolder
    config: Config
    action: Action
    reason: str
    rows: int = 0
    last: float = 0.0
    known: int = 0
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Synced:
    """What became of one run.

    Attributes:
        done: ``uploaded``, ``rebuilt``, ``nothing``, ``left out``, ``failed``, or the action that a dry run would take.
        url: the run's page; None where there is none.
    """

    run: str
    done: str
    reason: str
    rows: int
    url: str | None = None


def sync(
    names: Sequence[str],
    request: Request,
    *,
    again: bool = False,
    force: bool = False,
    dry_run: bool = False,
    mode: Literal["online", "offline"] = "online",
    progress: Callable[[int, int], None] = lambda done, total: None,
    tell: Callable[[Synced], None] = lambda synced: None,
) -> list[Synced]:
    """Bring runs to W&B; one that fails does not hold up the others.

    Args:
        names: as ``resume.find_folder`` takes them; none means every run of the output folder.
        again: also runs that W&B has already.
        force: also runs whose configuration does not want W&B.
        mode: "offline" rebuilds every run into files of W&B's, and uploads nothing.
        progress: told the rows that were sent, of all of the run.
        tell: told of each run as soon as it is done.

    Raises:
        UsageError: a name fits no run.
        EnvironmentProblem: there is no key, or the server cannot be reached.
    """
    folders = [find_folder(name, request) for name in names]
    if not names:
        folders = list_runs(find_place(request).output_dir)
    plans = [plan(run, request, again=again, force=force) for run in dict.fromkeys(folders)]
    if mode == "offline":
        plans = [dataclasses.replace(p, action="rebuild") if p.action == "upload" else p for p in plans]
    waiting = [p for p in plans if p.action in ("upload", "rebuild")]
    if waiting and not dry_run and mode == "online":
        _check_server()
    found = []
    for each in plans:
        if dry_run or each not in waiting:
            synced = Synced(each.run.id, each.action, each.reason, each.rows)
        else:
            synced = _bring(each, mode, progress)
        tell(synced)
        found.append(synced)
    return found


def plan(run: RunFolder, request: Request, *, again: bool = False, force: bool = False) -> Plan:
    """Decide what is to be done about a run; nothing is sent or written."""
    from dlgsum.tracking.trackers.wandb import proven_rows, read_mark, recorded

    environ = {key: value for key, value in request.environ.items() if key in _PLACES}
    try:
        config = compose(Request(base=run.config, environ=environ)).config
    except (ConfigError, OSError) as error:
        first = str(error).partition("\n")[0]
        return Plan(run, Config(), "left out", f"its configuration cannot be read ({first})")
    rows, last = recorded(run)
    mark = read_mark(run)
    # Of a run that lacks more than rows, all is sent: a table belongs to a row, and points lie on those that are there.
    known = 0 if again or mark.get("lacks") else proven_rows(run)

    def decided(action: Action, reason: str, files: Sequence[Path] = ()) -> Plan:
        return Plan(run, config, action, reason, rows, last, known, tuple(files))

    if _runs(run):
        return decided("left out", "it is running")
    if config.wandb.mode == "disabled" and not force:
        return decided("left out", "wandb.mode=disabled for it; --force brings it all the same")
    if rows == 0:
        return decided("left out", "it has no metrics")
    if mark.get("lacks"):
        return decided("rebuild", f"W&B did not take {', '.join(mark['lacks'])}")
    if (mark.get("rows"), mark.get("last")) == (rows, last) and not again:
        return decided("nothing", f"W&B has all {plural(rows, 'row')} ({mark.get('how')})")
    files = own_files(run)
    problem = _lacking(run, config, files)
    waiting = [path for path in files if not path.with_suffix(".wandb.synced").exists()]
    if problem or (again and not waiting) or mark.get("how") not in (None, "uploaded"):
        return decided("rebuild", problem or "part of it was brought before", files)
    if not waiting:
        return decided("nothing", "W&B's own files were uploaded by its own command", files)
    return decided("upload", f"W&B's own file holds all {plural(rows, 'row')}", files)


def own_files(run: RunFolder) -> list[Path]:
    """Return the files that W&B keeps of a run, oldest first."""
    return sorted(run.path.glob("wandb/*run-*/*.wandb"), key=lambda path: path.parent.name.partition("run-")[2])


def _lacking(run: RunFolder, config: Config, files: Sequence[Path]) -> str:
    """Say why W&B's own files do not hold a run; empty where they hold all of it."""
    from dlgsum.tracking.wandb_file import read_offline

    if not files:
        return "W&B has no file of it on this machine"
    read: list[OfflineRun] = []
    for path in files:
        try:
            read.append(read_offline(path))
        except OSError as error:
            return f"{path.name} cannot be read: {error.strerror}"
    for each in read:
        if each.problem:
            return f"W&B's own file is incomplete: {each.problem}"
    if any(each.id != run.id for each in read):
        return "W&B's own file is of another run"
    missing = missing_rows(run, [row for each in read for row in each.history])
    if missing:
        return f"W&B's own file lacks {plural(missing, 'row')}"
    if not read[-1].complete:
        return "W&B's own file lacks the end of the run"
    besides = _missing_besides(run, config, read)
    if besides:
        return f"W&B's own file lacks {besides}"
    gone = [path for each in read for path in each.missing_files]
    return f"a file that W&B would upload is gone: {gone[0]}" if gone else ""


def _missing_besides(run: RunFolder, config: Config, read: Sequence[OfflineRun]) -> str:
    """Name what a complete run shows besides metrics and W&B's files lack; empty where there is nothing.

    W&B asks its server about tables and models before it writes them down, so that they are lost where it is silent.
    """
    from dlgsum.recipes.sync_rebuild import tables
    from dlgsum.tracking.wandb_session import STEP

    if run.state != "completed":
        return ""
    wanted = config.wandb.log_model and run.best_model.is_dir()
    if wanted and not any(artifact.type == "model" for each in read for artifact in each.artifacts):
        return "the model"
    shown = {(row.get(STEP), name) for each in read for row in each.history for name in row}
    for name, step in sorted(tables(run)) if config.tracking.samples else []:
        told = any(key == step and metric.startswith(f"{name}/") for key, metric in shown)
        if told and (step, f"{name}/samples") not in shown:
            return f"the samples of {name} at step {step}"
    return ""


def missing_rows(run: RunFolder, history: Sequence[Mapping[str, Any]]) -> int:
    """Return how many rows of ``metrics.jsonl`` have a metric that W&B's rows lack at that step."""
    from dlgsum.tracking.wandb_session import STEP

    there = Counter((row.get(STEP), name) for row in history for name in row)
    missing = 0
    for row in read_jsonl(run.metrics):
        keys = [(row.get("step"), name) for name in row.get("metrics", {})]
        missing += any(there[key] <= 0 for key in keys)
        there.subtract(keys)
    return missing


def _runs(run: RunFolder) -> bool:
    """Say whether a run goes on; on another machine, whether it said so within the last hour."""
    if run.state != "running":
        return False
    alive = Holder(run).alive(whole((read_object(run.path / "status.json") or {}).get("pid")))
    if alive is not None:
        return alive
    try:
        return time.time() - (run.path / PROGRESS).stat().st_mtime < _RECENT
    except OSError:
        return False


def _check_server() -> None:
    import wandb

    from dlgsum.core.network import ask
    from dlgsum.tracking.wandb_session import check_key

    check_key()
    status, learnt = ask(wandb.setup().settings.base_url, 10.0)
    if status is None:
        raise EnvironmentProblem(
            f"W&B cannot be reached: {learnt}",
            "Is this machine on the network? WANDB_BASE_URL names a server of your own. Nothing is lost: try again.",
        )


def _bring(planned: Plan, mode: Literal["online", "offline"], progress: Callable[[int, int], None]) -> Synced:
    """Do what was planned, and record what W&B now has."""
    from dlgsum.recipes import sync_rebuild, sync_upload
    from dlgsum.tracking.trackers.wandb import write_mark

    run, rows = planned.run, planned.rows
    try:
        if planned.action == "upload":
            where = sync_upload.upload(run, planned.files, planned.config)
        else:
            where = sync_rebuild.rebuild(run, planned.config, mode=mode, known=planned.known, progress=progress)
        done = "uploaded" if planned.action == "upload" else "rebuilt"
        if mode == "online":
            write_mark(run, where, rows=rows, last=planned.last, how=done)
    except DlgsumError as error:
        return Synced(run.id, "failed", error.message, rows)
    except Exception as error:  # W&B raises many kinds; the next run may work
        logger.debug("%s was not brought to W&B", run.id, exc_info=True)
        return Synced(run.id, "failed", str(error) or type(error).__name__, rows)
    return Synced(run.id, done, planned.reason, rows, where.url)
