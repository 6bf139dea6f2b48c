"""Divide rows into parts that are alike in topics and lengths, with no dialogue in two of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlgsum.core.errors import UsageError
from dlgsum.core.text import plural
from dlgsum.data.keys import Keys

Parts = npt.NDArray[np.int8]
Ints = npt.NDArray[np.int64]
_QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class PartSummary:
    """What one part of a split is like, to see that the parts are alike.

    Attributes:
        wanted: share of the rows that was asked for.
        share: share that it became.
        dialogues: different dialogues.
        topics: different topics.
        topic_gap: the largest difference between a topic's share here and in the whole file, over the topics that
            are stratified; 0 without any.
        length_p50, length_p95: characters of the dialogues.
    """

    name: str
    rows: int
    wanted: float
    share: float
    dialogues: int
    topics: int
    topic_gap: float
    length_p50: float
    length_p95: float


def check_shares(validation: float, test: float | None) -> dict[str, float]:
    """Return the share of each part by its file's name: train, dev and, where one is wanted, test.

    Raises:
        UsageError: a share is not between 0 and 1, or nothing is left to train on.
    """
    shares = {"dev": validation} | ({} if test is None else {"test": test})
    for name, value in shares.items():
        if not 0 < value < 1:  # false for NaN as well
            option = "--val" if name == "dev" else "--test"
            raise UsageError(f"{option}={value:g} must be more than 0 and less than 1", f"Try {option} 0.1.")
    rest = 1 - math.fsum(shares.values())
    if rest <= 1e-9:
        raise UsageError(
            f"--val={validation:g} and --test={test:g} leave nothing to train on; together they must be less than 1",
            "Try --val 0.1 --test 0.1.",
        )
    return {"train": rest, **shares}


def divide(
    keys: Keys, topics: Sequence[str], lengths: npt.ArrayLike, shares: Mapping[str, float], *, seed: int
) -> Parts:
    """Return for each row the number of its part, in the order of ``shares``; the first part takes what remains.

    Rows with the same key form a group, and a group is never parted. Groups are put in order by topic, within a
    topic by quarter of length, and within those by a hash of key and seed; then a group goes to a part whenever the
    part is behind its share. So any run of the order, and with it each topic and each length, is divided in the same
    proportion, and the rows of a part differ from what was wanted by no more than the largest group. Topics that
    are too rare to give a row to the smallest part are taken together. The result depends on keys, topics, lengths
    and seed, not on the order of the rows.

    Args:
        keys: one a row; the same for the same dialogue.
        topics: one a row; empty is a topic like any other.
        lengths: one a row, such as the characters of the dialogue.
        shares: part to its share, more than 0; together 1.

    Raises:
        UsageError: there are too few different dialogues for a part to get one.
    """
    names = list(shares)
    _, group_of = np.unique(keys, return_inverse=True)
    groups = int(group_of.max()) + 1 if len(keys) else 0
    _check_enough(groups, shares)
    order, weights = _order(keys, group_of, groups, topics, np.asarray(lengths), shares, seed)
    parts = np.zeros(groups, dtype=np.int8)
    left, remaining = 1.0, order
    for number in range(len(names) - 1, 0, -1):
        taken = _take(weights[remaining], shares[names[number]] / left)
        parts[remaining[taken]] = number
        remaining = remaining[~taken]
        left -= shares[names[number]]
    for number, name in enumerate(names):
        if not (parts == number).any():
            raise UsageError(
                f"{name} would get no row: many of the {len(keys):,} rows share a dialogue, and those stay together",
                "Give it a larger share, or more rows.",
            )
    return parts[group_of]


def stratified_topics(topics: Sequence[str], shares: Mapping[str, float]) -> list[str]:
    """Return the topics that occur often enough to give the smallest part a row, sorted."""
    least = min(shares.values())
    return sorted(topic for topic, count in Counter(topics).items() if count * least >= 1)


def summarise(
    parts: Parts, keys: Keys, topics: Sequence[str], lengths: npt.ArrayLike, shares: Mapping[str, float]
) -> list[PartSummary]:
    """Describe each part of a division, which must have no empty part."""
    numbers = {topic: number for number, topic in enumerate(sorted(set(topics)))}
    topic_of = np.array([numbers[topic] for topic in topics], dtype=np.int64)
    frequent = [numbers[topic] for topic in stratified_topics(topics, shares)]
    overall = np.bincount(topic_of, minlength=len(numbers)) / len(parts)
    sizes = np.asarray(lengths)
    result = []
    for number, (name, wanted) in enumerate(shares.items()):
        here = parts == number
        counts = np.bincount(topic_of[here], minlength=len(numbers))
        gaps = np.abs(counts / counts.sum() - overall)[frequent]
        middle, high = (float(value) for value in np.percentile(sizes[here], [50, 95]))
        rows = int(here.sum())
        result.append(
            PartSummary(
                name, rows, wanted, rows / len(parts), len(np.unique(keys[here])), int((counts > 0).sum()),
                float(gaps.max(initial=0.0)), middle, high,
            )
        )  # fmt: skip
    return result


def _check_enough(groups: int, shares: Mapping[str, float]) -> None:
    for name, share in shares.items():
        # 10 rows × 0.1 is a row, whatever floats say.
        if groups * share < 1 - 1e-9:
            raise UsageError(
                f"{name} would get {share:g} of {plural(groups, 'different dialogue')}, which is less than one",
                f"This share needs {math.ceil(1 / share - 1e-9):,}; or give it {1 / max(2, groups):.2g} or more.",
            )


def _order(
    keys: Keys, group_of: Ints, groups: int, topics: Sequence[str], lengths: npt.NDArray[np.int64],
    shares: Mapping[str, float], seed: int,
) -> tuple[Ints, Ints]:  # fmt: skip
    """Return the groups in the order in which they are dealt out, and the rows of each."""
    weights = np.bincount(group_of, minlength=groups).astype(np.int64)
    frequent = {topic: number for number, topic in enumerate(stratified_topics(topics, shares))}
    ranks = np.array([frequent.get(topic, len(frequent)) for topic in topics], dtype=np.int64)
    # Copies of a dialogue may differ in topic; the least rank is the same in whatever order they come.
    rank = np.full(groups, len(frequent), dtype=np.int64)
    np.minimum.at(rank, group_of, ranks)
    length = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(length, group_of, lengths.astype(np.int64))
    quarter = np.searchsorted(np.quantile(length, _QUARTILES), length, side="left")
    # To and fro, so that the lengths go on alike where one topic ends and the next begins.
    quarter = np.where(rank % 2 == 1, -quarter, quarter)
    group_keys = np.zeros(groups, dtype=np.uint64)
    group_keys[group_of] = keys
    return np.lexsort((_hashed(group_keys, seed), quarter, rank)), weights


def _take(weights: Ints, share: float) -> npt.NDArray[np.bool_]:
    """Take groups in turn so that the rows taken never differ from their share by more than half the largest group."""
    taken = np.zeros(len(weights), dtype=np.bool_)
    behind = 0.0
    for place, weight in enumerate(weights.tolist()):
        behind += share * weight
        # After taking, `behind` is less by the weight: take when that leaves the smaller difference.
        if behind >= weight / 2:
            taken[place] = True
            behind -= weight
    return taken


def _hashed(keys: Keys, seed: int) -> Keys:
    """Return keys mixed with a seed, different for different keys (the finishing steps of SplitMix64)."""
    mixed: Keys = keys + np.uint64((seed * 0x9E3779B97F4A7C15 + 1) % 2**64)
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ mixed >> np.uint64(31)
