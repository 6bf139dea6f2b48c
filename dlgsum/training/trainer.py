"""The one Trainer: planned batches, token-exact loss, evaluation by generation."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PrinterCallback, Seq2SeqTrainer, Seq2SeqTrainingArguments

from dlgsum.config.schema import Config
from dlgsum.core.errors import TrainingFailed, UsageError
from dlgsum.data.batching import PlannedBatchSampler
from dlgsum.data.encode import EncodedSplit
from dlgsum.metrics.suite import MetricSuite, SuiteResult
from dlgsum.training.inference import SummaryGenerator
from dlgsum.training.loss import SummaryLoss


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: the data, the summaries, the scores (None without references) and all metrics."""

    split: EncodedSplit
    prefix: str
    texts: list[str]
    scores: SuiteResult | None
    metrics: dict[str, float]


class SummarizationTrainer(Seq2SeqTrainer):
    """Seq2SeqTrainer with our batches, our loss and our evaluation.

    Args:
        generator: model, tokenizer, collator and decoding settings.
        suite: the metrics.
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
        self._bad_steps = 0
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
            batch_size=training.per_device_train_batch_size,
            tokens_per_batch=training.tokens_per_batch,
            seed=self.args.seed,
            epochs=self._epochs_ahead(split),
            world_size=self.args.world_size,
            rank=self.args.process_index,
        )
        loader: DataLoader[Any] = DataLoader(
            split,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
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
            fewest = max(tokens // self.config.training.tokens_per_batch, 1)
        else:
            fewest = math.ceil(len(split) / self.args.per_device_train_batch_size)
        return int(-(-batches // fewest)) + 1

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Do one forward and backward pass, and count real tokens on the device, without waiting for it."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.source_tokens += inputs["attention_mask"].sum().to(self.source_tokens.device)
        self.target_tokens += inputs["labels"].ne(-100).sum().to(self.target_tokens.device)
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Clip, and stop before a non-finite gradient reaches the weights."""
        norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        finite = norm is None or bool(torch.isfinite(torch.as_tensor(norm)))
        self._bad_steps = 0 if finite else self._bad_steps + 1
        # Under fp16 an overflow is routine: the loss scaler skips the step and halves its factor, which begins at
        # 2^16. An overflow that outlasts all of these halvings is none.
        patience = 20 if self.args.fp16 else 0
        if self.config.monitoring.non_finite == "stop" and self._bad_steps > patience:
            raise TrainingFailed(
                f"The gradient is not finite at step {self.state.global_step + 1}; the weights were not touched.",
                "Likely causes: a learning rate that is too high (training.learning_rate), fp16 with a T5 model "
                "(training.precision=bf16), a damaged checkpoint. The best model so far is kept. "
                "monitoring.non_finite=ignore goes on regardless.",
            )
        return norm

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
