"""The numbers that detectors judge, as plain values: one reading a step, one an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReading:
    """One optimizer step. Any number may be NaN or infinite; None says that it was not measured at this step.

    Attributes:
        step: from 1.
        epoch: with its fraction.
        loss: mean over the target tokens of the step, over all processes.
        grad_norm: L2 norm of the whole gradient before clipping.
        max_grad_norm: what gradients are clipped to; 0: no clipping.
        learning_rate: of the first parameter group, as this step used it.
        expected_learning_rate: what the configured schedule says for this step.
        learning_rate_share: the expected learning rate as a share of the schedule's peak, 0 to 1.
        tokens_per_sec: real tokens a second since the last record; only at steps that are recorded.
        device_bytes: memory that tensors hold on the device; only at steps that are recorded.
        host_bytes: memory that the process holds (RSS); only at steps that are recorded.
        skipped: whether the weights were left alone because the gradient was not finite.
    """

    step: int
    epoch: float | None = None
    loss: float | None = None
    grad_norm: float | None = None
    max_grad_norm: float = 0.0
    learning_rate: float | None = None
    expected_learning_rate: float | None = None
    learning_rate_share: float | None = None
    tokens_per_sec: float | None = None
    device_bytes: float | None = None
    host_bytes: float | None = None
    skipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReading:
    """One evaluation of the validation rows.

    Attributes:
        step: of the weights.
        epoch: with its fraction.
        train_loss: mean training loss since the evaluation before, over steps; None where there was no step.
        eval_loss: validation loss.
        score: the metric that chooses the best model; None where it was not computed.
        greater_is_better: whether a larger score is better.
        predictions: the generated summaries in the rows' order; None where nothing was generated.
    """

    step: int
    epoch: float | None = None
    train_loss: float | None = None
    eval_loss: float | None = None
    score: float | None = None
    greater_is_better: bool = True
    predictions: Sequence[str] | None = None
