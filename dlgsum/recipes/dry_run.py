"""Everything a training run does, once and on the worst rows, without keeping anything of it."""

from __future__ import annotations

import dataclasses
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.schema import Config
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.log import route_transformers
from dlgsum.data.check_report import DataReport
from dlgsum.recipes import data_check, wiring
from dlgsum.recipes.checks import Check, CheckList
from dlgsum.recipes.failures import failures_in_words
from dlgsum.recipes.prepare import Prepared, load_generator, prepare
from dlgsum.recipes.settle import Settled

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit
    from dlgsum.training.inference import SummaryGenerator
    from dlgsum.training.trainer import SummarizationTrainer

TIMED_STEPS = 4
_SCORED_ROWS = 200  # enough to time a scorer by
_MIB = 2**20


@dataclass(frozen=True)
class Estimate:
    """What a full run would take, from what was measured; times in seconds, sizes in bytes.

    Attributes:
        steps: optimizer steps of the full run, at most: it may stop early.
        step: one of them, the median of a few on rows of typical length.
        evaluations: how often the validation rows are generated and scored.
        evaluation: one of them; an untrained model writes to the limit, so this is an upper bound.
        test: the same for the test rows; 0 without any.
        disk: what the run folder takes at its largest.
        free: what the disk has left.
    """

    steps: int
    step: float
    evaluations: int
    evaluation: float
    test: float
    disk: int
    free: int

    @property
    def seconds(self) -> float:
        """The whole run."""
        return self.steps * self.step + self.evaluations * self.evaluation + self.test


@dataclass(frozen=True)
class DryRun:
    """What was tried, what the data are like, and what a full run would take."""

    checks: list[Check]
    data: DataReport
    estimate: Estimate


def dry_run(
    settled: Settled,
    *,
    on_check: Callable[[Check], None] | None = None,
    on_data: Callable[[DataReport], None] | None = None,
) -> DryRun:
    """Do everything up to the first step, once, and say what a full run would take.

    Nothing is kept, except tokenized rows in the cache, which the real run reuses.

    Args:
        on_check: told of each check as it is passed.
        on_data: told what the rows are like.

    Raises:
        DlgsumError: what would have ended the run, with the same exit code.
    """
    config = settled.config
    log = CheckList(on_check)
    with failures_in_words(lambda: None):
        route_transformers()
        folder = _temporary_folder(wiring.output_dir(config), log)
        try:
            prepared = _data(settled, log, on_data)
            generator = _model(settled, prepared, log)
            estimate = _try(config, prepared, generator, folder, log)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if estimate.disk > estimate.free:
        raise EnvironmentProblem(
            f"A full run needs {_size(estimate.disk)} in {wiring.output_dir(config)}, which has {_size(estimate.free)}",
            "Free some, choose another general.output_dir, or lower training.save_total_limit.",
        )
    return DryRun(log.checks, prepared.report, estimate)


def _temporary_folder(output: Path, log: CheckList) -> Path:
    with log.check("output folder") as found:
        try:
            output.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=".dry-run-", dir=output))
        except OSError as error:
            raise EnvironmentProblem(
                f"Nothing can be written in {output}: {error.strerror}", "Choose another: general.output_dir=DIR"
            ) from error
        found(f"{output} is writable, {_size(shutil.disk_usage(output).free)} free")
    return folder


def _data(settled: Settled, log: CheckList, on_data: Callable[[DataReport], None] | None) -> Prepared:
    with log.check("data and tokenizer") as found:
        prepared = prepare(settled)
        rows = ", ".join(f"{name} {len(encoded)}" for name, encoded in prepared.datasets.items())
        found(f"{rows} rows, {len(prepared.start.tokenizer.hf):,} tokens in the vocabulary")
    if on_data is not None:
        on_data(prepared.report)
    data_check.refuse_errors(prepared.report, settled.config)
    return prepared


def _model(settled: Settled, prepared: Prepared, log: CheckList) -> SummaryGenerator:
    with log.check("model") as found:
        generator = load_generator(settled, prepared)
        parameters = sum(parameter.numel() for parameter in generator.model.parameters())
        found(f"{settled.model.checkpoint}, {parameters / 1e6:.1f}M parameters; {generator.plan.reason}")
    return generator


