"""What the trainer hands over about a step that is not finite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")

Loss = Callable[[Any, Tensor, "Tensor | int"], Tensor]
"""Takes the model's outputs, the labels and the target tokens of the whole step; returns this batch's share."""

IGNORED = -100  # what a label holds where nothing is to be predicted


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """One forward and backward pass of a step.

    Attributes:
        inputs: tensors of shape (rows, length), as the collator made them.
        rows: ``fname``, ``dialogue`` and ``summary`` of each row, in the same order.
        rng: the random state before the forward pass, under "cpu" and, where there is one, the device's type.
    """

    inputs: dict[str, Tensor]
    rows: list[dict[str, str]]
    rng: dict[str, Tensor]

    def only(self, row: int) -> MicroBatch:
        """Return one row alone, padded as it was."""
        inputs = {name: value[row : row + 1] for name, value in self.inputs.items()}
        return MicroBatch(inputs=inputs, rows=self.rows[row : row + 1], rng=self.rng)

    def name(self, row: int) -> str:
        """Return the ``fname`` of a row on one line, at most 80 characters of it, or its number where it has none."""
        named = self.rows[row].get("fname", "") if row < len(self.rows) else ""
        return " ".join(named.split())[:80] or f"number {row + 1}"

    @property
    def size(self) -> int:
        """Number of rows."""
        return int(self.inputs["input_ids"].shape[0])


@dataclass(frozen=True, kw_only=True)
class BadStep:
    """An optimizer step whose loss or gradient is not finite.

    Attributes:
        step: from 1.
        epoch: with its fraction; None where unknown.
        loss: mean over the step's target tokens, may be NaN.
        grad_norm: L2 norm before clipping, may be NaN.
        precision: in which the forward passes ran.
        loss_scale: by which fp16 multiplied the loss; None where it was not.
        micro_batches: all of the step, in order.
        items: target tokens of the whole step, by which the loss was divided.
        smoothing: label smoothing, 0 to 1.
        history: the last steps before, the oldest first: ``step``, ``loss``, ``grad_norm``, ``learning_rate``.
    """

    step: int
    epoch: float | None
    loss: float
    grad_norm: float
    precision: Precision
    loss_scale: float | None
    micro_batches: list[MicroBatch]
    items: int
    smoothing: float
    history: list[dict[str, float]]
