"""Finding and opening a data file, with a message that helps when either fails."""

from __future__ import annotations

import errno
import json
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dlgsum.core.errors import DataError, nearest
from dlgsum.data.encodings import find_encoding

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
PACKED = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".7z", ".rar")
_WANTED = "a .csv, .tsv, .jsonl or .parquet file"
_LINES_HINT = "Write one JSON object a line into a .jsonl file."
_LONGEST_LINE = 2**20  # characters of a line that are looked at
_HINTS = {
    ".xlsx": "Save the sheet as CSV (UTF-8) and name that file.",
    ".xls": "Save the sheet as CSV (UTF-8) and name that file.",
    ".txt": "If its fields are separated by commas or tabs, rename it to .csv or .tsv.",
    ".pkl": "Pickle files can run code, so dlgsum never opens one; write the rows as .parquet or .jsonl.",
    **dict.fromkeys(PACKED, "Unpack it first."),
}


@contextmanager
def open_text(path: Path, encoding: str, *, newline: str = "") -> Iterator[tuple[TextIO, str]]:
    """Open a data file as text, behind its byte-order mark; nothing is held in memory.

    Args:
        encoding: ``auto``, or a name that is taken strictly.
        newline: as ``open`` takes it; by default, line ends come as they are.

    Returns:
        The stream, and a note about the encoding, empty when there is nothing to say.

    Raises:
        DataError: as ``check_file``, and for a file that is unreadable, empty or blank, and for bytes that the
            encoding does not allow.
    """
    check_file(path)
    with explained_access(path):
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty (0 bytes); {_WANTED} with rows is wanted.", "Name another file.")
        found = find_encoding(path, encoding)
        stream = path.open(encoding=found.name, newline=newline)
    with stream:
        if stream.read(1) != "\ufeff":
            stream.seek(0)
        yield stream, found.note


@contextmanager
def explained_access(path: Path) -> Iterator[None]:
    """Turn what the system says about a file into a message.

    Raises:
        DataError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}.", "Check the file and its permissions."
        ) from error


def check_file(path: Path) -> None:
    """Refuse a path that cannot be a data file; only a .json file is opened, to say what to do with it.

    Raises:
        DataError: no such file, a folder, an unsupported suffix, or a place that may not be looked at.
    """
    with explained_access(path):
        there = exists(path)
    if not there:
        raise DataError(f"{path} does not exist; {_WANTED} is wanted.", _missing_hint(path))
    if path.is_dir():
        found = data_files(path)
        hint = f"Name one of its files: {', '.join(found)}." if found else "It holds no such file."
        raise DataError(f"{path} is a folder; {_WANTED} is wanted.", hint)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        hint = _json_hint(path) if suffix == ".json" else _HINTS.get(suffix, "Convert the file to one of these.")
        raise DataError(f"{path} has the ending {suffix!r}; the endings understood are {', '.join(SUFFIXES)}.", hint)


def exists(path: Path) -> bool:
    """Say whether there is a file or folder of this name; no for what cannot be a name, such as one that is too long.

    Raises:
        OSError: the system does not let it be seen.
    """
    try:
        return path.exists()
    except ValueError:
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def data_files(folder: Path) -> list[str]:
    """Return the names of the data files in a folder, sorted; empty when it cannot be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES)
    except OSError:
        return []


def _missing_hint(path: Path) -> str:
    folder = path.parent
    if not exists(folder) or not folder.is_dir():
        return f"The folder {folder} does not exist either; relative paths start at {Path.cwd()}."
    found = data_files(folder)
    # macOS stores Hangul names as separate letters: compare what people see.
    composed = {unicodedata.normalize("NFC", name): name for name in found}
    close = nearest(unicodedata.normalize("NFC", path.name), composed)
    if close:
        return f"Did you mean {folder / composed[close]}?"
    return f"{folder} holds: {', '.join(found)}." if found else f"{folder} holds no data file."


def _json_hint(path: Path) -> str:
    """Return what to do with a .json file: its lines may be JSON objects already."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as stream:
            lines = [line for _ in range(20) if (line := stream.readline(_LONGEST_LINE)).strip()][:2]
        if len(lines) == 2 and all(isinstance(json.loads(line), dict) for line in lines):
            return f"Its lines are JSON objects, which is what .jsonl means: rename it to {path.stem}.jsonl."
    except (OSError, ValueError, RecursionError):
        pass
    return _LINES_HINT
