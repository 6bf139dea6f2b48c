"""Rows as token numbers: encoded once, kept on disk, memory-mapped back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import Dataset

from dlgsum.core.files import new_folder, read_json, sha256_file, sha256_text, write_json
from dlgsum.data.rows import Dialogue, Split

FORMAT_VERSION = 1  # part of the cache key: raise it when the columns or their meaning change
CHUNK_ROWS = 1000
_COLUMNS = ("input_ids", "labels")
_TOKENS = pa.list_(pa.int32())
_RECORD = "cache.json"

logger = logging.getLogger(__name__)
T = TypeVar("T")
Lengths = npt.NDArray[np.int32]
Order = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]


class TextEncoder(Protocol):
    """Turns texts into token numbers; truncation and end marks are its business."""

    @property
    def fingerprint(self) -> str:
        """Identifies everything that affects the numbers: vocabulary, lengths, prefixes, marks."""

    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        """Return the model's input for each dialogue."""

    def encode_targets(self, texts: list[str]) -> list[list[int]]:
        """Return the labels for each summary."""


@dataclass(frozen=True, slots=True)
class Restore:
    """Puts values that follow a sorted view back into the order of what was sorted."""

    order: Order

    def __call__(self, values: Sequence[T]) -> list[T]:
        """Return the values in the original order.

        Raises:
            ValueError: there are not as many values as rows.
        """
        if len(values) != len(self.order):
            raise ValueError(f"{len(values)} values for {len(self.order)} rows")
        positions = np.empty(len(self.order), dtype=np.int64)
        positions[self.order] = np.arange(len(self.order))
        return [values[position] for position in positions.tolist()]


class EncodedSplit(Dataset[dict[str, list[int]]]):
    """A map-style dataset over encoded rows; a view shares the encoded rows with what it was made from.

    Attributes:
        split: the split that was encoded, whole and in the file's order.
        reused: whether the rows came from the cache.
        rows: the dialogues in this view's order.
        source_lengths: tokens of each source in this view's order, int32.
        target_lengths: tokens of each target; 0 for a row without a summary.
    """

    def __init__(self, split: Split, table: datasets.Dataset, *, reused: bool, order: Order | None = None) -> None:
        self.split = split
        self.reused = reused
        self._table = table
        self._order: Order = np.arange(len(split), dtype=np.int64) if order is None else order
        self.rows: tuple[Dialogue, ...] = tuple(split.rows[index] for index in self._order.tolist())
        self.source_lengths: Lengths = _lengths(table, "input_ids")[self._order]
        self.target_lengths: Lengths = _lengths(table, "labels")[self._order]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        row: dict[str, list[int]] = self._table[int(self._order[index])]
        return row

    def select(self, count: int) -> EncodedSplit:
        """Return a view of the first ``count`` rows, or of all where there are fewer.

        Raises:
            ValueError: a negative count.
        """
        if count < 0:
            raise ValueError(f"count={count} must be 0 or more")
        return self._view(self._order[:count])

    def longest_first(self) -> tuple[EncodedSplit, Restore]:
        """Return a view sorted by source, then target length, and what puts its results back in order.

        The longest batch comes first, so that memory runs out at once or not at all. Ties keep their order.
        """
        order = np.lexsort((-self.target_lengths, -self.source_lengths)).astype(np.int64)
        return self._view(self._order[order]), Restore(order)

    def _view(self, order: Order) -> EncodedSplit:
        return EncodedSplit(self.split, self._table, reused=self.reused, order=order)


