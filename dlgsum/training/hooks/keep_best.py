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
        self.stopped_early = False
        self.last_verdict: Verdict | None = None
        self._run = run
        self._save = save

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
        if metrics is None or key not in metrics:  # an evaluation of another data set
            return
        score = metrics[key]
        verdict = self.ranking.consider(Candidate(state.global_step, score))
        self.last_verdict = verdict
        if verdict.best:
            self.best_metrics = {name.removeprefix("eval_"): value for name, value in metrics.items()}
        if state.is_world_process_zero:
            self._move_files(verdict, state.global_step, metrics)
        if self.patience.exhausted(score):
            self.stopped_early = True
            control.should_training_stop = True
            logger.info("early stopping: no improvement of %s in %d evaluations", self.metric, self.patience.waited)

    def _move_files(self, verdict: Verdict, step: int, metrics: dict[str, float]) -> None:
        if not verdict.kept:
            return
        if verdict.best and self._run.best_model.exists() and len(self.ranking.kept) > 1:
            previous = self.ranking.kept[1].step
            self._run.best_model.replace(self._run.models / f"step-{previous}")
        target = self._run.best_model if verdict.best else self._run.models / f"step-{step}"
        with new_folder(target) as folder:
            self._save(folder, {name.removeprefix("eval_"): value for name, value in metrics.items()}, step)
        for dropped in verdict.dropped:
            shutil.rmtree(self._run.models / f"step-{dropped.step}", ignore_errors=True)
        write_json(
            self._run.models / "ranking.json",
            {"metric": self.metric, "greater_is_better": self.ranking.greater_is_better, **self.ranking.state()},
        )
        if verdict.best:
            self._run.event("new_best", step=step, metric=self.metric, score=metrics[f"eval_{self.metric}"])
