"""Rows as token numbers in Arrow: how they are made, written and looked up. Light, for processes that only tokenize."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ids = Sequence[Sequence[int]]
Lengths = npt.NDArray[np.int32]

_TOKENS = pa.list_(pa.int32())
TOKEN_SCHEMA = pa.schema(
    [("input_ids", _TOKENS), ("labels", _TOKENS), ("source_tokens", pa.int32()), ("target_tokens", pa.int32())]
)
TEXT_SCHEMA = pa.schema([("source", pa.string()), ("target", pa.string())])


class TextEncoder(Protocol):
    """Turns texts into token numbers; truncation and end marks are its business."""

    @property
    def fingerprint(self) -> str:
        """Identifies everything that affects the numbers: vocabulary, lengths, prefixes, marks."""

    def encode_sources(self, texts: list[str]) -> Ids:
        """Return the model's input for each dialogue."""

    def encode_targets(self, texts: list[str]) -> Ids:
        """Return the labels for each summary."""


@runtime_checkable
class MeasuringEncoder(Protocol):
    """A text encoder that cuts, and also says how long its texts were before.

    One without these methods is taken to cut nothing.
    """

    def measure_sources(self, texts: list[str]) -> tuple[Ids, Sequence[int]]:
        """Return what ``encode_sources`` does, and each text's tokens before cutting, end mark included."""

    def measure_targets(self, texts: list[str]) -> tuple[Ids, Sequence[int]]:
        """Return what ``encode_targets`` does, and each text's tokens before cutting, end mark included."""


@runtime_checkable
class PortableEncoder(Protocol):
    """A text encoder that has a lighter form for other processes. One without is pickled itself."""

    def portable(self) -> TextEncoder:
        """Return what makes the same numbers, and can be pickled."""


def encode_texts(encoder: TextEncoder, texts: pa.RecordBatch) -> pa.RecordBatch:
    """Return the tokens of a batch of sources and targets; a missing target has no tokens and length 0.

    Raises:
        ValueError: the encoder returned another number of rows than it was given.
    """
    sources, targets = texts.column(0).to_pylist(), texts.column(1).to_pylist()
    given = [target for target in targets if target is not None]
    if isinstance(encoder, MeasuringEncoder):
        inputs, source_tokens = encoder.measure_sources(sources)
        labels, target_tokens = encoder.measure_targets(given) if given else ([], [])
    else:
        inputs = encoder.encode_sources(sources)
        labels = encoder.encode_targets(given) if given else []
        source_tokens, target_tokens = [len(ids) for ids in inputs], [len(ids) for ids in labels]
    for made, wanted in ((inputs, sources), (source_tokens, sources), (labels, given), (target_tokens, given)):
        if len(made) != len(wanted):
            raise ValueError(f"the encoder returned {len(made)} rows for {len(wanted)} texts")
    pairs = zip(labels, target_tokens, strict=True)
    filled = [next(pairs) if target is not None else ((), 0) for target in targets]
    columns = [
        _token_lists(inputs),
        _token_lists([ids for ids, _ in filled]),
        pa.array(source_tokens, type=pa.int32()),
        pa.array([count for _, count in filled], type=pa.int32()),
    ]
    return pa.record_batch(columns, schema=TOKEN_SCHEMA)


def _token_lists(rows: Ids) -> pa.Array:
    ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    values = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int32, count=int(ends[-1]))
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values), type=_TOKENS)


def write_tokens(path: Path, batches: Iterable[pa.RecordBatch]) -> Iterator[int]:
    """Write batches into a file as they come, and yield the rows of each once it is written.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, TOKEN_SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield batch.num_rows


class TokenTable:
    """Token numbers by row, in memory or mapped from files.

    Args:
        batches: in the order of the rows, with ``TOKEN_SCHEMA``.
        files: the files they are mapped from; empty where they are in memory.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch], files: Sequence[Path] = ()) -> None:
        self._batches = list(batches)
        self._files = tuple(files)
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)], dtype=np.int64)

    @classmethod
    def of_files(cls, files: Sequence[Path]) -> TokenTable:
        """Map files whose batches were dealt out in turn: the first batch to the first file, and so on.

        Raises:
            OSError: a file is missing.
            ValueError: a file is damaged, has other columns, or the files do not belong together.
        """
        readers = [pa.ipc.open_file(pa.memory_map(str(file))) for file in files]
        counts = [reader.num_record_batches for reader in readers]
        if any(reader.schema != TOKEN_SCHEMA for reader in readers):
            raise ValueError(f"columns {readers[0].schema.names}; {TOKEN_SCHEMA.names} are wanted")
        if counts and (counts != sorted(counts, reverse=True) or counts[0] - counts[-1] > 1):
            raise ValueError(f"files with {counts} batches do not belong together")
        total = sum(counts)
        batches = [readers[number % len(files)].get_batch(number // len(files)) for number in range(total)]
        return cls(batches, files)

    def __reduce__(self) -> tuple[Any, ...]:
        # Mapped files are mapped again in a process that gets the table, not sent to it.
        if self._files and all(file.exists() for file in self._files):
            return TokenTable.of_files, (self._files,)
        return TokenTable, (self._batches,)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def row(self, index: int) -> dict[str, list[int]]:
        """Return the ``input_ids`` and ``labels`` of a row, counted from 0.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there is no row {index} among {len(self)}")
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        place, batch = index - int(self._starts[number]), self._batches[number]
        return {
            name: batch.column(column)[place].values.to_numpy(zero_copy_only=False).tolist()
            for column, name in enumerate(("input_ids", "labels"))
        }

    def token_counts(self, column: str) -> Lengths:
        """Return how many tokens each row has in ``input_ids`` or ``labels``."""
        return _joined(pc.list_value_length(batch.column(column)) for batch in self._batches)

    def numbers(self, column: str) -> Lengths:
        """Return a column of numbers: ``source_tokens`` or ``target_tokens``."""
        return _joined(batch.column(column) for batch in self._batches)


def _joined(arrays: Iterable[pa.Array]) -> Lengths:
    parts = [array.to_numpy(zero_copy_only=False).astype(np.int32) for array in arrays]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
