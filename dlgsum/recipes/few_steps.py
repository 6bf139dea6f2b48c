"""A few steps of training, timed, on rows that are chosen for being the worst."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.schema import Config
from dlgsum.core.text import plural
from dlgsum.recipes import wiring

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit
    from dlgsum.training.inference import SummaryGenerator
    from dlgsum.training.trainer import SummarizationTrainer


@dataclass
class Taken:
    """The seconds of each step, and of writing a checkpoint."""

    steps: list[float] = field(default_factory=list)
    save: float = 0.0


def take_steps(
    config: Config,
    generator: SummaryGenerator,
    validation: EncodedSplit,
    folder: Path,
    train: EncodedSplit,
    *,
    count: int,
    save: bool = False,
) -> Taken:
    """Train a few steps on the rows of ``train``, and write a checkpoint if asked to."""
    few = dataclasses.replace(
        config.training,
        max_steps=count, eval_strategy="no", load_best_model_at_end=False, early_stopping_patience=None,
        save_strategy="steps" if save else "no", save_steps=count,
    )  # fmt: skip
    limited = dataclasses.replace(config, training=few)
    trainer = wiring.build_trainer(limited, generator, train, validation, folder / "checkpoints")
    taken = Taken()
    trainer.add_callback(_clock(taken))
    trainer.train()
    return taken


def _clock(taken: Taken) -> Any:
    """Return a callback that measures each optimizer step and each checkpoint."""
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self._since = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._lap()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            taken.steps.append(self._lap())

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            taken.save = self._lap()

        def _lap(self) -> float:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            before, self._since = self._since, time.perf_counter()
            return self._since - before

    return Clock()


def longest_batch(config: Config, train: EncodedSplit) -> EncodedSplit:
    """Return the rows of one optimizer step at its worst: the longest ones, as many as fit a batch."""
    training = config.training
    ordered, _ = train.longest_first()
    if training.batching == "tokens":
        longest = int(ordered.source_lengths[0] + ordered.target_lengths.max())
        return ordered.select(max(1, training.token_budget // longest) * training.accumulation())
    return ordered.select(training.train_rows * training.accumulation())


def widest_batch(trainer: SummarizationTrainer, train: EncodedSplit) -> EncodedSplit:
    """Return the batch of the first epoch that has the most target tokens, padding included."""
    targets = train.target_lengths
    sampler: Any = trainer.get_train_dataloader().batch_sampler
    plan = [list(rows) for rows in getattr(sampler, "batch_sampler", sampler)]
    return train.pick(max(plan, key=lambda rows: len(rows) * int(targets[rows].max())))


def shape(batch: EncodedSplit) -> str:
    """Return the size of a batch in words."""
    sources, targets = batch.source_lengths.max(), batch.target_lengths.max()
    return f"{plural(len(batch), 'row')} of up to {sources} + {targets} tokens"