def encode_split(
    split: Split, encoder: TextEncoder, *, cache_dir: Path | None, progress: Progress | None = None
) -> EncodedSplit:
    """Encode a split, or take it from the cache.

    The cache is a folder in ``cache_dir`` named by the content of the rows and the encoder's fingerprint. A
    damaged one is made again and a disk that takes no more leaves the rows in memory; both are logged as
    warnings and neither is an error. The first reference is the target; a row without one has empty labels.

    Args:
        cache_dir: None keeps the rows in memory only.
        progress: called with the rows done and the rows there are after each chunk; not when reusing.

    Raises:
        ValueError: the encoder returned another number of rows than it was given.
    """
    if cache_dir is None:
        return EncodedSplit(split, _encode(split, encoder, progress), reused=False)
    folder = cache_dir / sha256_text(split.fingerprint, encoder.fingerprint, str(FORMAT_VERSION))
    table = _load(folder, len(split))
    if table is not None:
        return EncodedSplit(split, table, reused=True)
    table = _encode(split, encoder, progress)
    try:
        _save(folder, table)
    except OSError as error:
        logger.warning("Encoded rows stay in memory: %s cannot be written (%s).", cache_dir, error)
        return EncodedSplit(split, table, reused=False)
    return EncodedSplit(split, _load(folder, len(split)) or table, reused=False)


def _encode(split: Split, encoder: TextEncoder, progress: Progress | None) -> datasets.Dataset:
    sources: list[pa.Array] = []
    targets: list[pa.Array] = []
    for start in range(0, len(split), CHUNK_ROWS):
        rows = split.rows[start : start + CHUNK_ROWS]
        sources.append(_array(encoder.encode_sources([row.dialogue for row in rows]), len(rows)))
        with_summary = [row.references[0] for row in rows if row.references]
        encoded = iter(_checked(encoder.encode_targets(with_summary), len(with_summary)) if with_summary else [])
        targets.append(_array([next(encoded) if row.references else [] for row in rows], len(rows)))
        if progress is not None:
            progress(start + len(rows), len(split))
    columns = [pa.chunked_array(chunks, type=_TOKENS) for chunks in (sources, targets)]
    return datasets.Dataset(pa.table(dict(zip(_COLUMNS, columns, strict=True))))


def _checked(encoded: list[list[int]], count: int) -> list[list[int]]:
    if len(encoded) != count:
        raise ValueError(f"the encoder returned {len(encoded)} rows for {count} texts")
    return encoded


def _array(encoded: list[list[int]], count: int) -> pa.Array:
    return pa.array(_checked(encoded, count), type=_TOKENS)


def _lengths(table: datasets.Dataset, column: str) -> Lengths:
    lengths: Lengths = pc.list_value_length(table.data.column(column)).to_numpy().astype(np.int32)
    return lengths


def _save(folder: Path, table: datasets.Dataset) -> None:
    with new_folder(folder) as temporary:
        with _quiet():
            table.save_to_disk(str(temporary))
        sums = {file.name: sha256_file(file) for file in sorted(temporary.glob("*.arrow"))}
        write_json(temporary / _RECORD, {"format_version": FORMAT_VERSION, "rows": len(table), "sha256": sums})


def _load(folder: Path, rows: int) -> datasets.Dataset | None:
    """Return the cached rows, or None where there are none or they cannot be trusted."""
    try:
        if not folder.exists():
            return None
        # A torn write can leave a file that Arrow still maps, with zeros for tokens: only the sum tells.
        for name, expected in read_json(folder / _RECORD)["sha256"].items():
            if sha256_file(folder / name) != expected:
                raise ValueError(f"{name} is damaged")
        with _quiet():
            table = datasets.load_from_disk(str(folder), keep_in_memory=False)
        if len(table) != rows or tuple(table.column_names) != _COLUMNS:
            raise ValueError(f"{len(table)} rows of {table.column_names}; {rows} of {list(_COLUMNS)} are wanted")
    except Exception as error:  # datasets and Arrow raise many kinds for a broken folder; none may stop a run
        logger.warning("The cache %s is damaged and made again (%s: %s).", folder, type(error).__name__, error)
        return None
    return table


@contextmanager
def _quiet() -> Iterator[Any]:
    """Keep the progress bars of ``datasets`` off the screen."""
    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
