"""Pass every metric on to the one stream, and keep the predictions of each evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dlgsum.core.files import dumps, write_text_atomic
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.samples import evenly_spread, keep_dialogues
from dlgsum.tracking.stream import MetricStream
from dlgsum.tracking.tracker import Sample

if TYPE_CHECKING:
    from dlgsum.training.trainer import Evaluation, SummarizationTrainer

# The rates at the end divide all steps of a run by the time of its last part; throughput/ says it right.
_NOT_METRICS = {"epoch", "step", "total_flos", "train_samples_per_second", "train_steps_per_second"}


class Record(TrainerCallback):
    """Write metrics and predictions as they come; only the first process writes."""

    def __init__(
        self,
        trainer: SummarizationTrainer,
        stream: MetricStream,
        run: RunFolder,
        *,
        predictions: bool,
        samples: int,
        measured: Callable[[], dict[str, float]],
    ) -> None:
        self._trainer = trainer
        self._stream = stream
        self._run = run
        self._predictions = predictions
        self._samples = samples
        self._measured = measured

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Record what was measured at a step whose loss is not recorded."""
        if state.is_world_process_zero and not control.should_log:
            self._stream.log(state.global_step, state.epoch, self._measured())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the metrics of a step under their public names, together with what was measured at it."""
        if not state.is_world_process_zero or not logs:
            return
        metrics = {public_name(name): value for name, value in logs.items() if name not in _NOT_METRICS}
        self._stream.log(state.global_step, state.epoch, metrics | self._measured())

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the predictions of an evaluation, and show some of them to the trackers."""
        evaluation = self._trainer.last_evaluation
        if not state.is_world_process_zero or evaluation is None:
            return
        places = evenly_spread(len(evaluation.texts), self._samples)
        rows = evaluation.split.rows
        if self._predictions:
            path = self._run.predictions / f"{evaluation.prefix}-step-{state.global_step}.jsonl"
            write_text_atomic(path, "".join(dumps(row) + "\n" for row in prediction_rows(evaluation)))
            dialogues = {place: (rows[place].id, rows[place].dialogue) for place in places}
            keep_dialogues(self._run, evaluation.prefix, dialogues)
        self._stream.samples(state.global_step, evaluation.prefix, [sample_of(evaluation, place) for place in places])


def public_name(name: str) -> str:
    """Return the public name of a metric: ``eval_loss`` is ``eval/loss``, ``loss`` is ``train/loss``."""
    if name == "train_loss":  # of the whole run, told at its end; train/loss of the last steps has been told by then
        return "train/mean_loss"
    for prefix in ("eval", "test", "train"):
        if name.startswith(f"{prefix}_"):
            return f"{prefix}/{name[len(prefix) + 1 :]}"
    return name if "/" in name else f"train/{name}"


def prediction_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return one record a row: id, prediction, references and the row's scores."""
    rows = []
    for index, (row, text) in enumerate(zip(evaluation.split.rows, evaluation.texts, strict=True)):
        record: dict[str, Any] = {"fname": row.id, "prediction": text, "references": list(row.references)}
        if evaluation.scores is not None:
            record |= {name: _rounded(float(values[index])) for name, values in evaluation.scores.rows.items()}
        rows.append(record)
    return rows


def sample_of(evaluation: Evaluation, place: int) -> Sample:
    """Return the row at a place with its prediction and scores, for those who show it."""
    row, scores = evaluation.split.rows[place], evaluation.scores
    values = {} if scores is None else {name: float(column[place]) for name, column in scores.rows.items()}
    return Sample(row.id, row.dialogue, evaluation.texts[place], tuple(row.references), values or None)


def _rounded(value: float) -> float:
    return round(value, 6) if math.isfinite(value) else value
