"""Reading CSV, TSV, JSONL and Parquet files as a stream of records that know their line."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from dlgsum.core.errors import DataError
from dlgsum.core.text import plural
from dlgsum.data.quotes import broken_quoting
from dlgsum.data.text_files import check_file, explained_access, open_text

# Without a limit, one quote that is never closed would take the rest of a huge file into memory.
LONGEST_CELL = 2**24
_WATCHED_ROWS = 500
_BATCH_ROWS = 1000
_BAD_LINES = 5  # named in a message
Watch = Callable[[TextIO], None]
_RUN_AS_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_KEPT_AS_TEXT = re.compile(r"'+[=+\-@\t\r]")


def inert(text: str) -> str:
    """Return what a CSV cell holds so that no spreadsheet runs the text as a formula; ``plain`` undoes it.

    A text that begins with ``= + - @``, a tab or a carriage return gets an apostrophe in front, and so does one in
    which only apostrophes come before such a character, or it could not be told apart.
    """
    return f"'{text}" if _RUN_AS_FORMULA.match(text) else text


def plain(text: str) -> str:
    """Return the text that ``inert`` was given."""
    return text[1:] if _KEPT_AS_TEXT.match(text) else text


def csv_line(fields: Iterable[str], delimiter: str = ",") -> str:
    """Return a row as CSV, with as few quotes as can be, ended by a newline."""
    buffer = io.StringIO()
    # With this line end, cells that hold either of its characters are quoted; it is not what is written.
    csv.writer(buffer, delimiter=delimiter, lineterminator="\r\n").writerow(fields)
    return buffer.getvalue()[:-2] + "\n"


@dataclass(frozen=True, slots=True)
class Record:
    """One row as the file has it.

    Attributes:
        line: line on which it begins, counted from 1; the number of the row where there are no lines.
        cells: column to value; text in CSV and TSV, any JSON value elsewhere.
        problem: why the row cannot be trusted; empty when nothing is wrong with its shape.
    """

    line: int
    cells: dict[str, Any]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """The named columns of a file, and its records, which can be taken once.

    Attributes:
        columns: without those that have no name.
        records: the rows, read as they are taken; taking one can raise ``DataError``.
        delimiter: what separates cells; empty where nothing does.
        inert: whether texts may carry the apostrophe of ``inert``.
        notes: what was decided about the file, such as ``read as cp949``.
    """

    columns: tuple[str, ...]
    records: Iterator[Record]
    delimiter: str = ""
    inert: bool = False
    notes: tuple[str, ...] = ()


def read_table(path: Path, encoding: str) -> Table:
    """Open a data file; its ending decides how, and rows are read as they are taken.

    JSON lines are gone through twice, because any row may bring a new column.

    Raises:
        DataError: the file cannot be read or decoded, it has a column twice or no row; and, while rows are taken,
            where its syntax is broken (with the line).
    """
    check_file(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        table = _read_parquet(path)
    elif suffix == ".jsonl":
        table = _read_jsonl(path, encoding)
    else:
        table = _read_csv(path, encoding, "\t" if suffix == ".tsv" else ",")
    return not_empty(str(path), table)


def not_empty(name: str, table: Table) -> Table:
    """Return the table as it is.

    Raises:
        DataError: it has no row; or its first one is broken.
    """
    first = next(table.records, None)
    if first is None:
        raise DataError(f"{name} holds a header and no row.", "Name a file with at least one row.")
    records = itertools.chain([first], table.records)
    return Table(table.columns, records, table.delimiter, table.inert, table.notes)


def _read_csv(path: Path, encoding: str, delimiter: str) -> Table:
    parsed = csv_rows(path, encoding, delimiter)
    _, note = next(parsed)  # the file is open and decodes
    _, first = next(parsed, (0, []))
    header = [name.strip() for name in first]
    _check_header(path, header)
    columns = tuple(name for name in header if name)
    records = (_csv_record(line, header, fields) for line, fields in parsed)
    return Table(columns, records, delimiter, inert=True, notes=(note[0],) if note else ())


def csv_rows(path: Path, encoding: str, delimiter: str, watch: Watch | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield a note about the encoding as row 0, the header, and the rows with the lines on which they begin.

    Args:
        watch: called with the stream every so many rows; for showing how far it has been read.

    Raises:
        DataError: the file cannot be read, or its quoting is broken (with the lines).
    """
    csv.field_size_limit(LONGEST_CELL)
    with open_text(path, encoding) as (stream, note):
        yield 0, [note] if note else []
        lines = _Lines(stream)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            for number, fields in enumerate(reader):
                if watch is not None and number % _WATCHED_ROWS == 0:
                    watch(stream)
                begun = lines.begun
                lines.begin_row()
                if fields:
                    yield begun, fields
        except csv.Error as error:
            raise broken_quoting(path, lines.row, lines.begun, delimiter, str(error)) from error


