"""What a training job is made of: rows, token numbers and the model, each made once and when it is first needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dlgsum.data.sources import Splits, resolve_files
from dlgsum.recipes import introduction, wiring
from dlgsum.recipes.prepare import Prepared, load_generator, prepare
from dlgsum.recipes.processes import ALONE
from dlgsum.recipes.settle import Settled, settle_config

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit
    from dlgsum.training.checkpoints import Checkpoint
    from dlgsum.training.inference import SummaryGenerator


class Materials:
    """The rows and the model of a job.

    Args:
        settled: the configuration; ``auto`` batch sizes are settled once there are rows to try.
        splits: the rows, where they were read before.

    Attributes:
        datasets: "train", "validation" and, where there is one, "test"; empty until they are prepared.
        group: the processes that share the job.
        checkpoint: where the run goes on; None where it begins.
    """

    def __init__(self, settled: Settled, splits: Splits | None = None) -> None:
        self.settled = settled
        self.datasets: dict[str, EncodedSplit] = {}
        self.group = ALONE
        self.checkpoint: Checkpoint | None = None
        self._splits = splits
        self._prepared: Prepared | None = None
        self._generator: SummaryGenerator | None = None

    def rows(self) -> Splits:
        """Read and clean the data files.

        Raises:
            DataError: a file is missing, unreadable or without usable rows.
        """
        if self._splits is None:
            self._splits = wiring.build_splits(self.settled.config)
        return self._splits

    def take_files(self, files: Mapping[str, str]) -> None:
        """Take other files than the configuration names, by split; all that was made is made anew."""
        named = resolve_files(self.settled.config.data, folder=Path.cwd())
        data = named.replaced(self.settled.config.data, files)
        self.settled = settle_config(dataclasses.replace(self.settled.config, data=data), self.settled.model)
        self._splits = self._prepared = self._generator = None
        self.datasets = {}

    def prepared(self) -> Prepared:
        """Tokenize and check the rows, and settle the batch size; of several processes the first goes ahead.

        Raises:
            DataError: a file is missing, unreadable or without usable rows.
        """
        if self._prepared is None:
            splits = self.rows()
            with self.group.first_goes_ahead():
                self._prepared = prepare(self.settled, splits, self.checkpoint.path if self.checkpoint else None)
            self._settle_batch_size(self._prepared)
            self.datasets = self.datasets or dict(self._prepared.datasets)
        return self._prepared

    def generator(self) -> SummaryGenerator:
        """Load the model.

        Raises:
            EnvironmentProblem: the weights or the device cannot be had.
        """
        if self._generator is None:
            prepared = self.prepared()
            self._generator = load_generator(self.settled, prepared)
        return self._generator

    def say(self, name: str, text: object) -> None:
        """Print one fact about the run: the first process does, where anything is to be shown."""
        if self.group.first and self.settled.config.monitoring.progress != "off":
            introduction.say(name, text)

    def _settle_batch_size(self, prepared: Prepared) -> None:
        """Replace ``auto`` by what fits; the first process tries it out for all."""
        if not self.settled.config.training.unsettled:
            return
        from dlgsum.recipes.batch_size import settle_batch_size

        size = self.group.size
        settled = self.group.from_first(lambda: settle_batch_size(self.settled, prepared, processes=size))
        self.settled = dataclasses.replace(
            self.settled, config=settled.config, reasons=settled.reasons, history=settled.history
        )
        if "batch size" in settled.reasons:
            self.say("batch size", settled.reasons["batch size"])
