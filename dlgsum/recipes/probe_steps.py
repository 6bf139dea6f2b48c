"""A few real optimizer steps on made-up rows of given sizes, to see their memory and their time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.schema import Config
from dlgsum.recipes import wiring

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit
    from dlgsum.training.inference import SummaryGenerator
    from dlgsum.training.trainer import SummarizationTrainer


@dataclass(frozen=True, order=True)
class Shape:
    """A batch by its size: rows, and tokens of its longest source and target."""

    rows: int
    source: int
    target: int

    def __str__(self) -> str:
        return f"{self.rows:,} x ({self.source} + {self.target})"


@dataclass
class Took:
    """The seconds of optimizer steps, and of the batches in them, one after the other."""

    steps: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)


def take_steps(
    config: Config, generator: SummaryGenerator, shapes: Sequence[Shape], *, batches: int, folder: Path
) -> Took:
    """Take one optimizer step for each shape, with our own trainer, and return how long each took.

    Args:
        batches: how many of that shape make one step.
        folder: for what the trainer might write.
    """
    from torch.utils.data import DataLoader

    rows = made_up_rows(Shape(1, 1, 1), len(generator.tokenizer.hf))
    trainer = wiring.build_trainer(_for_steps(config, len(shapes), batches), generator, rows, rows, folder)
    features = [_feature(shape, len(generator.tokenizer.hf)) for shape in shapes]
    places = [[index] * shape.rows for index, shape in enumerate(shapes) for _ in range(batches)]
    loader: DataLoader[Any] = DataLoader(
        features,  # type: ignore[arg-type]
        batch_sampler=places,
        collate_fn=generator.collator,
        pin_memory=generator.plan.device == "cuda",
    )
    trainer.get_train_dataloader = lambda: loader  # type: ignore[method-assign]
    took = Took()
    _time_steps(trainer, took)
    _calm_scaler(trainer)
    trainer.train()
    if not getattr(trainer.optimizer, "state", None) and config.training.optim != "sgd":
        raise RuntimeError("the optimizer made no step, so its memory was not seen")
    return took


def _for_steps(config: Config, steps: int, batches: int) -> Config:
    training = dataclasses.replace(
        config.training,
        max_steps=steps, gradient_accumulation_steps=batches, effective_batch_size=None, batching="samples",
        per_device_train_batch_size=1, per_device_eval_batch_size=1, tokens_per_batch=64, dataloader_num_workers=0,
        eval_strategy="no", save_strategy="no", load_best_model_at_end=False, early_stopping_patience=None,
    )  # fmt: skip
    return dataclasses.replace(config, training=training)


def _time_steps(trainer: SummarizationTrainer, took: Took) -> None:
    """Time each step and each of its batches.

    Our trainer's own ``training_step`` is passed over: it would rescue a batch that is too large by dividing it.
    """
    from transformers import TrainerCallback

    from dlgsum.training.trainer import SummarizationTrainer

    plain = super(SummarizationTrainer, trainer).training_step
    device = trainer.args.device.type

    def now() -> float:
        wait(device)
        return time.perf_counter()

    def training_step(*args: Any, **kwargs: Any) -> Any:
        started = now()
        loss = plain(*args, **kwargs)
        took.batches.append(now() - started)
        return loss

    class Steps(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.started = now()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            took.steps.append(now() - self.started)

    trainer.training_step = training_step  # type: ignore[method-assign]
    trainer.add_callback(Steps())


def _calm_scaler(trainer: SummarizationTrainer) -> None:
    """Begin fp16 with a factor of 1: at the usual 2^16 the first steps overflow and make no optimizer state."""
    import torch

    if trainer.args.fp16:
        trainer.accelerator.scaler = torch.amp.GradScaler("cuda", init_scale=1.0)


def wait(device: str) -> None:
    """Let a device finish what it was given."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def _feature(shape: Shape, vocabulary: int) -> dict[str, list[int]]:
    return {
        "input_ids": [(7919 * place) % vocabulary for place in range(shape.source)],
        "labels": [(104729 * place) % vocabulary for place in range(shape.target)],
    }


def made_up_rows(shape: Shape, vocabulary: int) -> EncodedSplit:
    """Return encoded rows that are all alike."""
    from dlgsum.data.encode import encode_split
    from dlgsum.data.rows import Dialogue, make_split

    split = make_split("made-up", "made-up rows", (Dialogue(str(n), "x", ("y",)) for n in range(shape.rows)))
    return encode_split(split, _Alike(_feature(shape, vocabulary)), cache_dir=None, processes=1)


@dataclass(frozen=True)
class _Alike:
    """An encoder that gives each text the same tokens."""

    feature: dict[str, list[int]]

    @property
    def fingerprint(self) -> str:
        """Not used: nothing is cached."""
        return "made-up"

    def encode_sources(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.feature["input_ids"]] * len(texts)

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.feature["labels"]] * len(texts)
