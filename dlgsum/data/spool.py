"""Bytes on disk without a name: what does not fit into memory for the time of one job."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from pathlib import Path


class Spool:
    """A temporary file that no folder lists: however the process ends, the disk gets its space back.

    Args:
        folder: where the bytes go, made when it is missing; None takes the system's temporary folder.

    Raises:
        OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  it lives as long as the spool
        weakref.finalize(self, self._file.close)
        self._size = 0
        self._lock = threading.Lock()

    def append(self, data: memoryview) -> tuple[int, int]:
        """Write bytes at the end and return their place: offset and length.

        Raises:
            OSError: the disk is full.
        """
        place = (self._size, len(data))
        while data:
            data = data[self._file.write(data) :]
        self._size = sum(place)
        return place

    def read(self, place: tuple[int, int]) -> bytes:
        """Return the bytes of a place."""
        offset, length = place
        if hasattr(os, "pread"):  # no position that threads and forked workers would share
            parts = []
            while length and (part := os.pread(self._file.fileno(), length, offset)):
                parts.append(part)
                offset, length = offset + len(part), length - len(part)
            return b"".join(parts)
        with self._lock:
            self._file.seek(offset)
            found = self._file.read(length)
            self._file.seek(0, os.SEEK_END)
        return found or b""
