"""Score a trained model: with intervals, by topic, by length, and the rows it does worst on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlgsum.core.errors import DataError
from dlgsum.data.rows import Split
from dlgsum.data.sources import load_file
from dlgsum.metrics.significance import Interval, bootstrap_interval
from dlgsum.recipes import wiring
from dlgsum.recipes.baselines import lead_baseline
from dlgsum.recipes.use import TrainedModel, load_model

if TYPE_CHECKING:
    from dlgsum.metrics.suite import SuiteResult

ROUGE = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rouge_combined_f1")
COMBINED = "rouge_combined_f1"


@dataclass(frozen=True)
class Group:
    """The combined score of some rows, such as a topic's."""

    name: str
    rows: int
    score: Interval


@dataclass(frozen=True)
class WorstRow:
    """A row with one of the lowest combined scores."""

    fname: str
    score: float
    prediction: str
    reference: str


@dataclass(frozen=True)
class Report:
    """The scores of a model on a file."""

    model: str
    data: str
    rows: int
    signature: str
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    baseline: dict[str, float]
    topics: list[Group]
    lengths: list[Group]
    worst: list[WorstRow]
    predictions: list[str]


def read_data(file: Path | None, trained: TrainedModel) -> Split:
    """Read the rows to score: a file, or the validation set of the model's own configuration.

    Raises:
        DataError: the file cannot be read or has no row with a summary.
    """
    if file is not None:
        return load_file(file, trained.config.data, name="evaluation", need_summary=True)
    return wiring.build_splits(trained.config).validation


def evaluate(
    trained: TrainedModel,
    split: Split,
    *,
    batch_size: int | None = None,
    worst: int = 5,
    on_batch: Callable[[int, int], None] | None = None,
) -> Report:
    """Generate summaries for ``split`` and score them.

    Args:
        worst: how many of the lowest-scoring rows are reported.

    Raises:
        DataError: no row has a reference summary.
    """
    if not split.has_summaries:
        raise DataError(f"{split.source} has no reference summaries to score against")
    config, size = trained.config, trained.rows_in_a_batch(batch_size)
    loaded = load_model(trained)
    suite = wiring.build_suite(config, loaded.generator.tokenizer.hf.tokenize)
    generated = loaded.generator.run(loaded.encode(split), batch_size=size, on_batch=on_batch)
    scores = suite.score(generated.texts, [row.references for row in split.rows])
    samples, seed = config.metrics.bootstrap_samples, config.general.seed
    combined = scores.rows[COMBINED]

    def group(name: str, picked: Sequence[int]) -> Group:
        return Group(name, len(picked), bootstrap_interval(combined[list(picked)], samples=samples, seed=seed))

    loss = {} if generated.loss is None else {"loss": generated.loss}
    return Report(
        model=trained.name,
        data=split.source,
        rows=len(split),
        signature=scores.signature,
        metrics={**loss, **scores.metrics},
        intervals={name: bootstrap_interval(scores.rows[name], samples=samples, seed=seed) for name in ROUGE},
        baseline=lead_baseline(split.rows, suite),
        topics=[group(name, picked) for name, picked in _by_topic(split)],
        lengths=[group(name, picked) for name, picked in _by_length(split)],
        worst=_worst(split, generated.texts, scores, worst),
        predictions=generated.texts,
    )


def _by_topic(split: Split) -> list[tuple[str, list[int]]]:
    """Return rows by topic, the most frequent first; rows without a topic are left out."""
    topics: dict[str, list[int]] = {}
    for index, row in enumerate(split.rows):
        if row.topic:
            topics.setdefault(row.topic, []).append(index)
    return sorted(topics.items(), key=lambda item: (-len(item[1]), item[0]))


def _by_length(split: Split) -> list[tuple[str, list[int]]]:
    """Return rows by the characters of the dialogue, cut at the quartiles; rows of one length are never parted."""
    lengths = np.array([len(row.dialogue) for row in split.rows])
    edges = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75]))
    buckets = np.searchsorted(edges, lengths, side="left")
    parts = [np.flatnonzero(buckets == number) for number in range(len(edges) + 1)]
    return [(f"{lengths[part].min()}-{lengths[part].max()} characters", part.tolist()) for part in parts if len(part)]


def _worst(split: Split, texts: Sequence[str], scores: SuiteResult, count: int) -> list[WorstRow]:
    combined = scores.rows[COMBINED]
    picked = np.argsort(combined, kind="stable")[:count]
    return [
        WorstRow(split.rows[i].id, float(combined[i]), texts[i], split.rows[i].references[0]) for i in picked.tolist()
    ]