def _try(config: Config, prepared: Prepared, generator: SummaryGenerator, folder: Path, log: CheckList) -> Estimate:
    train, validation = prepared.datasets["train"], prepared.datasets["validation"]
    full = wiring.build_trainer(config, generator, train, validation, folder / "checkpoints")
    steps = _full_steps(full)

    with log.check("step at the longest rows") as found:
        worst = _longest_batch(config, train)
        _steps(config, generator, worst, validation, folder, count=1, save=True)
        sources, targets = worst.source_lengths.max(), worst.target_lengths.max()
        found(f"forward, backward and update with rows of up to {sources} + {targets} tokens{_peak_memory(generator)}")
    with log.check("checkpoint") as found:
        checkpoint = _bytes(folder / "checkpoints")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        generator.model.save_pretrained(folder / "model")
        model = _bytes(folder / "model")
        shutil.rmtree(folder / "model")
        found(f"{_size(checkpoint)} written and removed; a kept model takes {_size(model)}")
    with log.check(f"{TIMED_STEPS} steps at typical rows") as found:
        step = _steps(config, generator, train, validation, folder, count=TIMED_STEPS)
        found(f"{step:.3g} s a step, {steps:,} steps in a full run")
    with log.check("generation") as found:
        size = config.training.per_device_eval_batch_size
        batch = validation.select(size)
        started = time.perf_counter()
        beams = generator.evaluation
        texts = generator.run(batch, batch_size=size, generation=beams).texts
        a_row = (time.perf_counter() - started) / len(batch)
        found(
            f"{len(batch)} rows with {beams.num_beams} beams, {a_row:.2g} s a row at most; the first: {texts[0][:60]!r}"
        )
    with log.check("scoring") as found:
        suite = full.suite
        rows = validation.rows[:_SCORED_ROWS]
        suite.score([rows[0].references[0]], [rows[0].references[:1]])  # loads the analyser
        started = time.perf_counter()
        # The references themselves, so that the scorer works on real summaries and must find them equal.
        scores = suite.score([row.references[0] for row in rows], [row.references[:1] for row in rows])
        a_score = (time.perf_counter() - started) / len(rows)
        best = scores.metrics["rouge_combined_f1"]
        # A scorer for English finds nothing in Korean to compare, and then even this is below 1.
        told = f"{len(rows)} references against themselves give {best:.3f} ({scores.signature})"
        if best > 0.999:
            found(told)
        else:
            found.warn(f"{told}: metrics.scorer={config.metrics.scorer} cannot read all of them")

    training = config.training
    return Estimate(
        steps=steps,
        step=step,
        evaluations=_evaluations(config, steps, full),
        evaluation=len(validation) * (a_row + a_score),
        test=len(prepared.datasets["test"]) * (a_row + a_score) if "test" in prepared.datasets else 0.0,
        # One more of each than is kept: the new one is written before the old one goes.
        disk=(0 if training.saving[0] == "no" else checkpoint * ((training.save_total_limit or steps) + 1))
        + model * (training.keep_best + 1),
        free=shutil.disk_usage(folder).free,
    )


def _steps(
    config: Config,
    generator: SummaryGenerator,
    train: EncodedSplit,
    validation: EncodedSplit,
    folder: Path,
    *,
    count: int,
    save: bool = False,
) -> float:
    """Train a few steps; return the median of their seconds, without the first where there are several."""
    few = dataclasses.replace(
        config.training,
        max_steps=count, eval_strategy="no", load_best_model_at_end=False, early_stopping_patience=None,
        save_strategy="steps" if save else "no", save_steps=count,
    )  # fmt: skip
    limited = dataclasses.replace(config, training=few)
    trainer = wiring.build_trainer(limited, generator, train, validation, folder / "checkpoints")
    clock = _clock()
    trainer.add_callback(clock)
    trainer.train()
    seconds: list[float] = clock.seconds
    return statistics.median(seconds[1:] or seconds)


def _clock() -> Any:
    """Return a callback that measures each optimizer step."""
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self._begun = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._begun = self._now()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.seconds.append(self._now() - self._begun)

        def _now(self) -> float:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            return time.perf_counter()

    return Clock()


def _longest_batch(config: Config, train: EncodedSplit) -> EncodedSplit:
    """Return the rows of one optimizer step at its worst: the longest ones, as many as fit a batch."""
    training = config.training
    ordered, _ = train.longest_first()
    if training.batching == "tokens":
        longest = int(ordered.source_lengths[0] + ordered.target_lengths.max())
        return ordered.select(max(1, training.tokens_per_batch // longest) * training.accumulation)
    return ordered.select(training.per_device_train_batch_size * training.accumulation)


def _full_steps(trainer: SummarizationTrainer) -> int:
    if trainer.args.max_steps > 0:
        return trainer.args.max_steps
    an_epoch = math.ceil(len(trainer.get_train_dataloader()) / trainer.args.gradient_accumulation_steps)
    return max(1, math.ceil(trainer.args.num_train_epochs * an_epoch))


def _evaluations(config: Config, steps: int, trainer: SummarizationTrainer) -> int:
    training = config.training
    if training.eval_strategy == "no":
        return 0
    if training.eval_strategy == "steps":
        return steps // (training.eval_steps or steps)
    an_epoch = math.ceil(len(trainer.get_train_dataloader()) / trainer.args.gradient_accumulation_steps)
    return math.ceil(steps / an_epoch)


def _peak_memory(generator: SummaryGenerator) -> str:
    import torch

    if generator.plan.device != "cuda":
        return ""
    return f", {torch.cuda.max_memory_reserved() / 2**30:.1f} GiB of GPU memory at the peak"


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / _MIB:.0f} MiB"
