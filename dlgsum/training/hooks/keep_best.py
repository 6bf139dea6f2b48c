"""Save a new best model at once, keep the k best, and stop early when nothing improves."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dlgsum.core.files import new_folder, write_json
from dlgsum.tracking.run import RunFolder
from dlgsum.training.best import Candidate, Patience, Ranking, Verdict

logger = logging.getLogger(__name__)

SaveModel = Callable[[Path, dict[str, float], int], None]
"""Writes a complete model folder: (folder, metrics, step)."""


class KeepBest(TrainerCallback):
    """Judge each evaluation of the validation set by one metric.

    Args:
        metric: the metric's name without prefix, such as ``rouge_combined_f1``.
        save: writes a complete model into a folder.

    The best model lies in ``models/best_model``, other kept ones in ``models/step-<step>``.
    """

    def __init__(self, metric: str, ranking: Ranking, patience: Patience, run: RunFolder, save: SaveModel) -> None:
        self.metric = metric
        self.ranking = ranking
        self.patience = patience
        self.best_metrics: dict[str, float] = {}
        self.last_metrics: dict[str, float] = {}
        self.stopped_early = False
        self.last_verdict: Verdict | None = None
        self._run = run
        self._save = save
        self._training = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Judge from now on: an evaluation that a user asks for before or after training changes no file."""
        self._training = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Judge no more."""
        self._training = False

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Rank the model that was just evaluated."""
        key = f"eval_{self.metric}"
        if not self._training or metrics is None or key not in metrics:
            return
        score, previous = metrics[key], self.ranking.best
        verdict = self.ranking.consider(Candidate(state.global_step, score))
        self.last_verdict = verdict
        named = {name.removeprefix("eval_"): value for name, value in metrics.items()}
        self.last_metrics = named
        if verdict.best:
            self.best_metrics = named
        if verdict.kept and state.is_world_process_zero:
            self._keep(verdict, state.global_step, named, previous)
        if self.patience.exhausted(score):
            self.stopped_early = True
            control.should_training_stop = True
            logger.info("early stopping: no improvement of %s in %d evaluations", self.metric, self.patience.waited)

    def _keep(self, verdict: Verdict, step: int, metrics: dict[str, float], previous: Candidate | None) -> None:
        """Save the model; only when it lies there complete, others make room."""
        models = self._run.models
        with new_folder(models / f"step-{step}") as folder:
            self._save(folder, metrics, step)
        if verdict.best:
            if previous is not None and self._run.best_model.exists():
                self._run.best_model.replace(models / f"step-{previous.step}")
            (models / f"step-{step}").replace(self._run.best_model)
            self._run.event("new_best", step=step, metric=self.metric, score=metrics[self.metric])
        for dropped in verdict.dropped:
            shutil.rmtree(models / f"step-{dropped.step}", ignore_errors=True)
        write_json(
            models / "ranking.json",
            {"metric": self.metric, "greater_is_better": self.ranking.greater_is_better, **self.ranking.state()},
        )
