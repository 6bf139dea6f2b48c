"""Rows of a data file as they stand, to be copied into other files of the same format without a change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlgsum.data.tables import Watch, csv_line, csv_rows, inert, jsonl_rows, misfits, no_parquet, plain
from dlgsum.data.text_files import check_file

Write = Callable[[Any], None]
Progress = Callable[[int, int], None]
_EACH = 500  # rows of Parquet read at once
_MB = 10**6
_NAMED = 5  # rows of another width whose lines are remembered


class RawFile(ABC):
    """A data file whose rows can be read again and again, each with what is needed to write it unchanged.

    Args:
        path: of the file.
        encoding: of text files, as ``data.encoding``; what is written is always UTF-8.
        texts: columns of dialogues and summaries: in CSV and TSV these are written so that no spreadsheet runs them as
            a formula, which the reader undoes. It does not for other columns, so those are left alone.

    Attributes:
        misfits: rows with another number of fields than the header, which training leaves out; known once all rows
            were read.
        misfit_lines: the lines on which the first few of them begin.
    """

    def __init__(self, path: Path, encoding: str, texts: Collection[str]) -> None:
        self.path = path
        self.encoding = encoding
        self.texts = frozenset(texts)
        self.misfits = 0
        self.misfit_lines: list[int] = []

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

    def _watch(self, progress: Progress | None) -> Watch | None:
        if progress is None:
            return None
        size = self.path.stat().st_size // _MB
        return lambda stream: progress(stream.buffer.tell() // _MB, size)


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
        rows = csv_rows(self.path, self.encoding, self._delimiter, self._watch(progress))
        next(rows)  # about the encoding
        _, self._header = next(rows, (0, []))
        header = [name.strip() for name in self._header]
        self.misfits, self.misfit_lines = 0, []
        for line, fields in rows:
            if misfits(header, fields):
                self.misfits += 1
                self.misfit_lines += [line] if self.misfits <= _NAMED else []
            cells = dict(zip(header, fields, strict=False))
            yield cells | {name: plain(cells[name]) for name in self.texts & cells.keys()}, fields

    @contextmanager
    def writer(self, path: Path) -> Iterator[Write]:
        with path.open("w", encoding="utf-8", newline="") as stream:
            texts = {place for place, name in enumerate(self._header) if name.strip() in self.texts}

            def write(fields: list[str]) -> None:
                cells = (inert(plain(field)) if place in texts else field for place, field in enumerate(fields))
                stream.write(csv_line(cells, self._delimiter))

            stream.write(csv_line(self._header, self._delimiter))
            yield write


class _Lines(RawFile):
    """JSON lines: the line itself is copied."""

    def rows(self, progress: Progress | None = None) -> Iterator[tuple[Mapping[str, Any], Any]]:
        for line, text, cells in jsonl_rows(self.path, self.encoding, self._watch(progress)):
            if line:
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
            raise no_parquet(self.path, error) from error

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
