"""The one Trainer: planned batches, token-exact loss, evaluation by generation."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PrinterCallback, Seq2SeqTrainer, Seq2SeqTrainingArguments

from dlgsum.config.schema import Config
from dlgsum.core.errors import TrainingFailed, UsageError
from dlgsum.data.batching import PlannedBatchSampler
from dlgsum.data.collate import PLACES, Placed
from dlgsum.data.encode import EncodedSplit
from dlgsum.metrics.suite import MetricSuite, SuiteResult
from dlgsum.training import parallel
from dlgsum.training.fsdp import first_not_finite
from dlgsum.training.hooks.stop import EvaluationStopped, StopCleanly
from dlgsum.training.inference import SummaryGenerator
from dlgsum.training.loss import SummaryLoss
from dlgsum.training.micro_batches import MicroBatches
from dlgsum.training.saving import CheckpointPlan, LossSoFar, save
from dlgsum.training.sharing import SharingTrainer
from dlgsum.training.skipped import SkippedSteps
from dlgsum.training.this_step import ThisStep

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: the data, the summaries, the scores (None without references) and all metrics."""

    split: EncodedSplit
    prefix: str
    texts: list[str]
    scores: SuiteResult | None
    metrics: dict[str, float]


class SummarizationTrainer(SharingTrainer):
    """Seq2SeqTrainer with our batches, our loss and our evaluation.

    Args:
        generator: model, tokenizer, collator and decoding settings.
        suite: the metrics.

    Attributes:
        checkpoint_plan: what is saved besides what transformers saves; the recipe adds to it.
        stop: decides when to stop early; None: never.
        on_event: told of what the run's record should hold, as (kind, details).
        on_not_finite: called at each step whose loss or gradient is not finite, before anything is changed; returns
            what was found out about the first of them, in words, or nothing.
        this_step: what the step at hand is made of.
        loading: surrounds the wait for the batches of a step.
    """

    def __init__(
        self,
        *,
        config: Config,
        args: Seq2SeqTrainingArguments,
        generator: SummaryGenerator,
        suite: MetricSuite,
        train_dataset: EncodedSplit | None,
        eval_dataset: EncodedSplit | None,
    ) -> None:
        model: PreTrainedModel = generator.model
        super().__init__(
            config=config,
            model=model,
            args=args,
            data_collator=generator.collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=generator.tokenizer.hf,
            compute_loss_func=SummaryLoss(config.training.label_smoothing_factor),
        )
        self.remove_callback(PrinterCallback)
        self.config = config
        self.generator = generator
        self.suite = suite
        self.last_evaluation: Evaluation | None = None
        self.evaluation_batches = 0
        self.stop: StopCleanly | None = None
        self.on_event: Callable[..., None] = lambda kind, **details: None
        self.on_not_finite: Callable[[], str] = lambda: ""
        self.loading: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
        self.this_step = ThisStep(args.device, keep_random_states=config.monitoring.nan_report)
        self.skipped = SkippedSteps()
        self.micro_batches = MicroBatches(self._told_out_of_memory)
        loss_so_far = LossSoFar(self)
        self.add_callback(loss_so_far)
        self.checkpoint_plan = CheckpointPlan(
            stateful={"loss": loss_so_far, "skipped_steps": self.skipped, "memory": self.micro_batches},
            limit=args.save_total_limit,
            gather=[loss_so_far.gather],
        )
        self.rows_seen = 0
        self.source_tokens = torch.zeros((), dtype=torch.int64, device=args.device)
        self.target_tokens = torch.zeros((), dtype=torch.int64, device=args.device)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of planned batches (see data/batching.py)."""
        split: EncodedSplit = self.train_dataset  # type: ignore[assignment]
        training = self.config.training
        sampler = PlannedBatchSampler(
            split.source_lengths,
            split.target_lengths,
            mode=training.batching,
            batch_size=training.train_rows,
            tokens_per_batch=training.token_budget,
            seed=self.args.seed,
            epochs=self._epochs_ahead(split),
            world_size=self.args.world_size,
            rank=self.args.process_index,
        )
        rows = Placed(split, self.generator.collator)
        loader: DataLoader[Any] = DataLoader(
            rows,
            batch_sampler=sampler,
            collate_fn=rows.batch,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare_data_loader(loader)
        # The sampler already gives each process its own batches; accelerate must not divide them again.
        shard = prepared.batch_sampler
        if getattr(shard, "batch_sampler", None) is sampler:
            shard.num_processes, shard.process_index = 1, 0  # type: ignore[union-attr]
            # A resume in mid-epoch wraps the loader once more, and then nobody reaches the sampler's own method.
            shard.set_epoch = sampler.set_epoch  # type: ignore[union-attr]
        return prepared

    def _epochs_ahead(self, split: EncodedSplit) -> int:
        """Return a bound on the epochs of this run; the sampler needs it to give each the same number of batches."""
        if self.args.max_steps <= 0:
            return max(1, math.ceil(self.args.num_train_epochs))
        batches = self.args.max_steps * self.args.gradient_accumulation_steps * self.args.world_size
        if self.config.training.batching == "tokens":
            tokens = int(split.source_lengths.sum() + split.target_lengths.sum())
            fewest = max(tokens // self.config.training.token_budget, 1)
        else:
            fewest = math.ceil(len(split) / self.args.per_device_train_batch_size)
        return int(-(-batches // fewest)) + 1

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Do one forward and backward pass, and count real tokens on the device, without waiting for it."""
        places = inputs.pop(PLACES, None)
        self.this_step.enter(self.state.global_step, inputs, places, num_items_in_batch)

        def part(rows: dict[str, Any], last: bool) -> torch.Tensor:
            # Processes exchange gradients once a micro-batch, whatever number of parts each has to make of its rows.
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                return Seq2SeqTrainer.training_step(self, model, rows, num_items_in_batch)

        if self.args.world_size > 1:
            # The other processes wait for this one's gradients and cannot repeat their part; the group starts again.
            loss = self.micro_batches.once(self.same_passes(inputs, self.micro_batches.parts), part)
        else:
            loss = self.micro_batches.run(
                inputs, part, number=self.state.global_step, forget_gradients=lambda: model.zero_grad()
            )
        self.source_tokens += inputs["attention_mask"].sum().to(self.source_tokens.device)
        self.target_tokens += inputs["labels"].ne(-100).sum().to(self.target_tokens.device)
        self.rows_seen += len(inputs["labels"])
        self.this_step.add_loss(loss)
        return loss

    def get_batch_samples(self, *arguments: Any, **named: Any) -> Any:
        """Take the batches of a step from the loader."""
        with self.loading():
            return super().get_batch_samples(*arguments, **named)

    def _clip_grad_norm(self, model: nn.Module) -> float:
        """Clip; a gradient that is not finite is dropped, so that the optimizer leaves the weights alone.

        Returns:
            The norm of the whole gradient before clipping.

        Raises:
            TrainingFailed: too many steps in a row were skipped.
        """
        loss, norm = self.measure_gradients()
        self.this_step.known(loss, norm, self._get_learning_rate())
        if self.skipped.count(loss, norm, scaled=self.args.fp16):
            self._skip(loss, norm)
        if math.isfinite(loss) and math.isfinite(norm):
            self.clip_gradients()
        elif not self.args.fp16 or math.isfinite(norm):
            # Not where the loss scaler of fp16 has seen a gradient that is not finite: it must find gradients to skip.
            model.zero_grad()
        return norm

    def _skip(self, loss: float, norm: float) -> None:
        found = self.on_not_finite()
        # The first process may be writing a large report, and must not be ended by the others.
        parallel.barrier()
        step, it = self.state.global_step + 1, self.skipped
        broken = first_not_finite(self.generator.model) if it.in_a_row == 1 else None
        if broken is not None:
            raise TrainingFailed(
                f"{broken} holds values that are not finite at step {step}; no further step can mend that. "
                f"{found}".rstrip(),
                "What was saved before is whole. A checkpoint that is loaded may be damaged; memory may be faulty.",
            )
        what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
        it.refuse_too_many(self.config.training.max_skipped_steps, step=step, what=what, found=found)
        level = logging.INFO if self.config.monitoring.enabled else logging.WARNING  # a detector tells people too
        logger.log(level, "step %d is skipped: the %s is not finite (%s)", step, what, value, extra={"event": True})
        self.on_event("skipped_step", step=step, in_a_row=it.in_a_row, total=it.total, loss=loss, grad_norm=norm)

    def _told_out_of_memory(self, parts: int, rows: int, reason: str) -> None:
        step = self.state.global_step + 1
        again = "the step is done again" if self.args.world_size == 1 else "all processes start again"
        logger.warning(
            "out of memory at step %d (%s): %s with %d rows at a time, in %d parts, from now on; the effective batch "
            "stays as it is", step, reason, again, rows, parts, extra={"event": True},
        )  # fmt: skip
        self.on_event("out_of_memory", step=step, rows=rows, parts=parts, reason=reason, again=again)

    def _finalize_training(self, *arguments: Any, **named: Any) -> Any:
        """End the training; the mean loss that is recorded is that of all processes."""
        if self.args.world_size > 1:
            self._tr_loss = self.accelerator.reduce(self._tr_loss, reduction="mean")
        return super()._finalize_training(*arguments, **named)  # type: ignore[no-untyped-call]

    def save_parts(self, folder: Path) -> None:
        """Write what transformers writes into a checkpoint, but for ``trainer_state.json``.

        Raises:
            TrainingFailed: a weight is NaN or infinite. Such a checkpoint would take the place of a good one.
        """
        broken = first_not_finite(self.generator.model)
        if broken is not None:
            raise TrainingFailed(
                f"{broken} holds values that are not finite at step {self.state.global_step}; it is not saved.",
                "What was saved before is whole. A lower training.learning_rate usually helps.",
            )
        self.store_flos()
        self.save_model(str(folder), _internal_call=True)
        # A pickle, which nothing of ours reads: dlgsum.yaml says the same.
        (folder / "training_args.bin").unlink(missing_ok=True)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint that is whole or absent; transformers writes into the final place, file by file."""
        seconds = save(self, self.checkpoint_plan)
        if self.stop is not None:
            self.stop.deadline.save_seconds = seconds

    def _run_epoch(self, **arguments: Any) -> None:  # type: ignore[override]
        """Do an epoch; none where the evaluation that a stopped run owed has just ended the training."""
        if not self.control.should_training_stop:
            super()._run_epoch(**arguments)  # type: ignore[no-untyped-call]

    def _evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """Evaluate while training; an evaluation that a signal broke off becomes a checkpoint and a stop."""
        try:
            return super()._evaluate(*arguments, **named)
        except EvaluationStopped:
            assert self.stop is not None
            self.stop.break_off(self.control)
            return {}

    def evaluate(  # type: ignore[override]
        self,
        eval_dataset: EncodedSplit | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, float]:
        """Generate summaries for a data set, score them, log the metrics and tell the callbacks.

        Args:
            eval_dataset: the validation set when None.
            metric_key_prefix: put before each metric's name, as in ``eval_rouge_combined_f1``.
            gen_kwargs: refused; decoding is part of the configuration, so that every score says how it came about.

        Returns:
            Metrics by name; those that need references are absent without them.
        """
        split: EncodedSplit = eval_dataset if eval_dataset is not None else self.eval_dataset  # type: ignore[assignment]
        if gen_kwargs:
            raise UsageError(f"evaluate() takes no {', '.join(gen_kwargs)}; set generation.* in the configuration")
        started = time.perf_counter()
        self.evaluation_batches = -(-len(split) // self.args.per_device_eval_batch_size)

        def on_batch(done: int, rows: int) -> None:
            self.callback_handler.on_prediction_step(self.args, self.state, self.control)

        generated = self.generator.run(
            split,
            batch_size=self.args.per_device_eval_batch_size,
            generation=self.generator.evaluation if metric_key_prefix == "eval" else self.generator.generation,
            on_batch=on_batch,
        )
        values: dict[str, float] = {} if generated.loss is None else {"loss": generated.loss}
        scores = None
        if split.split.has_summaries and len(split):
            scores = self.suite.score(generated.texts, [row.references for row in split.rows])
            values |= scores.metrics
        values["runtime"] = time.perf_counter() - started
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in values.items()}
        self.last_evaluation = Evaluation(split, metric_key_prefix, generated.texts, scores, metrics)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
