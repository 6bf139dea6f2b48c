"""Which text encoding a file has, found by decoding all of it in pieces, and what is said when none fits."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dlgsum.core.errors import DataError, nearest

AUTO = "auto"
CHUNK = 2**18  # bytes
_ENCODINGS = (AUTO, "utf-8", "cp949", "euc-kr", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "johab")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Korean in cp949 is hardly ever valid UTF-8 for more than a syllable or two, so a file that was UTF-8 for longer
# than this is damaged UTF-8, however willingly cp949 reads the rest as other syllables.
_SURELY_UTF8 = 8
_COMMON = 0.9  # part of the non-ASCII characters in Korean text that the older EUC-KR has as well; in fact 0.99


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text encoding in which all of a file decodes.

    Attributes:
        name: as ``open`` takes it; for UTF-8 with or without a byte-order mark.
        note: what is to be said about it; empty for UTF-8 and for an encoding that was asked for.
    """

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Scan:
    """What decoding a whole file showed."""

    error: tuple[int, int] | None = None  # byte and line, counted from 1, that do not fit
    null_line: int = 0  # line of the first NUL character; 0 for none
    blank: bool = True  # nothing but blanks and line ends
    non_ascii: int = 0  # characters before the error
    common: int = 0  # those of them that EUC-KR has; counted when asked for


def find_encoding(path: Path, asked: str) -> Encoding:
    """Return the encoding to read a file in, after decoding all of it once, piece by piece.

    ``auto`` finds UTF-8, UTF-16 and UTF-32 with a mark, UTF-16 without one, and cp949; any other name is taken
    strictly.

    Raises:
        DataError: an unknown encoding, bytes that do not fit (with byte and line), a NUL, or only blanks.
        OSError: the file cannot be read.
    """
    if asked == AUTO:
        return _detect(path)
    check_name(asked)
    scan = _scan(path, asked)
    if scan.error:
        raise _does_not_fit(path, asked, scan.error, _other_encoding(path, asked))
    _check_text(path, asked, scan)
    return Encoding(asked)


def check_name(encoding: str) -> None:
    """Refuse a name that is no text encoding.

    Raises:
        DataError: with the nearest name.
    """
    try:
        if encoding != AUTO:
            b"a".decode(encoding, "replace")  # knows that some codecs, such as rot13, are not for bytes
            codecs.getincrementaldecoder(encoding)
    except (LookupError, ValueError, UnicodeError) as error:
        close = nearest(encoding.lower(), _ENCODINGS)
        raise DataError(
            f"data.encoding={encoding!r} is not a text encoding; examples are utf-8, cp949 and utf-16.",
            f"Did you mean data.encoding={close}?" if close else "Set data.encoding=utf-8, or auto to have it found.",
        ) from error


def _detect(path: Path) -> Encoding:
    head = next(_chunks(path), b"")
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    found = marked or _utf16_without_mark(head) or "utf-8"
    scan = _scan(path, found)
    if scan.error is None:
        _check_text(path, found, scan)
        return Encoding(found, "" if found == "utf-8" else f"read as {found}")
    if found != "utf-8":
        raise _does_not_fit(path, found, scan.error, "The file is damaged: save it again as UTF-8.")
    if marked or scan.non_ascii >= _SURELY_UTF8:
        raise DataError(
            f"{path} is UTF-8, but damaged: byte {scan.error[0]:,} (line {scan.error[1]:,}) does not fit.",
            "Correct that line, or save the file again as UTF-8.",
        )
    korean = _scan(path, "cp949", count_common=True)
    if korean.error is None and korean.common >= _COMMON * korean.non_ascii:
        _check_text(path, "cp949", korean)
        return Encoding("cp949", "read as cp949")
    byte, line = scan.error
    raise DataError(
        f"{path} is not utf-8: byte {byte:,} (line {line:,}) does not fit; nor is it Korean in cp949.",
        "Save the file as UTF-8, or name its encoding: data.encoding=NAME.",
    )


def _scan(path: Path, encoding: str, *, count_common: bool = False) -> _Scan:
    decoder = codecs.getincrementaldecoder(encoding)()
    fed = line = non_ascii = common = null_line = 0
    blank = True
    for chunk in _chunks(path, end=True):
        fed += len(chunk)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            # The decoder's object begins with what it held back of earlier chunks.
            before = bytes(error.object[: error.start]).decode(encoding, "ignore")
            place = fed - len(error.object) + error.start + 1
            non_ascii += len(before) - _bytes_in(before, "ascii")
            return _Scan((place, line + before.count("\n") + 1), null_line, False, non_ascii, common)
        except UnicodeError:  # UTF-16 names no place where a stream without its mark goes wrong
            return _Scan((max(1, fed - len(chunk)), line + 1), null_line, False, non_ascii, common)
        if not null_line and "\0" in text:
            null_line = line + text.count("\n", 0, text.index("\0")) + 1
        blank = blank and not text.removeprefix("\ufeff").strip()
        line += text.count("\n")
        if not text.isascii():
            plain = _bytes_in(text, "ascii")
            non_ascii += len(text) - plain
            if count_common:
                common += (_bytes_in(text, "euc_kr") - plain) // 2
    return _Scan(None, null_line, blank, non_ascii, common)


def _bytes_in(text: str, encoding: str) -> int:
    """Return how many bytes the characters take that an encoding has."""
    return len(text.encode(encoding, "ignore"))


def _chunks(path: Path, *, end: bool = False) -> Iterator[bytes]:
    """Yield a file in pieces, and after the last one an empty piece when asked for."""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
    if end:
        yield b""


def _utf16_without_mark(head: bytes) -> str | None:
    """Return the byte order of UTF-16 text, whose ASCII characters have a NUL in every second byte."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) < max(4, len(head) // 20) or min(even, odd) * 20 > max(even, odd):
        return None  # a damaged file has a few anywhere
    return "utf-16-le" if odd > even else "utf-16-be"


def _check_text(path: Path, encoding: str, scan: _Scan) -> None:
    if scan.null_line:
        looks = _utf16_without_mark(next(_chunks(path), b""))
        hint = "The file is damaged or not a text file; save it again as UTF-8."
        if looks and codecs.lookup(looks) != codecs.lookup(encoding):
            hint = f"It looks like UTF-16: set data.encoding={looks}."
        raise DataError(f"{path} holds a NUL byte on line {scan.null_line:,}, which no text file has.", hint)
    if scan.blank:
        raise DataError(f"{path} holds only blank lines; a file with rows is wanted.", "Name another file.")


def _does_not_fit(path: Path, encoding: str, place: tuple[int, int], hint: str) -> DataError:
    return DataError(f"{path} is not {encoding}: byte {place[0]:,} (line {place[1]:,}) does not fit.", hint)


def _other_encoding(path: Path, tried: str) -> str:
    head = next(_chunks(path), b"")
    marked = [name for mark, name in _MARKS if head.startswith(mark)][:1]
    for candidate in marked or ["utf-8", "cp949"]:
        if codecs.lookup(candidate) != codecs.lookup(tried) and _scan(path, candidate).error is None:
            return f"It can be read as {candidate}: set data.encoding={candidate}."
    return "Save the file as UTF-8, or name its encoding: data.encoding=NAME."
