"""Experiments side by side: what differs between them, their scores, and whether a difference is more than luck."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlgsum.config.overrides import override_value
from dlgsum.config.request import Request
from dlgsum.core.errors import UsageError
from dlgsum.core.text import plural
from dlgsum.recipes.compare_blocks import TEST, VALIDATION, Block, blocks_of, scale_of, scales_in_words
from dlgsum.recipes.compare_pairs import Bootstrap, Pair, Scored, adjusted, compare_pair
from dlgsum.recipes.compare_settings import (
    Difference,
    is_ours,
    other_differences,
    setting_differences,
    unknown_environment,
)
from dlgsum.recipes.named import run_named
from dlgsum.recipes.stored import find_place
from dlgsum.tracking.record import ExperimentRecord
from dlgsum.tracking.run import RunFolder

_FEW = 100  # resamples below which no interval is worth its name


@dataclass(frozen=True)
class Compared:
    """One of the runs.

    Attributes:
        label: what it is called in the comparison: A, B and so on.
    """

    label: str
    id: str
    name: str
    status: str
    folder: str
    best_step: int | None


@dataclass(frozen=True)
class ComparisonReport:
    """Runs compared with the first of them.

    Attributes:
        settings: settings that differ; empty when the runs were asked for the same.
        others: what else differs: data, commit, versions, hardware.
        blocks: metrics, the runs of each block on one scale.
        scales: in words, what differs between the blocks.
        pairs: each other run beside the first, on the validation rows, and on the test rows where both have them.
        comparisons: how many of them there are of one metric on one split, for which p-values are adjusted.
    """

    runs: list[Compared]
    settings: list[Difference]
    others: list[Difference]
    blocks: list[Block]
    scales: list[str]
    pairs: list[Pair]
    comparisons: int
    bootstrap: Bootstrap
    notes: list[str] = field(default_factory=list)


def compare(names: Sequence[str], request: Request, bootstrap: Bootstrap | None = None) -> ComparisonReport:
    """Compare runs with the first of them; no model is loaded, and nothing is written.

    Args:
        names: two or more runs, as ``recipes.named.run_named`` takes them.
        request: says where the runs are.

    Raises:
        UsageError: a run does not exist, is named twice, or there is only one; or the bootstrap is out of range.
    """
    bootstrap = bootstrap or Bootstrap()
    _check(names, bootstrap)
    place = find_place(request)
    runs = [run_named(name, place) for name in names]
    folders = [run.path.resolve() for run in runs]
    for index, folder in enumerate(folders):
        if folder in folders[:index]:
            raise UsageError(f"'{names[index]}' and '{names[folders.index(folder)]}' are the same run, {folder.name}")
    from dlgsum.tracking.record import read_record

    return compare_records([read_record(run) for run in runs], runs, bootstrap)


def compare_records(
    records: Sequence[ExperimentRecord], runs: Sequence[RunFolder], bootstrap: Bootstrap
) -> ComparisonReport:
    """Compare what is recorded of runs, of which there are two or more."""
    labels = [_label(number) for number in range(len(records))]
    settings, others = setting_differences(records), other_differences(records)
    validation = blocks_of(VALIDATION, labels, records)
    tested = [index for index, record in enumerate(records) if record.test_metrics]
    test = blocks_of(TEST, [labels[i] for i in tested], [records[i] for i in tested]) if len(tested) > 1 else []
    scored = {split: [_scored(split, *it) for it in zip(labels, records, runs, strict=True)] for split in _SPLITS}
    pairs = []
    for index in range(1, len(records)):
        hint = _rescoring(runs, records, index)
        pairs.append(compare_pair(scored[VALIDATION][0], scored[VALIDATION][index], VALIDATION, bootstrap, hint=hint))
        if {0, index} <= set(tested):
            pairs.append(compare_pair(scored[TEST][0], scored[TEST][index], TEST, bootstrap, hint=hint))
    comparisons = max(Counter(pair.split for pair in pairs if pair.metrics).values(), default=0)
    compared = [
        Compared(label, it.id, it.name, it.status, it.folder, it.best_step)
        for label, it in zip(labels, records, strict=True)
    ]
    return ComparisonReport(
        runs=compared,
        settings=settings,
        others=others,
        blocks=[*validation, *test],
        scales=[*scales_in_words(validation), *scales_in_words(test)],
        pairs=adjusted(pairs, bootstrap.level),
        comparisons=comparisons,
        bootstrap=bootstrap,
        notes=[*_notes(compared, records), *_too_few(comparisons, bootstrap)],
    )


def _check(names: Sequence[str], bootstrap: Bootstrap) -> None:
    if len(names) < 2:
        raise UsageError("There is nothing to compare with", "Name two runs or more: dlgsum experiments compare A B")
    if bootstrap.samples < _FEW or bootstrap.samples > 1_000_000:
        raise UsageError(f"--samples {bootstrap.samples}: must be from {_FEW} to 1,000,000")
    if not 0 < bootstrap.level < 1:
        raise UsageError(f"--level {bootstrap.level:g}: must be above 0 and below 1, such as 0.95")
    if bootstrap.seed < 0:
        raise UsageError(f"--seed {bootstrap.seed}: must be at least 0")


def _label(number: int) -> str:
    """Return A, B, …, Z, AA, AB, …"""
    text = ""
    while number >= 0:
        number, letter = divmod(number, 26)
        text, number = chr(ord("A") + letter) + text, number - 1
    return text


def _scored(split: str, label: str, record: ExperimentRecord, run: RunFolder) -> Scored:
    signature, fingerprint = scale_of(split, record)
    path, missing = _predictions(split, record, run)
    return Scored(label, path, signature, fingerprint, missing)


_SPLITS = (VALIDATION, TEST)


def _predictions(split: str, record: ExperimentRecord, run: RunFolder) -> tuple[Path | None, str]:
    """Return the predictions of a run's best model, or why there are none."""
    if split == VALIDATION:
        if record.best_step is None:
            return None, "no evaluation has chosen a best model"
        path: Path | None = run.predictions / f"eval-step-{record.best_step}.jsonl"
    else:
        # The best model predicts the test rows once, at the end; a run that was resumed may have done it before.
        files = {int(found[1]): it for it in run.predictions.glob("test-step-*.jsonl")
                 if (found := re.fullmatch(r"test-step-(\d+)\.jsonl", it.name))}  # fmt: skip
        path = files[max(files)] if files else None
    if path is not None and path.is_file():
        return path, ""
    tracking: Any = record.config.get("tracking")
    if isinstance(tracking, dict) and tracking.get("save_predictions") is False:
        return None, "tracking.save_predictions is false"
    return None, f"{path.name if path else 'test-step-*.jsonl'} is not in {run.predictions}"


