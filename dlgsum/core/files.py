"""Files that are either whole or absent: atomic JSON, append-only JSONL, folders swapped in by rename."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

SCHEMA_VERSION = 1


def to_jsonable(value: Any) -> Any:
    """Return ``value`` with everything JSON cannot hold turned into something it can.

    NaN and infinities become the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``: strict JSON has no
    numbers for them, and a null would hide that the value was bad. Unknown objects become their ``str``.
    """
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_jsonable(item) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    if hasattr(value, "tolist"):  # numpy and torch: scalars become numbers, arrays lists
        return to_jsonable(value.tolist())
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return str(value)


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Return strict JSON in which Korean stays readable."""
    text = json.dumps(to_jsonable(value), ensure_ascii=False, indent=indent, allow_nan=False)
    # A file name that is not UTF-8 arrives as half characters, which no file takes: written as JSON's own \udcXX.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_text_atomic(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees either the old file or the new one, even after a crash.

    Raises:
        OSError: the folder is not writable or the disk is full; the old file is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path, ".tmp")
    try:
        # Not mkstemp, whose files only the owner may read: who may read this one, the umask says.
        with temporary.open("x", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object atomically, stamped with ``schema_version``."""
    write_text_atomic(path, dumps({"schema_version": SCHEMA_VERSION, **content}, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a JSON object.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a JSON object")
    return content


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append one row to a JSONL file; once this returns, a killed process cannot lose it.

    A last row that an earlier crash tore is ended first, so that it does not swallow this one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        torn = stream.tell() > 0 and not _ends_with_newline(stream)
        stream.write((b"\n" if torn else b"") + dumps(row).encode() + b"\n")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSONL file, passing over lines that a crash tore."""
    with path.open("rb") as stream:  # a row can be torn in the middle of a Korean character
        for line in stream:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def _beside(path: Path, suffix: str) -> Path:
    """Return a name next to ``path`` that nobody else uses."""
    return path.parent / f".{path.name}.{secrets.token_hex(4)}{suffix}"


def _ends_with_newline(stream: BinaryIO) -> bool:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a temporary sibling of ``target`` to fill; on success it takes the target's place.

    An existing target is replaced. On an exception the temporary folder is removed and the old target stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target, ".tmp")
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            old = _beside(target, ".old")
            old.mkdir()
            target.replace(old / target.name)
            try:
                temporary.replace(target)
            except BaseException:
                (old / target.name).replace(target)
                old.rmdir()
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def is_file(path: Path) -> bool:
    """Say whether there is a file of this name; no for what cannot be a name, such as one that is too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def sha256_text(*parts: str) -> str:
    """Return the SHA-256 of texts, each set apart so that ("ab", "c") differs from ("a", "bc")."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
