"""How often a run will do what: steps, evaluations, checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlgsum.recipes.space import check_space, needed_bytes

if TYPE_CHECKING:
    from dlgsum.training.trainer import SummarizationTrainer


@dataclass(frozen=True)
class Schedule:
    """The most that a full run does; it may stop early.

    Attributes:
        an_epoch: optimizer steps of one epoch.
    """

    an_epoch: int
    steps: int
    evaluations: int
    checkpoints: int


def schedule_of(trainer: SummarizationTrainer) -> Schedule:
    """Return what a trainer's full run will do."""
    args, training = trainer.args, trainer.config.training
    an_epoch = math.ceil(len(trainer.get_train_dataloader()) / args.gradient_accumulation_steps)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * an_epoch)
    return Schedule(
        an_epoch,
        steps,
        _times(training.eval_strategy, training.eval_steps, steps, an_epoch),
        _times(*training.saving, steps, an_epoch),
    )


def check_disk(trainer: SummarizationTrainer, folder: Path) -> None:
    """Refuse to start where the disk cannot take the checkpoints and models of a full run.

    Raises:
        EnvironmentProblem: too little is free.
    """
    training = trainer.config.training
    parameters = list(trainer.generator.model.parameters())
    check_space(
        folder,
        needed_bytes(
            sum(one.numel() for one in parameters),
            trainable=sum(one.numel() for one in parameters if one.requires_grad),
            optimizer=training.optim,
            keep_checkpoints=training.save_total_limit,
            planned_checkpoints=schedule_of(trainer).checkpoints,
            keep_best=training.keep_best,
        ),
    )


def _times(strategy: str, every: int | None, steps: int, an_epoch: int) -> int:
    """Return how often something happens in a full run, by its strategy; an epoch has ``an_epoch`` steps."""
    if strategy == "no":
        return 0
    if strategy == "steps":
        return steps // (every or steps)
    return math.ceil(steps / an_epoch)
