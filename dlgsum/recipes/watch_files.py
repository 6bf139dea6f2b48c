"""Read the files of a run that another process is writing: what is new, and never more than that."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dlgsum.core.masking import masked

_CHUNK = 2**20  # bytes read at once, and the longest row that is taken
_NEAR = 2**23  # bytes at the end of a long file whose rows are all read
_MARK = 64  # bytes before the place of reading by which the file is known again
_LOG_END = 2**16  # bytes of a log that are looked at
_WARNING = re.compile(r"\d{4}-\d\d-\d\d \S+ (?:WARNING|ERROR|CRITICAL) \S+: ")


class Tail:
    """The rows of a JSONL file that came since the last look.

    A last row without its newline waits until it is whole. A file that is shorter than before, or has other bytes just
    before the place of reading, was cut or replaced, as a resumed run does; it is read from its beginning again. Lines
    that are no JSON object, or longer than 1 MiB, are passed over.

    Args:
        landmark: of what lies more than 8 MiB before the end, only rows with these bytes are read, so that the first
            look at a run of a million rows is short; None: all rows.
    """

    def __init__(self, path: Path, landmark: bytes | None = None) -> None:
        self.path = path
        self._landmark = landmark
        self.place = 0  # bytes read
        self._mark = b""

    def new_rows(self, on_restart: Callable[[], None] = lambda: None) -> Iterator[dict[str, Any]]:
        """Yield the new rows; ``on_restart`` is called before rows that were yielded already come again.

        A file that is gone counts as empty; one that cannot be read just now has no new rows.
        """
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.place - len(self._mark))
                if stream.read(len(self._mark)) != self._mark:
                    self._restart(on_restart)
                    stream.seek(0)
                near = os.fstat(stream.fileno()).st_size - _NEAR
                while chunk := stream.read(_CHUNK):
                    whole = chunk[: chunk.rfind(b"\n") + 1] or (chunk if len(chunk) == _CHUNK else b"")
                    if not whole:
                        return
                    self.place += len(whole)
                    self._mark = whole[-_MARK:]
                    stream.seek(self.place)
                    yield from _rows(whole, self._landmark if self.place < near else None)
        except FileNotFoundError:
            if self.place:
                self._restart(on_restart)
        except OSError:  # a network disk that hiccups, a file of somebody else's: the next look may succeed
            return

    def _restart(self, on_restart: Callable[[], None]) -> None:
        self.place, self._mark = 0, b""
        on_restart()


def _rows(lines: bytes, landmark: bytes | None) -> Iterator[dict[str, Any]]:
    for line in lines.split(b"\n"):
        if landmark is not None and landmark not in line:
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row


def last_warnings(path: Path, count: int) -> list[str]:
    """Return the last warnings and errors of a log, a line each, without secrets; none where it cannot be read.

    All else may be the user's data: an evaluation logs dialogues and summaries.
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            start = stream.seek(max(0, size - _LOG_END))
            text = stream.read(_LOG_END).decode("utf-8", "replace")
    except OSError:
        return []
    lines = text.splitlines()
    # The first may be the end of a line, and half a secret is not known as one.
    return [masked(line) for line in (lines[1:] if start else lines) if _WARNING.match(line)][-count:]
