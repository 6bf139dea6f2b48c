"""Bring the index in step with the run folders."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.masking import masked
from dlgsum.tracking.record import read_record
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.store import rows
from dlgsum.tracking.store.problems import BrokenDatabase
from dlgsum.tracking.store.rows import TABLE
from dlgsum.tracking.store.tables import Experiment

Progress = Callable[[int, int], None] | None

# The files whose changes change a row, apart from those that a running run writes all the time.
_FILES = (
    "status.json", "training_results.json", "annotations.json", "parent.json", "config.yaml",
    "models/best_model/metrics.json",
)  # fmt: skip
_BATCH = 200  # rows written at once: others get their turn in between, and what was read stays when it is interrupted
_UNREADABLE = -1


@dataclass(frozen=True)
class Synced:
    """What bringing the index in step with the folders has changed: ids of runs, and notes for people."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Sessions(Protocol):
    """``Store.session``."""

    def __call__(self, *, write: bool = ...) -> AbstractContextManager[Session]:
        """Give a session."""


def stamp_of(folder: Path) -> int:
    """Return when the files of a run were last changed, in nanoseconds; 0 where there is no run, -1 where nobody may
    look."""
    newest = 0
    try:
        for name in _FILES:
            try:
                newest = max(newest, os.stat(f"{folder}/{name}").st_mtime_ns)  # noqa: PTH116 - ten thousands of them
            except (FileNotFoundError, NotADirectoryError):
                continue
    except OSError:
        return _UNREADABLE
    return newest


@dataclass(frozen=True)
class Seen:
    """The run folders of an output folder: their stamps by id, what cannot be looked at, and whether that is all."""

    stamps: dict[str, int]
    notes: list[str] = field(default_factory=list)
    complete: bool = True


def look(output_dir: Path) -> Seen:
    """Return the run folders of an output folder; an absent one has none."""
    root, found = output_dir / "experiments", {}
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and (stamp := stamp_of(root / entry.name)):
                    found[entry.name] = stamp
    except (FileNotFoundError, NotADirectoryError):
        return Seen({})
    except OSError as error:
        return Seen(found, [f"{root} cannot be read: {error.strerror}"], complete=False)
    closed = sorted(name for name, stamp in found.items() if stamp == _UNREADABLE)
    return Seen(found, [f"{root / name} cannot be read by this user" for name in closed])


def names(output_dir: Path) -> set[str]:
    """Return the names of all folders in which runs lie; a quick look."""
    try:
        return {entry.name for entry in os.scandir(output_dir / "experiments")}
    except OSError:
        return set()


def sync(session: Sessions, home: Path, on_progress: Progress) -> Synced:
    """See ``Store.sync``."""
    seen, known = look(home), _known(session)
    to_read, to_move = [], []
    for name, stamp in sorted(seen.stamps.items()):
        row, folder = known.get(name), home / "experiments" / name
        if stamp == _UNREADABLE:
            continue
        if row is None or row.is_out_of_date(folder, stamp):
            to_read.append((name, stamp))
        elif row.has_moved_to(folder, stamp):
            to_move.append(row)
    done = Synced(notes=seen.notes)
    _read(session, home, to_read, known, done, on_progress)
    _move(session, home, to_move)
    gone = [name for name in _gone(known, seen, home) if not known[name].missing]
    _set(session, [{"id": name, "missing": True} for name in gone])
    done.missing.extend(gone)
    return done


def reindex(session: Sessions, home: Path, on_progress: Progress) -> Synced:
    """See ``Store.reindex``."""
    seen, known = look(home), _known(session)
    to_read = [(name, stamp) for name, stamp in sorted(seen.stamps.items()) if stamp != _UNREADABLE]
    done = Synced(notes=seen.notes)
    _read(session, home, to_read, known, done, on_progress)
    gone = _gone(known, seen, home)
    for start in range(0, len(gone), _BATCH):
        with session() as writing:
            writing.execute(delete(TABLE).where(TABLE.c.id.in_(gone[start : start + _BATCH])))
    done.missing.extend(gone)
    return done


