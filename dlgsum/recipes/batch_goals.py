"""What is asked of each batch size: the range it may lie in, and the worst that this data does to it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlgsum.config.schema import Config
from dlgsum.core.errors import ConfigError
from dlgsum.recipes.probe import Generation, Training
from dlgsum.recipes.probe_steps import Shape

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit

Lengths = npt.NDArray[np.int32]

TRAIN = "training.per_device_train_batch_size"
TOKENS = "training.tokens_per_batch"
EVAL = "training.per_device_eval_batch_size"
EPOCHS = 3  # whose plans are looked through for the worst batches of a token budget

_LESS_TRAINING = (
    "Lower tokenizer.encoder_max_len, set training.activation_checkpointing=true or training.optim=adafactor, choose a "
    "smaller model, or free the memory that other programs hold."
)
_LESS_GENERATION = (
    "Lower generation.num_beams, generation.max_length or tokenizer.encoder_max_len, choose a smaller model, or free "
    "the memory that other programs hold."
)


@dataclass(frozen=True)
class Goal:
    """A batch size to be found.

    Attributes:
        key: the setting.
        what: ``training`` or ``generation``.
        smallest: the smallest size that makes sense.
        largest: the largest that is wanted.
        landmarks: sizes of which it must be known whether they fit.
        ladder: sizes of which one is chosen where speed decides.
        task: what tries a size; its limit and counting are filled in later.
        worst: the worst batch in words.
        advice: what to do where not even the smallest fits.
        facts: everything about the data and the range that decides the outcome.
    """

    key: str
    what: str
    smallest: int
    largest: int
    landmarks: Sequence[int]
    ladder: Sequence[int]
    task: Callable[[int, bool], Training | Generation]
    worst: str
    advice: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Longest:
    """The longest source and target of some rows, and the middle ones."""

    source: int
    target: int
    typical_source: int
    typical_target: int

    @classmethod
    def of(cls, splits: Sequence[EncodedSplit]) -> Longest:
        """Measure encoded rows; where there is none, all is 1."""
        sources = np.concatenate([split.source_lengths for split in splits]) if splits else np.ones(1, np.int32)
        targets = np.concatenate([split.target_lengths for split in splits]) if splits else np.ones(1, np.int32)
        if not len(sources):
            sources = targets = np.ones(1, np.int32)
        return cls(int(sources.max()), int(targets.max()), round(np.median(sources)), round(np.median(targets)))


def rows_goal(longest: Longest, *, most: int, effective: int | None, accumulation: int) -> Goal:
    """Ask for the rows of a training batch.

    Args:
        most: rows that there are.
        effective: rows of this process in one optimizer step; None leaves that to the result.
        accumulation: batches in a step where ``effective`` is None.
    """
    from dlgsum.training.batch_size import divisors, ladder

    largest = effective or most
    parts = divisors(effective) if effective else []

    def task(rows: int, timed: bool) -> Training:
        typical = Shape(rows, max(1, longest.typical_source), max(1, longest.typical_target))
        return Training(
            shapes=(Shape(rows, longest.source, longest.target),),
            timed=typical if timed else None,
            accumulation=max(1, effective // rows) if effective else accumulation,
            limit=0,
        )

    worst = f"the longest source with the longest target ({longest.source} + {longest.target} tokens)"
    facts = {"longest": longest, "largest": largest, "effective": effective, "accumulation": accumulation}
    return Goal(
        TRAIN, "training", 1, largest, parts, parts or ladder(largest), task, worst, _LESS_TRAINING, facts
    )  # fmt: skip


def generation_goal(longest: Longest, *, most: int, beams: int, tokens: int) -> Goal:
    """Ask for the rows of a generation batch.

    Args:
        most: rows that there are.
        beams: the most beams that are asked for.
        tokens: of the longest summary that may be generated.
    """
    from dlgsum.training.batch_size import ladder

    def task(rows: int, timed: bool) -> Generation:
        return Generation(Shape(rows, longest.source, longest.target), limit=0)

    words = "1 beam" if beams == 1 else f"{beams} beams"
    worst = f"the longest source ({longest.source} tokens) with {words} up to {tokens} tokens, the optimizer beside it"
    facts = {"longest": longest, "largest": most, "beams": beams, "tokens": tokens}
    return Goal(EVAL, "generation", 1, most, (), ladder(most), task, worst, _LESS_GENERATION, facts)


def tokens_goal(sources: Lengths, targets: Lengths, *, seed: int, processes: int, accumulation: int) -> Goal:
    """Ask for the token budget of a training batch.

    Args:
        sources: tokens of each source.
        targets: tokens of each target.
        seed: of the plans of batches.
    """
    from dlgsum.training.batch_size import ladder

    row = max(64, int((sources.astype(np.int64) + targets).max()))
    everything = len(sources) // processes * (int(sources.max()) + int(targets.max()))
    largest = max(row, everything)
    typical = round(np.median(sources)), max(1, round(np.median(targets)))

    def task(budget: int, timed: bool) -> Training:
        shapes = worst_shapes(sources, targets, budget, seed=seed)
        middle = Shape(max(1, budget // sum(typical)), *typical)
        return Training(shapes, middle if timed else None, accumulation, limit=0)

    worst = f"the batches of {EPOCHS} epochs with most tokens, most target tokens and most attention"
    ladder_of_budgets = [row * size for size in ladder(max(1, largest // row))]
    facts = {
        "lengths": hashlib.sha256(sources.tobytes() + targets.tobytes()).hexdigest(),
        "seed": seed,
        "processes": processes,
        "accumulation": accumulation,
    }
    return Goal(TOKENS, "training", row, largest, (), ladder_of_budgets, task, worst, _LESS_TRAINING, facts)


def worst_shapes(sources: Lengths, targets: Lengths, budget: int, *, seed: int) -> tuple[Shape, ...]:
    """Return the batches of the first epochs that take the most memory, each in another way.

    Which way counts most depends on the model: activations grow with all tokens, the output layer's with target tokens,
    attention without a fused kernel with the square of the source.
    """
    from dlgsum.data.batching import plan_batches

    shapes = {
        Shape(len(rows), int(sources[rows].max()), max(1, int(targets[rows].max())))
        for epoch in range(EPOCHS)
        for rows in plan_batches(
            sources, targets, seed=seed, epoch=epoch, mode="tokens", batch_size=1, tokens_per_batch=budget
        )
    }
    ways: list[Callable[[Shape], int]] = [
        lambda shape: shape.rows * (shape.source + shape.target),
        lambda shape: shape.rows * shape.target,
        lambda shape: shape.rows * shape.source**2,
    ]
    return tuple(dict.fromkeys(max(sorted(shapes), key=way) for way in ways))


def goals(config: Config, datasets: Mapping[str, EncodedSplit], keys: Sequence[str], *, processes: int) -> list[Goal]:
    """Return what is asked of each setting in ``keys``.

    Raises:
        ConfigError: the effective batch cannot be divided among the processes.
    """
    training, train = config.training, datasets["train"]
    found = []
    if TRAIN in keys:
        effective = training.effective_batch_size
        if effective is not None and effective % processes:
            raise ConfigError([f"training.effective_batch_size={effective} is not divisible by {processes} processes"])
        found.append(
            rows_goal(
                Longest.of([train]),
                most=max(1, len(train) // processes),
                effective=None if effective is None else effective // processes,
                accumulation=training.gradient_accumulation_steps,
            )
        )
    if TOKENS in keys:
        found.append(
            tokens_goal(
                train.source_lengths,
                train.target_lengths,
                seed=config.general.seed,
                processes=processes,
                accumulation=training.gradient_accumulation_steps,
            )
        )
    if EVAL in keys:
        scored = [split for name, split in datasets.items() if name != "train" and len(split)]
        generation = config.generation
        found.append(
            generation_goal(
                Longest.of(scored),
                most=max([1, *(-(-len(split) // processes) for split in scored)]),
                beams=max(generation.num_beams, generation.eval_num_beams or 1),
                tokens=generation.max_length or config.tokenizer.decoder_max_len,
            )
        )
    return found
