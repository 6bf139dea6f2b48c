"""Reading CSV, TSV and JSONL files into records that know their line."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlgsum.core.errors import DataError
from dlgsum.data.text_files import read_text


@dataclass(frozen=True, slots=True)
class Record:
    """One row as the file has it.

    Attributes:
        line: line on which it begins, counted from 1.
        cells: column to value; text in CSV and TSV, any JSON value in JSONL.
        problem: why the row cannot be trusted; empty when nothing is wrong with its shape.
    """

    line: int
    cells: dict[str, Any]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """The named columns of a file, and its records; columns without a name are left out."""

    columns: tuple[str, ...]
    records: tuple[Record, ...]
    delimiter: str = ""


def read_table(path: Path, encoding: str) -> Table:
    """Read a data file; its ending decides how.

    Raises:
        DataError: the file cannot be read or decoded, its syntax is broken (with the line), it has a column
            twice, or no row.
    """
    text = read_text(path, encoding)
    suffix = path.suffix.lower()
    table = _read_jsonl(path, text) if suffix == ".jsonl" else _read_csv(path, text, suffix)
    if not table.records:
        raise DataError(f"{path} holds a header and no row.", "Name a file with at least one row.")
    return table


def _read_csv(path: Path, text: str, suffix: str) -> Table:
    # Long dialogues exceed the module's limit of 131,072 characters; the largest value every platform takes.
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if suffix == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    records: list[Record] = []
    line = 1
    try:
        for fields in reader:
            begun, line = line, reader.line_num + 1
            if not fields:
                continue
            if header is None:
                header = [name.strip() for name in fields]
                _check_header(path, header)
            else:
                records.append(_csv_record(begun, header, fields))
    except csv.Error as error:
        raise DataError(
            f"{path} has broken quoting in the row that begins on line {line:,}: {error}.",
            'Put text with commas, quotes or newlines in "double quotes", and double each quote inside it.',
        ) from error
    columns = tuple(name for name in header or () if name)
    return Table(columns, tuple(records), delimiter)


def _check_header(path: Path, header: list[str]) -> None:
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise DataError(
            f"{path} has these columns more than once: {', '.join(twice)}; each must be there once.",
            "Rename or remove the copies.",
        )


def _csv_record(line: int, header: list[str], fields: list[str]) -> Record:
    cells = {name: field for name, field in zip(header, fields, strict=False) if name}
    problem = ""
    if len(fields) < len(header) or any(field.strip() for field in fields[len(header) :]):
        problem = f"{len(fields)} fields where the header has {len(header)}"
    return Record(line, cells, problem)


def _read_jsonl(path: Path, text: str) -> Table:
    columns: dict[str, None] = {}
    records: list[Record] = []
    # Not splitlines: U+2028 may stand unescaped inside a JSON text.
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            # NaN is what pandas writes for a missing value.
            value = json.loads(content, parse_constant=lambda _: None)
        except (ValueError, RecursionError) as error:
            detail = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(f"{path} has no valid JSON on line {line:,}: {detail}.", _JSONL_HINT) from error
        if not isinstance(value, dict):
            raise DataError(
                f"{path} has a JSON {type(value).__name__} on line {line:,}; an object is wanted.",
                _JSONL_HINT,
            )
        columns.update(dict.fromkeys(value))
        records.append(Record(line, value))
    return Table(tuple(columns), tuple(records))


_JSONL_HINT = 'Each line must be one object, such as {"fname": "a", "dialogue": "…", "summary": "…"}.'
