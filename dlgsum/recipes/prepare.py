"""From files to token numbers: everything of a run that comes before its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlgsum.data.check_report import DataReport, TokenLengths
from dlgsum.data.sources import Splits
from dlgsum.recipes import data_check, wiring
from dlgsum.recipes.settle import Settled

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit
    from dlgsum.training.inference import SummaryGenerator


@dataclass(frozen=True)
class Prepared:
    """The rows of a run, as read and as token numbers, with what was found in them.

    Attributes:
        datasets: "train", "validation" and, where there is one, "test".
    """

    splits: Splits
    start: wiring.Start
    datasets: dict[str, EncodedSplit]
    report: DataReport


def prepare(settled: Settled, splits: Splits | None = None, saved: Path | None = None) -> Prepared:
    """Read, tokenize and check the data; no weight is loaded.

    Args:
        splits: the rows, where they were read before.
        saved: a checkpoint of the run that goes on, whose tokenizer is used.

    Raises:
        DataError: a file is missing, unreadable or without usable rows.
        EnvironmentProblem: the tokenizer cannot be had.
    """
    config = settled.config
    splits = splits or wiring.build_splits(config)
    start = wiring.build_start(config, settled.model, splits.train, saved)
    datasets = wiring.encode(config, splits, start.tokenizer)
    report = data_check.inspect_splits(
        splits.all,
        tokens={
            name: TokenLengths(encoded.full_source_lengths, encoded.full_target_lengths)
            for name, encoded in datasets.items()
        },
        limits=data_check.limits(config),
        unknown=data_check.UnknownCharacters(start.tokenizer),
        tokenizer=data_check.tokenizer_note(settled, start, splits.train),
    )
    return Prepared(splits, start, datasets, report)


def load_generator(settled: Settled, prepared: Prepared) -> SummaryGenerator:
    """Load the model, and join it with what was prepared.

    The random state is set first, so that random weights depend on the seed alone.

    Raises:
        EnvironmentProblem: the weights or the device cannot be had.
    """
    wiring.seed_everything(settled.config)
    model = wiring.build_model(settled.config, prepared.start)
    plan = wiring.build_plan(settled.config, model)
    return wiring.build_generator(settled.config, model, prepared.start.tokenizer, plan)
