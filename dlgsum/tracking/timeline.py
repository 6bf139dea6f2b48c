"""When a run ran, put together from the rows of its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dlgsum.core.lenient import moment, read_object
from dlgsum.tracking.progress import NAME
from dlgsum.tracking.run import RunFolder

_LONGEST = 2**20  # bytes of a row that are taken, and of a file's end that are looked at
_CLOSE = 60.0  # seconds between what a file says of its time and its date, where it was not copied


@dataclass(frozen=True)
class Timeline:
    """Times in seconds since 1970; None where nothing tells.

    Attributes:
        started: the first start.
        last: the last sign of life.
        seconds: all parts together; one that was killed lasted until its last sign of life.
        outcome: status that the last part ended with; empty where it has not.
        open: whether a part began and did not end.
    """

    started: float | None = None
    last: float | None = None
    seconds: float | None = None
    outcome: str = ""
    open: bool = False


def read_timeline(run: RunFolder, last_row: float | None) -> Timeline:
    """Return when the parts of a run began and ended, by the events "start" and "end".

    A part that was killed lasted until what the next start has of ``last_alive``, or else until the event before it.

    Args:
        last_row: time of the last row of ``metrics.jsonl``.
    """
    started = since = last = None
    seconds, outcome = 0.0, ""
    for row in _landmarks(run.events):
        kind, time = row.get("event"), moment(row.get("time"))
        if time is None:
            continue
        if kind == "start":
            if since is not None:  # it was killed
                seconds += max(0.0, (moment(row.get("last_alive")) or last or since) - since)
            started, since, outcome = (time if started is None else started), time, ""
        elif kind == "end" and since is not None:
            seconds += max(0.0, time - since)
            since, outcome = None, str(row.get("status", ""))
        last = time
    if since is not None:
        last = max(filter(None, (last, last_row, _last_beat(run))), default=since)
        seconds += max(0.0, last - since)
    return Timeline(started, last, None if started is None else seconds, outcome, open=since is not None)


def last_alive(run: RunFolder) -> str:
    """Return when a run that did not end gave its last sign of life, in ISO 8601 and UTC, for the next "start".

    Rows of metrics behind the last checkpoint and the date of ``progress.json`` are gone once a run goes on, so that
    it is asked before. Empty where no part is left open.
    """
    found = read_timeline(run, moment(last_metrics(run)[0].get("time")))
    if not found.open or found.last is None:
        return ""
    try:
        return datetime.fromtimestamp(found.last, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return ""


def last_metrics(run: RunFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the last row of ``metrics.jsonl``, and the last with metrics of an evaluation; empty without one.

    Only the last MiB of the file is looked at.
    """
    try:
        with run.metrics.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _LONGEST))
            lines = stream.read(_LONGEST).split(b"\n")
    except OSError:
        return {}, {}
    rows = (row for line in reversed(lines) if (row := _object(line)))
    scored = (row for line in reversed(lines) if b'"eval/' in line and (row := _object(line)))
    return next(rows, {}), next(scored, {})


def _landmarks(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the starts and ends of a run, the row before each start, and the last row: the others tell no times.

    Events can be many, and most of them are messages of the log, so that only these are parsed.
    """
    before = b""
    try:
        with path.open("rb") as stream:
            for line in iter(partial(stream.readline, _LONGEST), b""):
                start = b'"event": "start"' in line
                if start or b'"event": "end"' in line:
                    yield from (_object(before), _object(line)) if start else (_object(line),)
                    before = b""
                # A torn row has no time, and a status is said by others, of a run that may be gone for long.
                elif line.endswith(b"}\n") and b'"event": "status"' not in line:
                    before = line
    except OSError:
        pass
    yield _object(before)


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _last_beat(run: RunFolder) -> float | None:
    """Return when ``progress.json`` was written; None where files of this folder have the dates of a copy."""
    try:
        status = run.path / "status.json"
        written = moment((read_object(status) or {}).get("time"))
        if written is None or abs(status.stat().st_mtime - written) > _CLOSE:
            return None
        return (run.path / NAME).stat().st_mtime
    except OSError:
        return None
