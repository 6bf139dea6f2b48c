"""Which rows share a batch: rows of like length together, in an order that is new each epoch."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

BatchMode = Literal["samples", "tokens", "random"]
Indices = npt.NDArray[np.int64]
Plan = list[Indices]

# Batches' worth of shuffled rows that are sorted together. Measured at lengths like the Korean DialogSum's
# (12,457 rows): with 50, up to 13 % of the computed tokens beyond the real ones; with 100, below 10 %.
WINDOW = 100
# Sources within so many tokens count as equally long, so that rows can be sorted by target within. Exact
# source lengths leave targets unsorted: up to 18 % instead of 10 % at the same window.
STRIP = 12


def plan_batches(
    source_lengths: npt.ArrayLike,
    target_lengths: npt.ArrayLike,
    *,
    seed: int,
    epoch: int,
    mode: BatchMode,
    batch_size: int,
    tokens_per_batch: int,
    window: int = WINDOW,
    pad_to: int = 1,
    shuffle: bool = True,
    max_rows: int | None = None,
) -> Plan:
    """Divide rows among batches; every row is in exactly one.

    ``samples`` takes batches of ``batch_size`` from windows of rows sorted by length, ``tokens`` fills batches
    up to a budget from such windows, ``random`` only shuffles. The plan follows from seed and epoch alone.
    Empty lengths give an empty plan.

    Args:
        source_lengths: tokens of each source.
        target_lengths: tokens of each target.
        batch_size: rows in a batch; not used by ``tokens``.
        tokens_per_batch: the most that rows × (longest source + longest target) may be. A row longer than
            that alone gets a batch of its own; ``oversized`` counts them. Used by ``tokens`` only.
        window: batches' worth of rows that are sorted together; smaller is more random and wastes more.
        pad_to: lengths are padded to a multiple of this.
        shuffle: False keeps the file's order of windows and batches, whatever seed and epoch.
        max_rows: the most rows in a batch of ``tokens``.

    Raises:
        ValueError: lengths of different sizes, or a size that is not positive.
    """
    sources, targets = _lengths(source_lengths, target_lengths, pad_to)
    sizes = {
        "batch_size": batch_size, "tokens_per_batch": tokens_per_batch, "window": window,
        "max_rows": 1 if max_rows is None else max_rows,
    }  # fmt: skip
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size} must be 1 or more")
    rows = len(sources)
    if not rows:
        return []
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(rows) if shuffle else np.arange(rows)
    if mode == "tokens":
        per_batch = max(1, round(tokens_per_batch / max(1.0, float((sources + targets).mean()))))
        order = _sort_in_windows(order, sources, targets, window * min(per_batch, max_rows or per_batch))
        plan = _fill(order, sources, targets, tokens_per_batch, max_rows or rows)
    else:
        if mode == "samples":
            order = _sort_in_windows(order, sources, targets, window * batch_size)
        plan = [order[start : start + batch_size] for start in range(0, rows, batch_size)]
    if shuffle and mode != "random":
        plan = [plan[index] for index in random.permutation(len(plan)).tolist()]
    return plan


def _lengths(source_lengths: npt.ArrayLike, target_lengths: npt.ArrayLike, pad_to: int) -> tuple[Indices, Indices]:
    if pad_to < 1:
        raise ValueError(f"pad_to={pad_to} must be 1 or more")
    sources = np.asarray(source_lengths, dtype=np.int64)
    targets = np.asarray(target_lengths, dtype=np.int64)
    if sources.shape != targets.shape or sources.ndim != 1:
        raise ValueError(f"source lengths {sources.shape} and target lengths {targets.shape} must be alike")
    return -(-sources // pad_to) * pad_to, -(-targets // pad_to) * pad_to


def _sort_in_windows(order: Indices, sources: Indices, targets: Indices, size: int) -> Indices:
    """Sort each window by source, then target, to and fro, so that neighbours are alike across its ends."""
    window = np.arange(len(order)) // size
    strip = sources[order] // STRIP * (1 - 2 * (window % 2))
    target = targets[order] * (1 - 2 * (strip % 2))
    result: Indices = order[np.lexsort((target, strip, window))]
    return result


def _fill(order: Indices, sources: Indices, targets: Indices, budget: int, max_rows: int) -> Plan:
    plan: Plan = []
    begin = source = target = 0
    pairs = zip(sources[order].tolist(), targets[order].tolist(), strict=True)
    for position, (next_source, next_target) in enumerate(pairs):
        wider, longer = max(source, next_source), max(target, next_target)
        rows = position - begin + 1
        if position > begin and (rows > max_rows or rows * (wider + longer) > budget):
            plan.append(order[begin:position])
            begin, wider, longer = position, next_source, next_target
        source, target = wider, longer
    plan.append(order[begin:])
    return plan


def oversized(
    source_lengths: npt.ArrayLike, target_lengths: npt.ArrayLike, tokens_per_batch: int, *, pad_to: int = 1
) -> int:
    """Return how many rows alone exceed the token budget."""
    sources, targets = _lengths(source_lengths, target_lengths, pad_to)
    return int((sources + targets > tokens_per_batch).sum())


def waste(plan: Plan, source_lengths: npt.ArrayLike, target_lengths: npt.ArrayLike, *, pad_to: int = 1) -> float:
    """Return computed tokens over real tokens; 1.0 is no padding at all, and also the answer for no tokens."""
    real_sources, real_targets = _lengths(source_lengths, target_lengths, 1)
    sources, targets = _lengths(source_lengths, target_lengths, pad_to)
    real = sum(int(real_sources[rows].sum() + real_targets[rows].sum()) for rows in plan)
    computed = sum(len(rows) * int(sources[rows].max() + targets[rows].max()) for rows in plan if len(rows))
    return computed / real if real else 1.0


class PlannedBatchSampler(Sampler[list[int]]):
    """Yields the batches of one epoch after another, as lists of row indices, for a DataLoader.

    Trainers read ``len()`` once and take it for every epoch, while token budgets give each epoch another
    number of batches. So every epoch is brought to the length of the longest one by halving its batches with
    the most rows: budgets hold, and each row still comes once. Each process takes every ``world_size``-th
    batch; where there are fewer rows than processes, batches are repeated, or a process would wait forever.

    Args:
        epochs: how many epochs will run; a later one with a longer plan yields all of it.
        world_size: number of processes.
        rank: which of them this is, from 0.

    The other arguments are those of ``plan_batches``.

    Raises:
        ValueError: as ``plan_batches``, and for a rank outside ``world_size``.
    """

    def __init__(
        self,
        source_lengths: npt.ArrayLike,
        target_lengths: npt.ArrayLike,
        *,
        seed: int,
        epochs: int,
        mode: BatchMode,
        batch_size: int,
        tokens_per_batch: int,
        window: int = WINDOW,
        pad_to: int = 1,
        shuffle: bool = True,
        max_rows: int | None = None,
        world_size: int = 1,
        rank: int = 0,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank} must be from 0 to {world_size - 1} (world_size={world_size})")
        self.source_lengths, self.target_lengths = _lengths(source_lengths, target_lengths, 1)
        self.seed, self.mode, self.shuffle = seed, mode, shuffle
        self.tokens_per_batch, self.window, self.pad_to, self.max_rows = tokens_per_batch, window, pad_to, max_rows
        self.world_size, self.rank = world_size, rank
        self.rows_per_batch = batch_size
        # Accelerate reads these two from any batch sampler. A number would make it drop or fill up every
        # batch of another size, and the short one may be anywhere in a shuffled plan.
        self.batch_size = None
        self.drop_last = False
        self.epoch = 0
        # Only token budgets depend on the order; the other plans always have the same number of batches.
        counted = range(max(1, epochs) if mode == "tokens" and shuffle else 1)
        longest = max(len(self._draw(epoch)) for epoch in counted)
        self._total = -(-longest // world_size) * world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches that this process gets in each planned epoch."""
        return self._total // self.world_size

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.plan(self.epoch)[self.rank :: self.world_size]:
            yield rows.tolist()

    def plan(self, epoch: int) -> Plan:
        """Return the batches of all processes in one epoch."""
        plan = self._draw(epoch)
        total = max(self._total, -(-len(plan) // self.world_size) * self.world_size)
        plan = _split_largest(plan, total)
        # At this point a shorter plan has one row in each batch.
        return [plan[index % len(plan)] for index in range(total)] if plan else []

    def _draw(self, epoch: int) -> Plan:
        return plan_batches(
            self.source_lengths, self.target_lengths, seed=self.seed, epoch=epoch, mode=self.mode,
            batch_size=self.rows_per_batch, tokens_per_batch=self.tokens_per_batch, window=self.window,
            pad_to=self.pad_to, shuffle=self.shuffle, max_rows=self.max_rows,
        )  # fmt: skip


def _split_largest(plan: Plan, count: int) -> Plan:
    """Halve the batches with the most rows until there are ``count``, or each has one row.

    The halves stay neighbours, so that processes side by side get batches of like size.
    """
    pieces: list[Plan] = [[rows] for rows in plan]
    heap = [(-len(rows), index, 0) for index, rows in enumerate(plan)]
    heapq.heapify(heap)
    for _ in range(count - len(plan)):
        if not heap or heap[0][0] >= -1:
            break
        _, index, place = heapq.heappop(heap)
        rows = pieces[index][place]
        middle = (len(rows) + 1) // 2
        pieces[index][place] = rows[:middle]
        pieces[index].append(rows[middle:])
        heapq.heappush(heap, (-middle, index, place))
        heapq.heappush(heap, (middle - len(rows), index, len(pieces[index]) - 1))
    return [rows for group in pieces for rows in group]
