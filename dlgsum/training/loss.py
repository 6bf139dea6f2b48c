"""Cross-entropy over real target tokens, the same for one big batch and for its accumulated parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -100


def token_loss(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy and the number of target tokens.

    Args:
        logits: shape (rows, length, vocabulary); computed in float32 whatever their type.
        labels: shape (rows, length), -100 where nothing is to be predicted.
        smoothing: label smoothing in [0, 1), spread over the vocabulary (Szegedy et al., 2016).

    A batch without any target token gives a sum of 0 and a count of 0. NaN in the logits stays NaN.
    """
    total = functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
    )
    return total, labels.ne(IGNORED).sum()


class SummaryLoss:
    """The Trainer's ``compute_loss_func``: a mean over the target tokens of the whole optimizer step.

    A mean per micro-batch would weigh tokens of short batches more; dividing each sum by the tokens of all
    accumulated micro-batches (``num_items_in_batch``) makes 2x2 the same as 4.
    """

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing

    def __call__(self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the loss of a micro-batch as its share of the step's mean."""
        total, count = token_loss(outputs.logits, labels, smoothing=self.smoothing)
        return total / torch.as_tensor(count if num_items_in_batch is None else num_items_in_batch).clamp(min=1)
