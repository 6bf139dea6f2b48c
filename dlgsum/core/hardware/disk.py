"""How fast a folder's disk writes and reads, and what is free on it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

_PIECE = 8 * 2**20


@dataclass(frozen=True)
class Disk:
    """What was measured in a folder.

    Attributes:
        folder: as it was asked for.
        tried: the nearest folder that exists, where the file was written.
        free: bytes, as is total.
        written: bytes of the temporary file.
        write: 2^20 bytes per second, each piece forced to the disk.
        read: the same for reading back, after the system was asked to drop the file from its cache; None where it
            cannot be asked. Caches of the disk itself may still have helped.
        problem: why nothing was measured; empty otherwise.
    """

    folder: str
    tried: str | None = None
    free: int | None = None
    total: int | None = None
    written: int = 0
    write: float | None = None
    read: float | None = None
    problem: str = ""


def measure_disk(folder: Path, *, size: int = 64 * 2**20, seconds: float = 10.0) -> Disk:
    """Write a temporary file without a name and read it back; nothing is left behind, not even by a killed process.

    Args:
        folder: need not exist; then its nearest parent is tried.
        size: bytes to write.
        seconds: a slow disk stops writing, and reading, after about this time.
    """
    found = Disk(str(folder))
    try:
        tried = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        space = shutil.disk_usage(tried)
        found = replace(found, tried=str(tried), free=space.free, total=space.total)
        with tempfile.TemporaryFile(dir=tried, prefix=".dlgsum-", buffering=0) as stream:
            if space.free < 2 * size:
                raise OSError(f"only {space.free / 2**20:.0f} MiB are free")
            written, write = _write(stream, size, seconds)
            return replace(found, written=written, write=write, read=_read_back(stream, seconds))
    except (OSError, ValueError) as error:
        return replace(found, problem=getattr(error, "strerror", None) or str(error))


def _write(stream: BinaryIO, size: int, seconds: float) -> tuple[int, float]:
    piece = os.urandom(min(size, _PIECE))  # a file system that compresses would make light of zeros
    written, started = 0, time.perf_counter()
    while written < size and time.perf_counter() - started < seconds:
        written += stream.write(piece[: size - written])
        os.fsync(stream.fileno())  # of each piece, so that the time limit holds on a slow disk
    return written, written / 2**20 / max(time.perf_counter() - started, 1e-9)


def _read_back(stream: BinaryIO, seconds: float) -> float | None:
    if not hasattr(os, "posix_fadvise"):
        return None
    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    stream.seek(0)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds and (piece := stream.read(_PIECE)):
        count += len(piece)
    return count / 2**20 / max(time.perf_counter() - started, 1e-9)
