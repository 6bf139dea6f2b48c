"""Files that are either whole or absent: atomic JSON, append-only JSONL, folders swapped in by rename."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

SCHEMA_VERSION = 1

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{4,64}\.(?P<kind>tmp|old)")
# What libraries say of a write that failed without saying why: torch's zip writer, and numpy.
_WRITE_FAILED = re.compile(
    r"PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+|iostream error|\d+ requested and \d+ written"
)
# A disk with less left than this counts as full once a write has failed on it.
_NEXT_TO_NOTHING = 16 * 2**20


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
    """Write ``text`` in UTF-8, as ``write_bytes_atomic`` does."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees either the old one or the new one, even after a crash.

    Raises:
        OSError: the folder is not writable or the disk is full; the old file is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe: written to, never replaced by a file
        path.write_bytes(data)
        return
    temporary = _beside(path, ".tmp")
    try:
        # Not mkstemp, whose files only the owner may read: who may read this one, the umask says.
        with temporary.open("xb") as stream:
            stream.write(data)
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
        swap_in(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def swap_in(temporary: Path, target: Path) -> None:
    """Rename a finished folder to ``target``, in place of what may be there; both lie on one file system.

    At each moment either the old or the new folder is whole on disk. A process that is killed in between can leave the
    old one under a hidden name, from where ``sweep_leftovers`` puts it back.

    Raises:
        OSError: the renaming failed; the old target is where it was.
    """
    if not target.exists():
        temporary.replace(target)
        return
    old = _beside(target, ".old")
    old.mkdir()
    aside = old / target.name
    try:
        target.replace(aside)
        temporary.replace(target)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.replace(target)
        raise
    finally:
        if target.exists():  # else the only whole folder may lie in there
            remove_folder(old)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that a process killed meanwhile leaves no half of it under its name; errors are passed over.

    What cannot be removed is left under a hidden name, for ``sweep_leftovers``. An absent folder is no error.
    """
    doomed = _beside(folder, ".tmp")
    try:
        folder.replace(doomed)
    except OSError:
        doomed = folder
    shutil.rmtree(doomed, ignore_errors=True)


def sweep_leftovers(folder: Path) -> list[str]:
    """Clean up after writers that were killed: what they had not finished goes, what they had moved aside comes back.

    Only for a folder in which nobody else writes: hold the lock of the run. An absent folder has no leftovers.

    Returns:
        What was done, in words.

    Raises:
        OSError: a folder that had been moved aside cannot be put back.
    """
    done: list[str] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _LEFTOVER.fullmatch(path.name)
        if match is None:
            continue
        target, aside = path.with_name(match["name"]), path / match["name"]
        if match["kind"] == "old" and aside.exists() and not target.exists():
            aside.replace(target)
            done.append(f"{target} was put back: its replacement had been cut short")
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if match["kind"] == "tmp":
            done.append(f"{path} was removed: it was never finished")
    return done


def sync_file(path: Path) -> None:
    """Have the bytes of a file written to the disk itself, so that a power failure cannot lose them."""
    with path.open("rb+") as stream:  # Windows syncs only what is open for writing
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Have the names in a folder written to the disk itself; nothing happens where folders cannot be synced."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some network file systems
            raise
    finally:
        os.close(descriptor)


def disk_is_full(error: BaseException, folder: Path | None = None) -> bool:
    """Say whether an error, or one that led to it, came of a full disk or a used-up quota.

    safetensors and torch raise errors of their own. safetensors gives the reason in words; torch says only that a write
    failed, so that the disk is looked at: call this before anything is removed from it. A quota that is used up shows
    in the words, not on the disk.

    Args:
        folder: where was written to; without one, an error that gives no reason counts as another failure.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if _says_full(current) or (folder is not None and _WRITE_FAILED.search(str(current)) and _has_no_space(folder)):
            return True
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return False


def _says_full(error: BaseException) -> bool:
    reasons = [errno.ENOSPC, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else [])]
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in reasons
    text = str(error)
    words = [form for number in reasons for form in (f"(os error {number})", os.strerror(number))]
    # datasets, numpy, SQLite
    words += ["Not enough disk space", "Not enough free space", "database or disk is full"]
    return any(word in text for word in words)


def _has_no_space(folder: Path) -> bool:
    try:
        return shutil.disk_usage(existing_parent(folder)).free < _NEXT_TO_NOTHING
    except OSError:
        return False


def existing_parent(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    path = path.absolute()
    return next((folder for folder in (path, *path.parents) if folder.exists()), path)


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
