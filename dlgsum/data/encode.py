"""Rows as token numbers: encoded once, kept on disk, memory-mapped back."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from dlgsum.core.files import new_folder, read_json, sha256_file, sha256_text, write_json
from dlgsum.data.dialogues import Rows, RowView
from dlgsum.data.rows import Split
from dlgsum.data.token_table import Lengths, MeasuringEncoder, TextEncoder, TokenTable
from dlgsum.data.tokenizing import Progress, token_batches, write_shards

__all__ = ["EncodedSplit", "MeasuringEncoder", "Restore", "TextEncoder", "encode_split"]

FORMAT_VERSION = 2  # part of the cache key: raise it when the columns or their meaning change
MEMORY_ROWS = 50_000  # rows whose tokens stay in memory where nothing is cached: about 60 MB
_RECORD = "cache.json"

logger = logging.getLogger(__name__)
T = TypeVar("T")
Order = npt.NDArray[np.int64]


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
        full_source_lengths: tokens that each source would have if nothing were cut, end mark included.
        full_target_lengths: the same of each target; 0 for a row without a summary.
    """

    def __init__(self, split: Split, table: TokenTable, *, reused: bool, order: Order | None = None) -> None:
        self.split = split
        self.reused = reused
        self._table = table
        self._order: Order = np.arange(len(split), dtype=np.int64) if order is None else order
        self.rows: Rows = RowView(split.rows, self._order)
        self.source_lengths: Lengths = table.token_counts("input_ids")[self._order]
        self.target_lengths: Lengths = table.token_counts("labels")[self._order]
        self.full_source_lengths: Lengths = table.numbers("source_tokens")[self._order]
        self.full_target_lengths: Lengths = table.numbers("target_tokens")[self._order]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self._table.row(int(self._order[index]))

    def select(self, count: int) -> EncodedSplit:
        """Return a view of the first ``count`` rows, or of all where there are fewer.

        Raises:
            ValueError: a negative count.
        """
        if count < 0:
            raise ValueError(f"count={count} must be 0 or more")
        return self._view(self._order[:count])

    def pick(self, places: Sequence[int]) -> EncodedSplit:
        """Return a view of the rows at these places of this view, in that order."""
        return self._view(self._order[np.asarray(places, dtype=np.int64)])

    def longest_first(self) -> tuple[EncodedSplit, Restore]:
        """Return a view sorted by source, then target length, and what puts its results back in order.

        The longest batch comes first, so that memory runs out at once or not at all. Ties keep their order.
        """
        order = np.lexsort((-self.target_lengths, -self.source_lengths)).astype(np.int64)
        return self._view(self._order[order]), Restore(order)

    def _view(self, order: Order) -> EncodedSplit:
        return EncodedSplit(self.split, self._table, reused=self.reused, order=order)


def encode_split(
    split: Split,
    encoder: TextEncoder,
    *,
    cache_dir: Path | None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> EncodedSplit:
    """Encode a split, or take it from the cache; memory does not grow with its rows.

    The cache is a folder in ``cache_dir`` named by the content of the rows and the encoder's fingerprint. A
    damaged one is made again and a disk that takes no more leaves the rows in memory; both are logged as
    warnings and neither is an error. The first reference is the target; a row without one has empty labels.

    Args:
        encoder: where it is a ``MeasuringEncoder``, the lengths before cutting are those it says; otherwise those
            of what it returns.
        cache_dir: None keeps few rows in memory, and many in a temporary file.
        processes: as ``data.processes``; None takes as many as pay. The tokens are the same with any number, and
            so is the place in the cache.
        progress: called with the rows done and the rows there are after each batch; not when reusing.

    Raises:
        ValueError: the encoder returned another number of rows than it was given.
        EnvironmentProblem: a process that tokenizes died.
    """
    if cache_dir is None:
        return EncodedSplit(split, _uncached(split, encoder, processes, progress), reused=False)
    folder = cache_dir / sha256_text(split.fingerprint, encoder.fingerprint, str(FORMAT_VERSION))
    table = _load(folder, len(split))
    if table is not None:
        return EncodedSplit(split, table, reused=True)
    try:
        with new_folder(folder) as temporary:
            files = write_shards(split.rows, encoder, temporary, processes=processes, progress=progress)
            sums = {file.name: sha256_file(file) for file in files}
            write_json(temporary / _RECORD, {"format_version": FORMAT_VERSION, "rows": len(split), "sha256": sums})
    except OSError as error:
        logger.warning("Encoded rows stay in memory: %s cannot be written (%s).", cache_dir, error)
        return EncodedSplit(split, _in_memory(split, encoder, progress), reused=False)
    table = _load(folder, len(split))
    return EncodedSplit(split, table or _in_memory(split, encoder, None), reused=False)


def _uncached(split: Split, encoder: TextEncoder, processes: int | None, progress: Progress | None) -> TokenTable:
    if len(split) <= MEMORY_ROWS:
        return _in_memory(split, encoder, progress)
    folder = Path(tempfile.mkdtemp(prefix="dlgsum-tokens-"))
    try:
        files = write_shards(split.rows, encoder, folder, processes=processes, progress=progress)
        return TokenTable.of_files(files)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what is mapped stays until the table goes


def _in_memory(split: Split, encoder: TextEncoder, progress: Progress | None) -> TokenTable:
    batches, done = [], 0
    for batch in token_batches(split.rows, encoder):
        batches.append(batch)
        done += batch.num_rows
        if progress is not None:
            progress(done, len(split))
    return TokenTable(batches)


def _load(folder: Path, rows: int) -> TokenTable | None:
    """Return the cached rows, or None where there are none or they cannot be trusted."""
    try:
        if not folder.exists():
            return None
        sums = read_json(folder / _RECORD)["sha256"]
        # A torn write can leave a file that Arrow still maps, with zeros for tokens: only the sum tells.
        for name, expected in sums.items():
            if sha256_file(folder / name) != expected:
                raise ValueError(f"{name} is damaged")
        table = TokenTable.of_files([folder / name for name in sorted(sums)])
        if len(table) != rows:
            raise ValueError(f"{len(table)} rows; {rows} are wanted")
    except Exception as error:  # Arrow raises many kinds for a broken folder; none may stop a run
        logger.warning("The cache %s is damaged and made again (%s: %s).", folder, type(error).__name__, error)
        return None
    return table