@dataclass(frozen=True)
class _Known:
    """What a row says of where and when its folder was read."""

    id: str
    folder: str
    output_dir: str
    model_path: str | None
    status: str
    reason: str
    stamp: int
    missing: bool
    recorded_on: str

    @property
    def here(self) -> bool:
        """Whether the folder was read on this machine, so that its path means the same."""
        return self.recorded_on == socket.gethostname()

    def is_out_of_date(self, folder: Path, stamp: int) -> bool:
        """Say whether the folder has to be read, which may be a copy of the one that was."""
        # A run that is lost for a reason only fell silent, and may speak again.
        goes_on = self.status == "running" or (self.status == "lost" and self.reason)
        if self.missing or (goes_on and stamp == self.stamp):
            return True
        if self.here and self.folder == str(folder):
            return stamp != self.stamp
        return stamp > self.stamp  # an older copy must not replace what is known of the run itself

    def has_moved_to(self, folder: Path, stamp: int) -> bool:
        """Say whether the folder is the one that was read, under a new name, or seen from another machine."""
        if (self.here and self.folder == str(folder)) or stamp != self.stamp:
            return False
        return self.folder == str(folder) or stamp_of(Path(self.folder)) == 0


def _known(session: Sessions) -> dict[str, _Known]:
    columns = [TABLE.c[column.name] for column in fields(_Known)]
    with session(write=False) as reading:
        return {row.id: _Known(*row) for row in reading.execute(select(*columns))}


def _gone(known: dict[str, _Known], seen: Seen, home: Path) -> list[str]:
    if not seen.complete:
        return []
    own = [row for row in known.values() if row.here and row.output_dir == str(home)]
    return sorted(row.id for row in own if row.id not in seen.stamps)


def _read(
    session: Sessions, home: Path, wanted: list[tuple[str, int]], known: dict[str, _Known], done: Synced,
    on_progress: Progress,
) -> None:  # fmt: skip
    for start in range(0, len(wanted), _BATCH):
        batch: list[dict[str, Any]] = []
        for number, (name, stamp) in enumerate(wanted[start : start + _BATCH], start + 1):
            try:
                batch.append(rows.row_of(read_record(RunFolder(home / "experiments" / name)), stamp))
            except Exception as error:  # whatever lies in one folder, the others are found
                done.notes.append(masked(f"{home / 'experiments' / name} cannot be read: {error}"))
            if on_progress is not None:
                on_progress(number, len(wanted))
        for row in _written(session, batch, done):
            (done.updated if row["id"] in known else done.added).append(row["id"])


def _written(session: Sessions, batch: list[dict[str, Any]], done: Synced) -> list[dict[str, Any]]:
    """Write rows and return them; those that the database refuses are noted instead."""
    try:
        with session() as writing:
            rows.upsert(writing, batch)
        return batch
    except Exception as error:
        cause = error.__cause__ if isinstance(error, EnvironmentProblem) else error
        if isinstance(error, BrokenDatabase) or isinstance(cause, (OSError, OperationalError, type(None))):
            raise
        if len(batch) > 1:
            return [row for one in batch for row in _written(session, [one], done)]
        done.notes.append(masked(f"{batch[0]['folder']} does not fit into the index: {cause}"))
        return []


def _move(session: Sessions, home: Path, moved: list[_Known]) -> None:
    folder = home / "experiments"
    _set(session, [
        {
            "id": row.id, "folder": str(folder / row.id), "output_dir": str(home), "recorded_on": socket.gethostname(),
            "model_path": row.model_path and str(folder / row.id / "models" / "best_model"),
        } for row in moved
    ])  # fmt: skip


def _set(session: Sessions, changes: list[dict[str, Any]]) -> None:
    """Change columns of rows, which are named by their ids."""
    if changes:
        with session() as writing:
            writing.execute(update(Experiment), changes)
