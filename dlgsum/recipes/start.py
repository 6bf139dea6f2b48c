"""Train in this process or in several: where `dlgsum train` and `dlgsum resume` meet."""

from __future__ import annotations

from dlgsum.data.sources import Splits
from dlgsum.recipes import wiring
from dlgsum.recipes.failures import failures_in_words
from dlgsum.recipes.limits import Limits
from dlgsum.recipes.result import TrainingResult
from dlgsum.recipes.settle import Settled
from dlgsum.recipes.train import DialogueSummarizationTrainer
from dlgsum.tracking.run import Parent, RunFolder


def start(
    settled: Settled,
    *,
    run: RunFolder | None = None,
    processes: int = 1,
    limits: Limits | None = None,
    parent: Parent | None = None,
    splits: Splits | None = None,
) -> TrainingResult:
    """Begin a run, or go on with one.

    Args:
        run: the run that goes on; a new one when None.
        processes: start so many on this machine, and start them again when one dies.
        limits: how long it may take, and what is let pass.
        parent: what a new run comes from.
        splits: its rows, where they were read before; several processes read their own.

    Raises:
        DlgsumError: with the exit code of what went wrong.
    """
    limits = limits or Limits()
    if processes > 1:
        from dlgsum.recipes import supervised

        if run is None and not settled.config.training.unsettled:
            settled.config.training.for_processes(processes)  # what cannot be shared out leaves no run folder behind
        return supervised.go_on(run or wiring.new_run(settled.config, parent), settled, processes, limits)
    trainer = DialogueSummarizationTrainer(settled=settled, run=run, parent=parent, splits=splits)
    with failures_in_words(lambda: trainer.run):
        return trainer.train(limits=limits)
