"""Write the report about a step whose loss or gradient is not finite."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlgsum.core.files import new_folder, write_json
from dlgsum.monitoring.nan.advice import advice, found, summary
from dlgsum.monitoring.nan.examine import Examination, Replay, examine
from dlgsum.monitoring.nan.folder import CONFIG, REPORT, TEXT, WEIGHTS, in_words, write_batch, write_weights
from dlgsum.monitoring.nan.step import BadStep, Loss, MicroBatch
from dlgsum.monitoring.nan.text import markdown, tensor_row, token_counts

__all__ = ["BadStep", "Loss", "MicroBatch", "NanReport", "as_json", "write_report"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class NanReport:
    """What the log and the alert tell; no text of the rows is in it.

    Attributes:
        folder: of the report; None where it could not be written.
        culprit: the first module whose computation was not finite, or "loss"; empty where it is not known.
        what: one sentence.
        parameters: names of the weights that are not finite; ``gradients``: of those whose gradients are not.
        reproduced: whether doing the step again gave the same; None where it was not done again.
        fp32_finite: whether the batch is finite in fp32; None where that was not tried.
        advice: what to do, the first thing first.
    """

    folder: Path | None
    culprit: str
    what: str
    parameters: list[str]
    gradients: list[str]
    reproduced: bool | None
    fp32_finite: bool | None
    advice: tuple[str, ...]


def write_report(folder: Path, model: nn.Module, bad: BadStep, *, loss: Loss, weights: bool, rerun: bool) -> NanReport:
    """Find out what was not finite, and write it down; the folder is whole or absent, and replaces an older one.

    Model, gradients and random states stay as they are. Nothing is raised: what cannot be found out or written is
    logged and left out.

    Args:
        model: with the step's gradients, as they were before clipping; not wrapped for several processes.
        loss: as in training.
        weights: whether the weights are saved as well; they are not where the disk has too little room.
        rerun: whether the micro-batches are done again; several processes that train together cannot.
    """
    try:
        seen = examine(model, bad, loss, rerun=rerun)
    except Exception as error:
        logger.warning("the step that is not finite could not be examined: %s", error, exc_info=True)
        seen = Examination(replay=Replay(reproduced=None, why_not=in_words(error)))
    written: Path | None = folder
    try:
        with new_folder(folder) as temporary:
            _write(temporary, folder, model, bad, seen, weights=weights)
    except Exception as error:
        logger.warning("the report %s could not be written: %s", folder, error)
        written = None
    return NanReport(
        folder=written,
        culprit=seen.culprit,
        what=summary(bad, seen),
        parameters=[one.name for one in seen.parameters],
        gradients=[one.name for one in seen.gradients],
        reproduced=seen.replay.reproduced,
        fp32_finite=seen.replay.fp32_finite,
        advice=advice(bad, seen),
    )


def _write(folder: Path, place: Path, model: nn.Module, bad: BadStep, seen: Examination, *, weights: bool) -> None:
    write_batch(folder, bad)
    no_weights = _weights(folder, place, model) if weights else "they were not asked for"
    write_json(folder / REPORT, {**as_json(bad, seen), **_made_by(model), "no_weights": no_weights})
    (folder / TEXT).write_text(markdown(bad, seen, folder=place, no_weights=no_weights), encoding="utf-8")


def _weights(folder: Path, place: Path, model: nn.Module) -> str:
    try:
        return write_weights(folder, model, place)
    except Exception as error:
        for name in (WEIGHTS, CONFIG):
            (folder / name).unlink(missing_ok=True)
        return in_words(error)


def as_json(bad: BadStep, seen: Examination) -> dict[str, Any]:
    """Return the report for machines; it holds the names of the rows, and no text of theirs."""
    replay = seen.replay
    return {
        "step": bad.step,
        "epoch": bad.epoch,
        "loss": bad.loss,
        "grad_norm": bad.grad_norm,
        "precision": bad.precision,
        "loss_scale": bad.loss_scale,
        "items": bad.items,
        "label_smoothing": bad.smoothing,
        "what": summary(bad, seen),
        "found": found(bad, seen),
        "advice": advice(bad, seen),
        "culprit": seen.culprit,
        "culprit_details": None if replay.culprit is None else asdict(replay.culprit),
        "reproduced": replay.reproduced,
        "not_tried_because": replay.why_not,
        "micro_batch": replay.micro_batch,
        "fp32_finite": replay.fp32_finite,
        "rows_alone": replay.rows,
        "bad_ids": seen.bad_ids,
        "empty_rows": seen.empty_rows,
        "parameters": [asdict(one) for one in seen.parameters],
        "gradients": [asdict(one) for one in seen.gradients],
        "gradients_again": replay.gradients,
        "micro_batches": [_described(batch) for batch in bad.micro_batches],
        "forward": [] if replay.trace is None else [asdict(event) for event in replay.trace.forward],
        "backward": [] if replay.trace is None else [asdict(event) for event in replay.trace.backward],
        "history": bad.history,
    }


def _described(batch: MicroBatch) -> dict[str, Any]:
    columns = ("name", "shape", "dtype", "min", "max")
    return {
        "tensors": [dict(zip(columns, tensor_row(*one), strict=True)) for one in batch.inputs.items()],
        "rows": [
            {"fname": batch.name(row), "source_tokens": source, "target_tokens": target}
            for row, (source, target) in enumerate(token_counts(batch))
        ],
    }


def _made_by(model: nn.Module) -> dict[str, Any]:
    weight = next(model.parameters())
    return {
        "device": str(weight.device),
        "dtype": str(weight.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "model": type(model).__name__,
    }
