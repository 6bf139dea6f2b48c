"""Save a new best model at once, keep the k best, and stop early when nothing improves."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dlgsum.core.files import new_folder, read_json, write_json
from dlgsum.tracking.run import RunFolder
from dlgsum.training.best import Candidate, Patience, Ranking, Verdict

logger = logging.getLogger(__name__)

WriteModel = Callable[[Path, dict[str, float], int], None]
"""Writes a complete model folder: (folder, metrics, step)."""
SaveModel = Callable[[], WriteModel]
"""Takes hold of the model as it is now, in all processes together; what it returns serves the first process."""


class KeepBest(TrainerCallback):
    """Judge each evaluation of the validation set by one metric.

    Args:
        metric: the metric's name without prefix, such as ``rouge_combined_f1``.
        save: takes hold of the model, and returns what writes it into a folder.

    The best model lies in ``models/best_model``, other kept ones in ``models/step-<step>``. One that fell out of the
    ranking stays until a checkpoint knows of it: a run that is killed before that goes back to the ranking of its
    last checkpoint, and finds its models.
    """

    def __init__(self, metric: str, ranking: Ranking, patience: Patience, run: RunFolder, save: SaveModel) -> None:
        self.metric = metric
        self.ranking = ranking
        self.patience = patience
        self.best_metrics: dict[str, float] = {}
        self.last_metrics: dict[str, float] = {}
        self.stopped_early = False
        self.last_verdict: Verdict | None = None
        self._saved_steps: set[int] = set()
        self._run = run
        self.save = save
        self._training = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Judge from now on: an evaluation that a user asks for before or after training changes no file."""
        self._training = True
        # A run that stopped early and was killed before its end has nothing left to train.
        control.should_training_stop = control.should_training_stop or self.stopped_early

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
        if verdict.kept:
            write = self.save()  # every process: each may hold only a part of the weights
            if state.is_world_process_zero:
                self._keep(verdict, state.global_step, named, previous, write)
        if self.patience.exhausted(score):
            self.stopped_early = True
            control.should_training_stop = True
            logger.info("early stopping: no improvement of %s in %d evaluations", self.metric, self.patience.waited)

    def _keep(
        self, verdict: Verdict, step: int, metrics: dict[str, float], previous: Candidate | None, write: WriteModel
    ) -> None:
        """Save the model; only when it lies there complete, others make room."""
        models = self._run.models
        with new_folder(models / f"step-{step}") as folder:
            write(folder, metrics, step)
        if verdict.best:
            if previous is not None and self._run.best_model.exists():
                self._run.best_model.replace(models / f"step-{previous.step}")
            (models / f"step-{step}").replace(self._run.best_model)
            self._run.event("new_best", step=step, metric=self.metric, score=metrics[self.metric])
        self._record()
        self._remove_others(self._saved_steps)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Let go of the models that only the checkpoint before this one knew of."""
        self._saved_steps = {candidate.step for candidate in self.ranking.kept}
        if state.is_world_process_zero:
            self._remove_others(())

    def state(self) -> dict[str, Any]:
        """Return the ranking, the patience and the metrics of the best and the last model."""
        return {
            **self.ranking.state(), "patience": self.patience.state(), "best_metrics": self.best_metrics,
            "last_metrics": self.last_metrics, "stopped_early": self.stopped_early,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the ranking of a checkpoint; ``arrange_models`` then puts the files in order."""
        self.ranking.restore(state)
        self.patience.restore(state["patience"])
        self.best_metrics = {name: float(value) for name, value in state["best_metrics"].items()}
        self.last_metrics = {name: float(value) for name, value in state["last_metrics"].items()}
        self.stopped_early = bool(state["stopped_early"])
        self._saved_steps = {candidate.step for candidate in self.ranking.kept}

    def adopt_ranking(self, until: int) -> None:
        """Take the ranking from ``models/ranking.json``, up to a step; without one there is none."""
        try:
            entries = read_json(self._run.models / "ranking.json")["kept"]
            self.ranking.restore({"kept": [entry for entry in entries if int(entry["step"]) <= until]})
            best = read_json(self._run.best_model / "metrics.json")
            if self.ranking.best is not None and int(best["step"]) == self.ranking.best.step:
                self.best_metrics = {name: float(value) for name, value in best["metrics"].items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("the ranking of this run cannot be read (%s); it begins anew", error)

    def arrange_models(self) -> list[int]:
        """Make the model folders agree with the ranking; models that are not in it are removed.

        Only the first process calls this. A model that is in the ranking but nowhere on the disk leaves the ranking.

        Returns:
            The steps whose models are lost.
        """
        models = self._run.models
        if self._run.best_model.is_dir():
            step = _step_of(self._run.best_model)
            place = models / f"step-{step}"
            shutil.rmtree(place, ignore_errors=True)
            self._run.best_model.replace(place)
        there = {candidate.step for candidate in self.ranking.kept if (models / f"step-{candidate.step}").is_dir()}
        lost = [candidate.step for candidate in self.ranking.kept if candidate.step not in there]
        self.ranking.kept = [candidate for candidate in self.ranking.kept if candidate.step in there]
        best = self.ranking.best
        if best is not None:
            (models / f"step-{best.step}").replace(self._run.best_model)
        self._remove_others(())
        self._record()
        return lost

    def tidy(self) -> None:
        """Remove every model that is not among the best; for the end of a run, when no checkpoint matters any more."""
        self._remove_others(())

    def _record(self) -> None:
        write_json(
            self._run.models / "ranking.json",
            {"metric": self.metric, "greater_is_better": self.ranking.greater_is_better, **self.ranking.state()},
        )

    def _remove_others(self, spared: Iterable[int]) -> None:
        """Remove the models that neither the ranking nor ``spared`` names."""
        known = {f"step-{step}" for step in (*spared, *(candidate.step for candidate in self.ranking.kept))}
        for folder in self._run.models.glob("step-*"):
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)


def _step_of(model: Path) -> int:
    try:
        return int(read_json(model / "metrics.json")["step"])
    except (OSError, ValueError, KeyError):
        return -1
