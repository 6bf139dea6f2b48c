"""Watch the run: bring what is measured to the detectors and into the record, once a step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dlgsum.monitoring.probes.memory import MemoryProbe
from dlgsum.monitoring.probes.throughput import Counts, Throughput
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.watch import Watch
from dlgsum.training import parallel
from dlgsum.training.expected import ExpectedLearningRate

if TYPE_CHECKING:
    from dlgsum.training.trainer import SummarizationTrainer

_HISTOGRAM_VALUES = 20_000  # of each weight: the bins of a histogram need no more

Histograms = Callable[[int, str, torch.Tensor], None]


class Monitor(TrainerCallback):
    """Measures throughput, memory and gradients by layer, and shows every step and evaluation to the detectors.

    The numbers of a step wait until the record of that step takes them (``take``). All processes measure; what they
    exchange, they exchange at the steps that are recorded.

    Args:
        watch: the detectors; in other processes than the first one without any.
        layers_every: steps between measurements of the layers; 0: never.
        histograms: takes (step, name, values) of gradients and weights, every ``histograms_every`` steps.
    """

    def __init__(
        self,
        trainer: SummarizationTrainer,
        watch: Watch,
        *,
        layers_every: int,
        histograms_every: int = 0,
        histograms: Histograms | None = None,
    ) -> None:
        self._trainer = trainer
        self._watch = watch
        self._layers_every = layers_every
        self._histograms_every = histograms_every if histograms is not None else 0
        self._histograms = histograms
        self._throughput = Throughput()
        self._memory = MemoryProbe(trainer.args.device)
        self._expected: ExpectedLearningRate | None = None
        self._not_updated: int | None = None  # steps that the loss scaler of fp16 skipped: the schedule stood still
        self._updates = 0
        self._learning_rate = 0.0
        self._layer_norms: torch.Tensor | None = None
        self._pending: dict[str, float] = {}
        self._losses = _Mean()
        trainer.loading = self._loading

    def take(self) -> dict[str, float]:
        """Return what was measured since the last call, under its public names."""
        taken, self._pending = self._pending, {}
        return taken

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._expected = ExpectedLearningRate(args, state.max_steps)
        if self._not_updated is None:  # a checkpoint without a word of it: the schedule that it holds must do
            self._not_updated = state.global_step - int(
                getattr(kwargs["lr_scheduler"], "last_epoch", state.global_step)
            )
        self._throughput.begin(state.global_step, self._counts())
        self._throughput.pause()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note what the update begins with; gradients exist here, clipped, and their norms from before."""
        step, it = state.global_step + 1, self._trainer
        self._updates = state.global_step - (self._not_updated or 0)
        self._learning_rate = it._get_learning_rate()
        if _due(step, self._histograms_every):
            assert self._histograms is not None
            for name, values in it.gradients.distributions(_HISTOGRAM_VALUES):
                self._histograms(step, name, values)
        if _due(step, self._layers_every) and it.gradient_norms is not None:
            self._layer_norms = it.gradients.by_layer(it.gradient_norms)
            it.gradients.before_update()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure how far each layer moved."""
        skipped = bool(self._trainer.accelerator.optimizer_step_was_skipped)
        self._not_updated = (self._not_updated or 0) + skipped
        norms, self._layer_norms = self._layer_norms, None
        if norms is None:
            return
        probe = self._trainer.gradients
        ratios = probe.after_update(skipped=skipped)
        measured = {"layer_grad": norms} if ratios is None else {"layer_grad": norms, "layer_ratio": ratios}
        # One transfer for all of them: each waits for the device.
        for name, values in zip(measured, torch.stack(list(measured.values())).tolist(), strict=True):
            self._pending |= {f"{name}/{layer}": value for layer, value in zip(probe.layers, values, strict=True)}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Show the step to the detectors."""
        self._throughput.pause()
        it, skipped = self._trainer.this_step, self._trainer.skipped
        scaling = skipped.scaling > 0 and not skipped.last_one
        self._losses.add(it.loss)
        assert self._expected is not None  # training has begun
        share = self._expected.share(self._updates)
        measured: dict[str, float | None] = {}
        if control.should_log or _epoch_ends(args, state):
            measured = self._measure(state)
        self._watch.step(
            StepReading(
                step=state.global_step,
                epoch=state.epoch,
                loss=it.loss,
                grad_norm=None if scaling else it.grad_norm,
                max_grad_norm=self._trainer.config.training.max_grad_norm,
                learning_rate=self._learning_rate,
                expected_learning_rate=None if share is None else self._expected.peak * share,
                learning_rate_share=share,
                skipped=skipped.last_one,
                **measured,
            )
        )
        if measured:
            self._pending |= self._watch.metrics()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the speed of an evaluation to its record."""
        evaluation = self._trainer.last_evaluation
        if logs and "eval_runtime" in logs and evaluation is not None:
            self._pending |= self._throughput.evaluated(logs["eval_runtime"], len(evaluation.texts))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Show an evaluation of the validation rows to the detectors."""
        evaluation = self._trainer.last_evaluation
        if evaluation is None or evaluation.prefix != "eval":
            return
        metrics, wanted = evaluation.metrics, self._trainer.config.metrics
        self._watch.evaluation(
            EvaluationReading(
                step=state.global_step,
                epoch=state.epoch,
                train_loss=self._losses.take(),
                eval_loss=metrics.get("eval_loss"),
                score=metrics.get(f"eval_{wanted.best}"),
                greater_is_better=wanted.larger_wins,
                predictions=evaluation.texts,
            )
        )

    def gather(self) -> None:
        """Bring the totals up to this step, before they are saved; every process calls this."""
        self._throughput.report(self._trainer.state.global_step, self._counts())

    def state(self) -> dict[str, Any]:
        """Return what the detectors remember, and the totals; ``gather`` comes first."""
        return {
            "watch": self._watch.state(), "throughput": self._throughput.state(), "losses": self._losses.state(),
            "not_updated": self._not_updated or 0,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on watching."""
        self._watch.restore(state["watch"])
        self._throughput.restore(state["throughput"])
        self._losses.restore(state["losses"])
        self._not_updated = int(state["not_updated"])

    def _measure(self, state: TrainerState) -> dict[str, float | None]:
        """Measure throughput and memory, for the record and for the detectors."""
        rates = self._throughput.report(state.global_step, self._counts())
        memory = parallel.largest(self._memory.read())
        self._pending |= {**rates, **memory}
        return {
            "tokens_per_sec": rates.get("throughput/tokens_per_sec"),
            "device_bytes": self._memory.device_bytes,
            "host_bytes": self._memory.host_bytes,
        }

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """Let the clock run: a step begins with its batches; what lies before is saving, scoring and writing."""
        self._throughput.resume()
        started = time.perf_counter()
        yield
        self._throughput.waited(time.perf_counter() - started)

    def _counts(self) -> Counts:
        it = self._trainer
        samples, source, target = parallel.summed([it.rows_seen, int(it.source_tokens), int(it.target_tokens)])
        return Counts(samples=samples, source_tokens=source, target_tokens=target)


class _Mean:
    """The mean of the finite losses since it was asked for last."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, value: float) -> None:
        if math.isfinite(value):
            self._sum += value
            self._count += 1

    def take(self) -> float | None:
        mean = self._sum / self._count if self._count else None
        self._sum, self._count = 0.0, 0
        return mean

    def state(self) -> list[float]:
        return [self._sum, self._count]

    def restore(self, state: list[float]) -> None:
        self._sum, self._count = float(state[0]), int(state[1])


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _epoch_ends(args: TrainingArguments, state: TrainerState) -> bool:
    """Say whether this step is recorded because it is its epoch's last one."""
    epoch = state.epoch or 0.0
    return args.logging_strategy == "epoch" and abs(epoch - round(epoch)) < 1e-6
