"""Show a person how training goes: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

if TYPE_CHECKING:
    from dlgsum.training.hooks.keep_best import KeepBest
    from dlgsum.training.trainer import SummarizationTrainer

_NOTE_EVERY = 0.5  # seconds between two renewals of the numbers beside the bar
_LINE_EVERY = 10.0  # seconds between plain lines: enough to see life, few enough for a CI log


class ShowProgress(TrainerCallback):
    """Progress of the run, one line an evaluation, the best marked, and sample dialogues.

    Args:
        mode: "auto" (bars on a terminal, else lines), "bar", "lines" or "off".
        samples: dialogues shown after each evaluation.
    """

    def __init__(
        self, trainer: SummarizationTrainer, keep_best: KeepBest, console: Console, *, mode: str, samples: int
    ) -> None:
        self._trainer = trainer
        self._keep_best = keep_best
        self._console = console
        self._samples = samples
        self._mode = ("bar" if console.is_terminal else "lines") if mode == "auto" else mode
        self._bar: Progress | None = None
        self._train_task: Any = None
        self._eval_task: Any = None
        self._eval_batches = 0
        self._loss = math.nan
        self._started = self._last_line = time.monotonic()
        self._first_step = 0
        self._evaluating = 0.0  # seconds spent in evaluations, which are no part of the training rate
        self._eval_began: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bars."""
        if not state.is_world_process_zero:
            self._mode = "off"
        self._started = self._last_line = time.monotonic()
        self._first_step = state.global_step
        if self._mode == "bar":
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description} {task.completed}/{task.total}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._train_task = self._bar.add_task(
                "training", total=state.max_steps, completed=state.global_step, note=""
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Advance the bar, or print a line now and then."""
        now = time.monotonic()
        if self._bar is not None:
            # The note waits for the device, so it is not renewed at every step.
            if now - self._last_line >= _NOTE_EVERY:
                self._last_line = now
                self._bar.update(self._train_task, note=self._note(state))
            self._bar.update(self._train_task, completed=state.global_step)
        elif self._mode == "lines" and now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            done = state.global_step - self._first_step
            left = (now - self._started) / max(done, 1) * (state.max_steps - state.global_step)
            self._console.print(
                f"step {state.global_step}/{state.max_steps}  {self._note(state)}  {_duration(left)} left", markup=False
            )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember the latest training loss."""
        self._loss = (logs or {}).get("loss", self._loss)

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Advance the bar of an evaluation."""
        if self._eval_began is None:
            self._eval_began = time.monotonic()
        self._eval_batches += 1
        if self._bar is None:
            return
        if self._eval_task is None:
            self._eval_task = self._bar.add_task("evaluation", total=self._trainer.evaluation_batches, note="")
        self._bar.update(self._eval_task, completed=self._eval_batches)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print one line of scores and the sample dialogues."""
        if self._eval_began is not None:
            self._evaluating += time.monotonic() - self._eval_began
            self._eval_began = None
        if self._bar is not None and self._eval_task is not None:
            self._bar.remove_task(self._eval_task)
        self._eval_task, self._eval_batches = None, 0
        evaluation = self._trainer.last_evaluation
        if self._mode == "off" or not metrics or evaluation is None or evaluation.prefix != "eval":
            return
        verdict = self._keep_best.last_verdict
        self._console.print(
            f"epoch {state.epoch or 0:.2f}  step {state.global_step}  " + score_line(evaluation.metrics, "eval"),
            "[bold green]★ best[/]" if verdict is not None and verdict.best else "",
        )
        self._show_samples()

    def close(self) -> None:
        """Close the bars: after the test rows are scored, or when training ended by an exception."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _note(self, state: TrainerState) -> str:
        seconds = max(time.monotonic() - self._started - self._evaluating, 1e-9)
        rate = (state.global_step - self._first_step) / seconds
        tokens = int(self._trainer.source_tokens + self._trainer.target_tokens) / seconds
        loss = "" if math.isnan(self._loss) else f"  loss {self._loss:.3f}"
        return f"epoch {state.epoch or 0:.2f}{loss}  {rate:.1f} steps/s  {tokens:,.0f} tokens/s"

    def _show_samples(self) -> None:
        evaluation = self._trainer.last_evaluation
        if evaluation is None:
            return
        show: Callable[..., None] = self._console.print
        for row, text in zip(evaluation.split.rows[: self._samples], evaluation.texts, strict=False):
            lines = row.dialogue.splitlines()
            show(
                f"  dialogue    {lines[0] if lines else ''} … ({len(lines)} turns, {row.id})", style="dim", markup=False
            )
            if row.references:
                show(f"  reference   {row.references[0]}", style="dim", markup=False)
            show(f"  prediction  {text}", style="dim", markup=False)


def score_line(metrics: dict[str, float], prefix: str) -> str:
    """Return the scores of an evaluation on one line, ROUGE times 100."""
    shown = []
    if f"{prefix}_loss" in metrics:
        shown.append(f"loss {metrics[f'{prefix}_loss']:.3f}")
    for name, label in (("rouge1", "R1"), ("rouge2", "R2"), ("rougeL", "RL"), ("rouge_combined", "combined")):
        value = metrics.get(f"{prefix}_{name}_f1")
        if value is not None:
            shown.append(f"{label} {100 * value:.2f}")
    return "  ".join(shown)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