def _rescoring(runs: Sequence[RunFolder], records: Sequence[ExperimentRecord], index: int) -> str:
    """Return the commands that score the models of two runs as the first of all scores; empty where it is not known."""
    first, own = (_metrics_settings(records[number]) for number in (0, index))
    if not first or not own:
        return ""
    changed = [
        f"metrics.{name}={first[name] if isinstance(first[name], str) else override_value(first[name])}"
        for name in ("scorer", "protect_tags", "references", "weights")
        if name in first and first[name] != own.get(name)
    ]
    commands = [["dlgsum", "evaluate", runs[0].id], ["dlgsum", "evaluate", runs[index].id, *changed]]
    return "\n".join(shlex.join(command) for command in commands)


def _metrics_settings(record: ExperimentRecord) -> dict[str, Any]:
    settings = record.config.get("metrics") if is_ours(record.config) else None
    return settings if isinstance(settings, dict) else {}


def _notes(runs: Sequence[Compared], records: Sequence[ExperimentRecord]) -> list[str]:
    notes = [f"{run.label} is {run.status}: its best so far is compared" for run in runs if run.status != "completed"]
    for run, record in zip(runs, records, strict=True):
        if not is_ours(record.config):
            notes.append(f"{run.label} was not trained by dlgsum: settings that it does not record are not compared")
        if unknown_environment(record):
            notes.append(f"{run.label} does not record versions and hardware")
    return notes


def _too_few(comparisons: int, bootstrap: Bootstrap) -> list[str]:
    """Say so where no p-value can be small enough after the adjustment, however large the difference."""
    if 2 * comparisons / (bootstrap.samples + 1) <= 1 - bootstrap.level:
        return []
    needed = math.ceil(4 * comparisons / (1 - bootstrap.level))
    return [
        f"{bootstrap.samples:,} resamples are too few to show any difference in {plural(comparisons, 'comparison')} at "
        f"{100 * bootstrap.level:g} %: use --samples {needed}"
    ]
