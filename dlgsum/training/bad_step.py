"""A step whose loss or gradient is not finite, gathered for its report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dlgsum.monitoring.nan_report import BadStep, MicroBatch
from dlgsum.training.this_step import rows_of

if TYPE_CHECKING:
    from dlgsum.training.trainer import SummarizationTrainer


def bad_step(trainer: SummarizationTrainer) -> BadStep:
    """Return what went into the step at hand and what came out; nothing of the trainer changes."""
    it, args = trainer.this_step, trainer.args
    precision: Literal["fp32", "bf16", "fp16"] = "fp16" if args.fp16 else "bf16" if args.bf16 else "fp32"
    scaler = trainer.accelerator.scaler
    split: Any = trainer.train_dataset
    return BadStep(
        step=trainer.state.global_step + 1,
        epoch=trainer.state.epoch,
        loss=it.loss,
        grad_norm=it.grad_norm,
        precision=precision,
        loss_scale=None if scaler is None else float(scaler.get_scale()),
        micro_batches=[
            MicroBatch(inputs=dict(seen.inputs), rows=rows_of(split, seen.places), rng=dict(seen.rng))
            for seen in it.seen
        ],
        items=int(it.items) if it.items is not None else 0,
        smoothing=trainer.config.training.label_smoothing_factor,
        history=list(it.history),
    )
