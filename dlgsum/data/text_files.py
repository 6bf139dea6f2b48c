"""Finding and decoding a text file, with a message that helps when either fails."""

from __future__ import annotations

import codecs
import unicodedata
from pathlib import Path

from dlgsum.core.errors import DataError, nearest

SUFFIXES = (".csv", ".tsv", ".jsonl")
_WANTED = "a .csv, .tsv or .jsonl file"
_ENCODINGS = ("utf-8", "cp949", "euc-kr", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "johab")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HINTS = {
    ".json": "Write one JSON object a line into a .jsonl file.",
    ".xlsx": "Save the sheet as CSV (UTF-8) and name that file.",
    ".xls": "Save the sheet as CSV (UTF-8) and name that file.",
    ".gz": "Unpack it first.",
    ".zip": "Unpack it first.",
    ".txt": "If its fields are separated by commas or tabs, rename it to .csv or .tsv.",
}


def read_text(path: Path, encoding: str) -> str:
    """Return the text of a data file without its byte-order mark.

    Raises:
        DataError: no such file, a folder, an unsupported suffix, unreadable, empty, an unknown encoding, or
            bytes that the encoding does not allow.
    """
    check_file(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}.", "Check the file and its permissions."
        ) from error
    if not raw:
        raise DataError(f"{path} is empty (0 bytes); {_WANTED} with rows is wanted.", "Name another file.")
    text = _decode(path, raw, encoding).removeprefix("\ufeff")
    if "\0" in text:
        raise _null_bytes(path, raw, text)
    if not text.strip():
        raise DataError(f"{path} holds only blank lines; {_WANTED} with rows is wanted.", "Name another file.")
    return text


def check_file(path: Path) -> None:
    """Refuse a path that cannot be a data file, without opening it.

    Raises:
        DataError: no such file, a folder, or an unsupported suffix.
    """
    if path.is_dir():
        found = data_files(path)
        hint = f"Name one of its files: {', '.join(found)}." if found else "It holds no such file."
        raise DataError(f"{path} is a folder; {_WANTED} is wanted.", hint)
    if not path.exists():
        raise DataError(f"{path} does not exist; {_WANTED} is wanted.", _missing_hint(path))
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path} has the ending {suffix!r}; the endings understood are {', '.join(SUFFIXES)}.",
            _HINTS.get(suffix, "Convert the file to one of these."),
        )


def data_files(folder: Path) -> list[str]:
    """Return the names of the data files in a folder, sorted; empty when it cannot be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES)
    except OSError:
        return []


def _missing_hint(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"The folder {folder} does not exist either; relative paths start at {Path.cwd()}."
    found = data_files(folder)
    # macOS stores Hangul names as separate letters: compare what people see.
    composed = {unicodedata.normalize("NFC", name): name for name in found}
    close = nearest(unicodedata.normalize("NFC", path.name), composed)
    if close:
        return f"Did you mean {folder / composed[close]}?"
    return f"{folder} holds: {', '.join(found)}." if found else f"{folder} holds no data file."


def _decode(path: Path, raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is not {encoding}: byte {error.start + 1:,} (line {line:,}) does not fit.",
            _other_encoding(raw, encoding),
        ) from error
    except (LookupError, ValueError, UnicodeError) as error:
        close = nearest(encoding.lower(), _ENCODINGS)
        raise DataError(
            f"data.encoding={encoding!r} is not a text encoding; examples are utf-8, cp949 and utf-16.",
            f"Did you mean data.encoding={close}?" if close else "Set data.encoding=utf-8.",
        ) from error


def _other_encoding(raw: bytes, tried: str) -> str:
    candidates = ["utf-16"] if raw.startswith(_UTF16_MARKS) else ["utf-8", "cp949"]
    for candidate in candidates:
        if codecs.lookup(candidate) != codecs.lookup(tried) and _decodes(raw, candidate):
            return f"It can be read as {candidate}: set data.encoding={candidate}."
    return "Save the file as UTF-8, or name its encoding: data.encoding=NAME."


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeError:
        return False
    return True


def _null_bytes(path: Path, raw: bytes, text: str) -> DataError:
    line = text.count("\n", 0, text.index("\0")) + 1
    # Latin text in UTF-16 has a NUL in every second byte; a damaged file has a few.
    if raw.count(0) * 5 > len(raw):
        little = raw[1::2].count(0) >= raw[0::2].count(0)
        hint = f"It looks like UTF-16: set data.encoding={'utf-16-le' if little else 'utf-16-be'}."
    else:
        hint = "The file is damaged or not a text file; save it again as UTF-8."
    return DataError(f"{path} holds a NUL byte on line {line:,}, which no text file has.", hint)
