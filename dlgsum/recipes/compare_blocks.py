"""The scores of several experiments, gathered by scale: only numbers of one scale are ranked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from dlgsum.config.metric_direction import direction
from dlgsum.recipes.compare_pairs import signature_differences
from dlgsum.recipes.compare_settings import loss_differs_in
from dlgsum.tracking.record import ExperimentRecord

VALIDATION, TEST = "validation", "test"
_NOT_OF_THE_MODEL = ("runtime",)


@dataclass(frozen=True)
class MetricRow:
    """One metric: a value a run of the block, None where it has none, and the labels of the runs with the best value.

    ``best`` is empty where the metric has no better or worse, where all are equal, and where fewer than two are
    finite.
    """

    name: str
    values: list[float | None]
    best: list[str]


@dataclass(frozen=True)
class Block:
    """Runs whose numbers are on one scale: the same rows, scored in the same way.

    Attributes:
        runs: labels.
        known: whether rows and scoring are known; if not, nothing is ranked.
        notes: why a metric is not ranked.
    """

    split: str
    runs: list[str]
    signature: str
    fingerprint: str
    known: bool
    metrics: list[MetricRow]
    notes: list[str] = field(default_factory=list)


def scale_of(split: str, record: ExperimentRecord) -> tuple[str, str]:
    """Return what must be equal for two scores to be compared: signature and rows; empty where it is not known."""
    if split == VALIDATION:
        return record.signature, record.validation_fingerprint or record.data.get(VALIDATION, "")
    return record.test_signature, record.data.get(TEST, "")


def blocks_of(split: str, labels: Sequence[str], records: Sequence[ExperimentRecord]) -> list[Block]:
    """Gather runs by scale, in the order of the runs; those of which it is not known come last, unranked."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, record in enumerate(records):
        scale = scale_of(split, record)
        groups.setdefault(scale if all(scale) else ("", ""), []).append(index)
    found = []
    for scale, members in sorted(groups.items(), key=lambda item: not all(item[0])):
        of = [records[index] for index in members]
        found.append(_block(split, [labels[index] for index in members], of, scale))
    return found


def _block(split: str, labels: list[str], records: Sequence[ExperimentRecord], scale: tuple[str, str]) -> Block:
    every = [record.best_metrics if split == VALIDATION else record.test_metrics for record in records]
    names = [name for name in dict.fromkeys(name for one in every for name in one) if name not in _NOT_OF_THE_MODEL]
    others = loss_differs_in(records) if len(records) > 1 else []
    known, notes, rows = all(scale), [], []
    configs = [record.config for record in records]
    for name in names:
        values = [one.get(name) for one in every]
        ranked = known and not (name == "loss" and others)
        rows.append(MetricRow(name, values, _best(values, labels, direction(name, configs)) if ranked else []))
    if known and others and "loss" in names and len(labels) > 1:
        notes.append(f"loss is not ranked: it is on another scale with another {', '.join(others[:3])}")
    return Block(split, labels, *scale, known, rows, notes)


def _best(values: Sequence[float | None], labels: Sequence[str], sign: int) -> list[str]:
    """Return who has the best value; NaN, infinite and missing values never have it."""
    finite = [value * sign for value in values if isinstance(value, (int, float)) and math.isfinite(value) and sign]
    if len(finite) < 2 or min(finite) == max(finite):
        return []
    return [
        label
        for label, value in zip(labels, values, strict=True)
        if isinstance(value, (int, float)) and value * sign == max(finite)
    ]


def scales_in_words(blocks: Sequence[Block]) -> list[str]:
    """Return a line for each block that is not on the scale of the first, or on none that is known."""
    lines = []
    for number, block in enumerate(blocks):
        first, runs = blocks[0], ", ".join(block.runs)
        if not block.known and block.metrics:
            lines.append(f"{block.split} of {runs}: it is not recorded how, or on which rows, they were scored")
        if number == 0 or not block.known:
            continue
        parts = []
        if block.signature != first.signature:
            parts.append(f"scored in another way ({signature_differences([first.signature, block.signature])})")
        if block.fingerprint != first.fingerprint:
            parts.append(f"other rows ({first.fingerprint[:12]} / {block.fingerprint[:12]})")
        lines.append(f"{block.split} of {runs} is not on the scale of {', '.join(first.runs)}: {'; '.join(parts)}")
    return lines
