"""Everything a training run does, once and on the worst rows, without keeping anything of it."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dlgsum.config.schema import Config
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.log import route_transformers
from dlgsum.core.text import plural
from dlgsum.data.check_report import DataReport
from dlgsum.recipes import data_check, wiring
from dlgsum.recipes.batch_size import settle_batch_size
from dlgsum.recipes.checks import Check, CheckList
from dlgsum.recipes.failures import failures_in_words
from dlgsum.recipes.few_steps import longest_batch, shape, take_steps, widest_batch
from dlgsum.recipes.prepare import Prepared, load_generator, prepare
from dlgsum.recipes.schedule import schedule_of
from dlgsum.recipes.settle import Settled
from dlgsum.recipes.space import bytes_in, check_space, run_bytes, size_in_words

if TYPE_CHECKING:
    from dlgsum.training.inference import SummaryGenerator

TIMED_STEPS = 4
_SCORED_ROWS = 200  # enough to time a scorer by


@dataclass(frozen=True)
class Estimate:
    """What a full run would take, from what was measured; times in seconds, sizes in bytes.

    Attributes:
        steps: optimizer steps of the full run, at most: it may stop early.
        step: one of them, the median of a few on rows of typical length.
        evaluations: how often the validation rows are generated and scored.
        evaluation: one of them, with the writing of a best model. An untrained model writes to the limit, so later ones
            are faster.
        test: generating and scoring the test rows; 0 without any.
        checkpoints: how often a checkpoint is written.
        checkpoint: writing one.
        disk: what the run folder takes at its largest.
        free: what the disk has left.
    """

    steps: int
    step: float
    evaluations: int
    evaluation: float
    test: float
    checkpoints: int
    checkpoint: float
    disk: int
    free: int

    @property
    def least(self) -> float:
        """The run without its evaluations."""
        return self.steps * self.step + self.checkpoints * self.checkpoint

    @property
    def most(self) -> float:
        """The run with evaluations as slow as the one that was timed."""
        return self.least + self.evaluations * self.evaluation + self.test


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
    with failures_in_words(lambda: None), ExitStack() as stack:
        route_transformers()
        folder = _temporary_folder(wiring.output_dir(config), log, stack)
        prepared = _data(settled, log, on_data)
        settled = _batch_size(settled, prepared, log)
        config = settled.config
        generator = _model(settled, prepared, log)
        estimate = _try(config, prepared, generator, folder, log)
    check_space(wiring.output_dir(config), estimate.disk, free=estimate.free)
    return DryRun(log.checks, prepared.report, estimate)


def _temporary_folder(output: Path, log: CheckList, stack: ExitStack) -> Path:
    """Make a folder that is removed when the stack closes."""
    with log.check("output folder") as found:
        try:
            output.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=".dry-run-", dir=output))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        except OSError as error:
            raise EnvironmentProblem(
                f"Nothing can be written in {output}: {error.strerror}", "Choose another: general.output_dir=DIR"
            ) from error
        found(f"{output} is writable, {size_in_words(shutil.disk_usage(output).free)} free")
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


def _batch_size(settled: Settled, prepared: Prepared, log: CheckList) -> Settled:
    if not settled.config.training.unsettled:
        return settled
    with log.check("batch size") as found:
        settled = settle_batch_size(settled, prepared)
        found(settled.reasons["batch size"])
    return settled


def _model(settled: Settled, prepared: Prepared, log: CheckList) -> SummaryGenerator:
    with log.check("model") as found:
        generator = load_generator(settled, prepared)
        parameters = sum(parameter.numel() for parameter in generator.model.parameters())
        found(f"{settled.model.checkpoint}, {parameters / 1e6:.1f}M parameters; {generator.plan.reason}")
    return generator


def _try(config: Config, prepared: Prepared, generator: SummaryGenerator, folder: Path, log: CheckList) -> Estimate:
    training = config.training
    train, validation = prepared.datasets["train"], prepared.datasets["validation"]
    full = wiring.build_trainer(config, generator, train, validation, folder / "checkpoints")
    try_steps = partial(take_steps, config, generator, validation, folder)

    with log.check("step at the longest rows") as found:
        longest = longest_batch(config, train)
        saved = try_steps(longest, count=1, save=True)
        found(f"forward, backward and update: {shape(longest)}{_peak_memory(generator)}")
    with log.check("checkpoint") as found:
        checkpoint = bytes_in(folder / "checkpoints")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        started = time.perf_counter()
        generator.model.save_pretrained(folder / "model")
        a_model = time.perf_counter() - started
        model = bytes_in(folder / "model")
        shutil.rmtree(folder / "model")
        found(f"{size_in_words(checkpoint)} written and removed; a kept model takes {size_in_words(model)}")
    if training.batching == "tokens":
        # Batches of short sources hold many rows, and so the most target tokens, on which the output layer works.
        with log.check("step with most target tokens") as found:
            widest = widest_batch(full, train)
            try_steps(widest, count=1)
            found(f"forward, backward and update: {shape(widest)}{_peak_memory(generator)}")
    with log.check(f"{TIMED_STEPS} steps at typical rows") as found:
        planned = schedule_of(full)
        step = statistics.median(try_steps(train, count=TIMED_STEPS).steps[1:])
        found(f"{step:.3g} s a step, {planned.steps:,} steps in a full run")
    with log.check("generation") as found:
        batch = validation.select(training.eval_rows)
        suite, references = full.suite, validation.rows[0].references
        suite.score([references[0]], [references[:1]])  # loads the analyser
        started = time.perf_counter()
        full.evaluate(batch)
        a_row = (time.perf_counter() - started) / len(batch)
        written = full.last_evaluation.texts[0][:60] if full.last_evaluation else ""
        beams = generator.evaluation.num_beams
        found(f"{plural(len(batch), 'row')} with {plural(beams, 'beam')}, generated and scored in {a_row:.2g} s each")
        found(f"the first, by the model as it is: {written!r}")
    with log.check("scoring") as found:
        rows = validation.rows[:_SCORED_ROWS]
        # The references themselves, which the scorer must find equal.
        scores = suite.score([row.references[0] for row in rows], [row.references[:1] for row in rows])
        best = scores.metrics["rouge_combined_f1"]
        # A scorer for English finds nothing in Korean to compare, and then even this is below 1.
        told = f"{plural(len(rows), 'reference')} against themselves give {best:.3f} ({scores.signature})"
        if best > 0.999:
            found(told)
        else:
            found.warn(f"{told}: metrics.scorer={config.metrics.scorer} cannot read all of them")

    return Estimate(
        steps=planned.steps,
        step=step,
        evaluations=planned.evaluations,
        evaluation=len(validation) * a_row + a_model,
        test=len(prepared.datasets["test"]) * a_row if "test" in prepared.datasets else 0.0,
        checkpoints=planned.checkpoints,
        checkpoint=saved.save,
        disk=run_bytes(
            checkpoint=checkpoint,
            model=model,
            keep_checkpoints=training.save_total_limit,
            planned_checkpoints=planned.checkpoints,
            keep_best=training.keep_best,
        ),
        free=shutil.disk_usage(folder).free,
    )


def _peak_memory(generator: SummaryGenerator) -> str:
    import torch

    if generator.plan.device != "cuda":
        return ""
    return f", {torch.cuda.max_memory_reserved() / 2**30:.1f} GiB of GPU memory at the peak"
