"""Dialogues in any number: a sequence in memory, and on disk beyond a limit."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from dlgsum.data.spool import Spool

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BATCH_ROWS = 1000
MEMORY_LIMIT = 64 * 2**20  # bytes of rows that stay in memory; a million dialogues need about 1.3 GB
_KEPT = 2  # batches read back that stay in memory, about 1.3 MB each

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One row: a cleaned dialogue and its reference summaries.

    Attributes:
        id: the row's identifier, exactly as the file has it.
        dialogue: turns separated by newlines; empty only in files read for prediction.
        references: reference summaries, the training target first; empty when there is none.
        topic: empty when the file has none.
    """

    id: str
    dialogue: str
    references: tuple[str, ...]
    topic: str = ""


class Rows(Sequence[Dialogue]):
    """A sequence of dialogues that equals every sequence with the same ones; slices are views, not copies."""

    @overload
    def __getitem__(self, index: int) -> Dialogue: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Dialogue | Rows:
        if isinstance(index, slice):
            return RowView(self, range(*index.indices(len(self))))
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"there is no row {index} among {len(self)}")
        return self._at(int(position))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, (str, bytes)):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self):,} dialogues>"

    def _at(self, position: int) -> Dialogue:
        raise NotImplementedError


class RowView(Rows):
    """Some rows of a sequence, in an order of their own; nothing is copied.

    Args:
        rows: what is looked at.
        order: indices from 0 into ``rows``: a range, list or array.
    """

    def __init__(self, rows: Sequence[Dialogue], order: Sequence[int] | npt.NDArray[np.int64]) -> None:
        self._rows = rows
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Dialogue]:
        return (self._rows[int(index)] for index in self._order)

    def _at(self, position: int) -> Dialogue:
        return self._rows[int(self._order[position])]


class StoredRows(Rows):
    """The rows that a ``RowWriter`` took, in batches of ``BATCH_ROWS``, the last one shorter.

    Attributes:
        summarised: how many rows have a reference.
    """

    def __init__(self, parts: Sequence[Any], spool: Spool | None, count: int, summarised: int) -> None:
        self._parts = parts  # record batches, or places in the spool
        self._spool = spool
        self._count = count
        self.summarised = summarised
        self._kept: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Dialogue]:
        for number in range(len(self._parts)):
            yield from _dialogues(self.batch(number))

    def __reduce__(self) -> tuple[Any, ...]:
        batches = [self.batch(number) for number in range(len(self._parts))]
        return StoredRows, (batches, None, self._count, self.summarised)

    @property
    def on_disk(self) -> bool:
        """Whether the rows were too many for memory."""
        return self._spool is not None

    def batch(self, number: int) -> Any:
        """Return a batch as an Arrow record batch with the columns id, dialogue, references and topic."""
        if self._spool is None:
            return self._parts[number]
        found = self._kept.get(number)
        if found is None:
            import pyarrow as pa

            data = self._spool.read(self._parts[number])
            found = self._kept[number] = pa.ipc.read_record_batch(pa.py_buffer(data), _schema())
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(number)
        return found

    def _at(self, position: int) -> Dialogue:
        number, row = divmod(position, BATCH_ROWS)
        cells = [column[row].as_py() for column in self.batch(number).columns]
        return Dialogue(cells[0], cells[1], tuple(cells[2]), cells[3])


class RowWriter:
    """Takes dialogues one by one, and keeps them in memory up to a limit, then on disk.

    A disk that takes no more leaves the rows in memory, with a warning.

    Args:
        folder: where rows go that are too many for memory; None takes the system's temporary folder.
        memory_limit: bytes that stay in memory.
    """

    def __init__(self, folder: Path | None = None, *, memory_limit: int | None = None) -> None:
        self._folder = folder
        self._limit = MEMORY_LIMIT if memory_limit is None else memory_limit
        self._rows: list[Dialogue] = []
        self._parts: list[Any] = []
        self._spool: Spool | None = None
        self._bytes = 0
        self._count = 0
        self._summarised = 0

    def __len__(self) -> int:
        return self._count

    def add(self, row: Dialogue) -> None:
        """Take a row."""
        self._rows.append(row)
        self._count += 1
        self._summarised += bool(row.references)
        if len(self._rows) == BATCH_ROWS:
            self._flush()

    def finish(self) -> StoredRows:
        """Return everything taken; the writer is used up."""
        self._flush()
        return StoredRows(self._parts, self._spool, self._count, self._summarised)

    def _flush(self) -> None:
        if not self._rows:
            return
        batch = _batch(self._rows)
        self._rows = []
        self._bytes += batch.nbytes
        if self._bytes > self._limit:
            try:
                if self._spool is None:
                    spool = Spool(self._folder)
                    self._parts = [spool.append(memoryview(part.serialize())) for part in self._parts]
                    self._spool = spool
                self._parts.append(self._spool.append(memoryview(batch.serialize())))
                return
            except OSError as error:
                logger.warning("Rows stay in memory: the disk takes no more of them (%s).", error)
                self._to_memory()
        self._parts.append(batch)

    def _to_memory(self) -> None:
        self._limit = 2**63
        if self._spool is not None:
            stored = StoredRows(self._parts, self._spool, 0, 0)
            self._parts, self._spool = [stored.batch(number) for number in range(len(self._parts))], None


def _schema() -> Any:
    import pyarrow as pa  # not at the top: settling a configuration needs no Arrow

    text = pa.string()
    return pa.schema([("id", text), ("dialogue", text), ("references", pa.list_(text)), ("topic", text)])


def _batch(rows: Sequence[Dialogue]) -> Any:
    import pyarrow as pa

    columns = [[row.id for row in rows], [row.dialogue for row in rows], [row.references for row in rows]]
    columns.append([row.topic for row in rows])
    schema = _schema()
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _dialogues(batch: Any) -> Iterator[Dialogue]:
    columns = (column.to_pylist() for column in batch.columns)
    for identifier, dialogue, references, topic in zip(*columns, strict=True):
        yield Dialogue(identifier, dialogue, tuple(references), topic)
