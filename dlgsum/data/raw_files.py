"""Rows of a data file as they stand, to be copied into other files of the same format without a change."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlgsum.core.errors import DataError
from dlgsum.data.tables import LONGEST_CELL, inert, plain
from dlgsum.data.text_files import check_file, open_text

Write = Callable[[Any], None]
Progress = Callable[[int, int], None]
_EACH = 500  # rows between two calls of a progress function
_MB = 10**6


class RawFile(ABC):
    """A data file whose rows can be read again and again, each with what is needed to write it unchanged.

    Args:
        path: of the file.
        encoding: of text files, as ``data.encoding``; what is written is always UTF-8.
        texts: columns of dialogues and summaries: in CSV and TSV these are written so that no spreadsheet runs them as
            a formula, which the reader undoes. It does not for other columns, so those are left alone.
    """

    def __init__(self, path: Path, encoding: str, texts: Collection[str]) -> None:
        self.path = path
        self.encoding = encoding
        self.texts = frozenset(texts)

    @abstractmethod
    def rows(self, progress: Progress | None = None) -> Iterator[tuple[Mapping[str, Any], Any]]:
        """Yield the named cells of each row, and the row as ``writer`` takes it.

        Args:
            progress: called with the megabytes read, and all of them.

        Raises:
            DataError: the file cannot be read, or its syntax is broken.
        """

    @abstractmethod
    def writer(self, path: Path) -> Any:
        """Open a new file of this format: a context manager that gives a function to write one row."""


def raw_file(path: Path, encoding: str, texts: Collection[str]) -> RawFile:
    """Return the file, by its ending; see ``RawFile``.

    Raises:
        DataError: it does not exist, or is of an unknown format.
    """
    check_file(path)
    suffix = path.suffix.lower()
    kinds: dict[str, type[RawFile]] = {".jsonl": _Lines, ".parquet": _Parquet}
    return kinds.get(suffix, _Fields)(path, encoding, texts)


class _Fields(RawFile):
    """CSV and TSV. Cells are written with as few quotes as can be, lines end in a newline."""

    def __init__(self, path: Path, encoding: str, texts: Collection[str]) -> None:
        super().__init__(path, encoding, texts)
        self._delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        self._header: list[str] = []

    def rows(self, progress: Progress | None = None) -> Iterator[tuple[Mapping[str, Any], Any]]:
        csv.field_size_limit(LONGEST_CELL)
        with open_text(self.path, self.encoding) as (stream, _):
            reader = csv.reader(stream, delimiter=self._delimiter, strict=True)
            header: list[str] | None = None
            line = 1
            try:
                for number, fields in enumerate(reader):
                    line = reader.line_num + 1
                    if progress is not None and number % _EACH == 0:
                        _tell(progress, self.path, stream)
                    if not fields:
                        continue
                    if header is None:
                        self._header = fields
                        header = [name.strip() for name in fields]
                    else:
                        cells = dict(zip(header, fields, strict=False))
                        yield cells | {name: plain(cells[name]) for name in self.texts & cells.keys()}, fields
            except csv.Error as error:
                raise DataError(
                    f"{self.path} has broken quoting in the row that begins on line {line:,}: {error}.",
                    'Put text with commas, quotes or newlines in "double quotes", and double each quote inside it.',
                ) from error

    @contextmanager
    def writer(self, path: Path) -> Iterator[Write]:
        with path.open("w", encoding="utf-8", newline="") as stream:
            texts = {place for place, name in enumerate(self._header) if name.strip() in self.texts}

            def write(fields: list[str]) -> None:
                buffer = io.StringIO()
                # With this line end, cells that hold either of its characters are quoted; it is not what is written.
                writer = csv.writer(buffer, delimiter=self._delimiter, lineterminator="\r\n")
                writer.writerow(
                    [inert(plain(field)) if place in texts else field for place, field in enumerate(fields)]
                )
                stream.write(buffer.getvalue()[:-2] + "\n")

            write([*self._header])
            yield write


class _Lines(RawFile):
    """JSON lines: the line itself is copied."""

    def rows(self, progress: Progress | None = None) -> Iterator[tuple[Mapping[str, Any], Any]]:
        with open_text(self.path, self.encoding, newline="\n") as (stream, _):
            for number, text in enumerate(stream, start=1):
                if progress is not None and number % _EACH == 0:
                    _tell(progress, self.path, stream)
                if not text.strip():
                    continue
                try:
                    cells = json.loads(text, parse_constant=lambda _: None)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{self.path} has no valid JSON on line {number:,}: {error}.") from error
                if not isinstance(cells, dict):
                    kind = type(cells).__name__
                    raise DataError(f"{self.path} has a JSON {kind} on line {number:,}; an object is wanted.")
                yield cells, text.rstrip("\r\n")

    @contextmanager
    def writer(self, path: Path) -> Iterator[Write]:
        with path.open("w", encoding="utf-8", newline="") as stream:

            def write(text: str) -> None:
                stream.write(text + "\n")

            yield write


class _Parquet(RawFile):
    """Parquet: rows are copied in slices, with the schema of the file."""

    def rows(self, progress: Progress | None = None) -> Iterator[tuple[Mapping[str, Any], Any]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        size, done = self.path.stat().st_size // _MB, 0
        try:
            with pq.ParquetFile(self.path) as file:
                total = max(1, file.metadata.num_rows)
                for batch in file.iter_batches(batch_size=_EACH):
                    for place, cells in enumerate(batch.to_pylist()):
                        yield cells, batch.slice(place, 1)
                    done += len(batch)
                    if progress is not None:
                        progress(size * done // total, size)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path} cannot be read as Parquet: {error}.", "Write the file again.") from error

    @contextmanager
    def writer(self, path: Path) -> Iterator[Write]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pq.read_schema(self.path)
        waiting: list[Any] = []
        with pq.ParquetWriter(path, schema) as file:

            def flush() -> None:
                # A row group for each row would make a file many times as large.
                if waiting:
                    file.write_table(pa.Table.from_batches(waiting, schema).combine_chunks())
                    waiting.clear()

            def write(row: Any) -> None:
                waiting.append(row)
                if len(waiting) == 10 * _EACH:
                    flush()

            yield write
            flush()


def _tell(progress: Progress, path: Path, stream: Any) -> None:
    progress(stream.buffer.tell() // _MB, path.stat().st_size // _MB)