class _Lines:
    """The lines of a stream; remembers those of the row that is being read."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.row: list[str] = []
        self.begun = 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._stream)
        self.row.append(line)
        return line

    def begin_row(self) -> None:
        """Forget the lines of the row that is complete."""
        self.begun += len(self.row)
        self.row = []


def _check_header(path: Path, header: list[str]) -> None:
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise DataError(
            f"{path} has these columns more than once: {', '.join(twice)}; each must be there once.",
            "Rename or remove the copies.",
        )


def _csv_record(line: int, header: list[str], fields: list[str]) -> Record:
    cells = {name: field for name, field in zip(header, fields, strict=False) if name}
    problem = f"{plural(len(fields), 'field')} where the header has {len(header):,}" if misfits(header, fields) else ""
    return Record(line, cells, problem)


def misfits(header: list[str], fields: list[str]) -> bool:
    """Say whether a row has another number of fields than the header; blank ones behind the last do not count."""
    return len(fields) < len(header) or any(field.strip() for field in fields[len(header) :])


def _read_jsonl(path: Path, encoding: str) -> Table:
    columns: dict[str, None] = {}
    notes: list[str] = []
    for record in _jsonl_records(path, encoding, notes):
        columns.update(dict.fromkeys(record.cells))
    return Table(tuple(columns), _jsonl_records(path, encoding, []), notes=tuple(notes))


def _jsonl_records(path: Path, encoding: str, notes: list[str]) -> Iterator[Record]:
    for line, note, value in jsonl_rows(path, encoding):
        if line:
            yield Record(line, value)
        elif note:
            notes.append(note)


def jsonl_rows(path: Path, encoding: str, watch: Watch | None = None) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield a note about the encoding as line 0, then number, text and object of each line that is not blank.

    Args:
        watch: as for ``csv_rows``.

    Raises:
        DataError: the file cannot be read, or lines are no JSON objects; the rest of the file is read to count them.
    """
    bad: list[str] = []
    count = 0
    # Only this line end: U+2028 may stand unescaped inside a JSON text.
    with open_text(path, encoding, newline="\n") as (stream, note):
        yield 0, note or "", {}
        for line, content in enumerate(stream, start=1):
            if watch is not None and line % _WATCHED_ROWS == 0:
                watch(stream)
            if not content.strip():
                continue
            value, problem = _object(content, line)
            if value is None:
                count += 1
                bad += [problem] if count <= _BAD_LINES else []
            elif not bad:
                yield line, content, value
    if bad:
        raise _no_json_lines(path, bad, count)


def _object(content: str, line: int) -> tuple[dict[str, Any] | None, str]:
    """Return the JSON object of a line; None, and what is wrong with the line, where it is none."""
    try:
        # NaN is what pandas writes for a missing value.
        value = json.loads(content, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        detail = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        return None, f"no valid JSON on line {line:,}: {detail}"
    if isinstance(value, dict):
        return value, ""
    return None, f"a JSON {type(value).__name__} on line {line:,}; an object is wanted"


def _no_json_lines(path: Path, bad: list[str], count: int) -> DataError:
    if count == 1:
        return DataError(f"{path} has {bad[0]}.", _JSONL_HINT)
    more = [f"and {count - len(bad):,} more"] if count > len(bad) else []
    found = "".join(f"\n  {problem}" for problem in [*bad, *more])
    return DataError(f"{path} has {count:,} lines that are not JSON objects:{found}", _JSONL_HINT)


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def records() -> Iterator[Record]:
        try:
            batches = file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False)
            yield from batch_records(batch.to_pylist() for batch in batches)
        except (pa.ArrowException, OSError) as error:
            raise no_parquet(path, error) from error

    try:
        with explained_access(path), path.open("rb"):
            file = pq.ParquetFile(path, memory_map=False, pre_buffer=False)
    except pa.ArrowException as error:
        raise no_parquet(path, error) from error
    _check_header(path, list(file.schema_arrow.names))
    return Table(tuple(name for name in file.schema_arrow.names if name), records())


def batch_records(batches: Iterable[Iterable[dict[str, Any]]]) -> Iterator[Record]:
    """Yield the rows of batches as records, numbered from 1."""
    for number, cells in enumerate(itertools.chain.from_iterable(batches), start=1):
        yield Record(number, cells)


def no_parquet(path: Path, error: Exception) -> DataError:
    """Return the error of a file that is not the Parquet that its name says."""
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return DataError(f"{path} cannot be read as Parquet: {reason}.", "Write the file again, or name another one.")


_JSONL_HINT = 'Each line must be one object, such as {"fname": "a", "dialogue": "…", "summary": "…"}.'
