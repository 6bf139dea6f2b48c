"""The optimizer step at hand: what goes into it and what comes out, kept until it is known to be good."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

REMEMBERED = 20  # steps whose numbers a report of trouble shows


@dataclass(frozen=True)
class MicroBatchSeen:
    """One micro-batch as it went in.

    Attributes:
        inputs: the collator's tensors.
        places: of its rows in the training split, int64; None where the loader did not say.
        rng: random states before its forward pass: "cpu" and, on a card, "cuda".
    """

    inputs: Mapping[str, Tensor]
    places: Tensor | None
    rng: Mapping[str, Tensor]


@dataclass
class ThisStep:
    """Micro-batches, loss and gradient norm of the step at hand, and the numbers of the last few.

    Attributes:
        loss: mean over the target tokens of the step, over all processes; known once the gradient is complete.
        grad_norm: of the whole gradient before clipping; known at the same time.
        items: target tokens that the loss is divided by.
    """

    device: torch.device
    keep_random_states: bool = True
    seen: list[MicroBatchSeen] = field(default_factory=list)
    loss: float = math.nan
    grad_norm: float = math.nan
    items: Tensor | int | None = None
    history: deque[dict[str, float]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _number: int = -1
    _share: Tensor | None = None

    def enter(
        self, number: int, inputs: Mapping[str, Tensor], places: Tensor | None, items: Tensor | int | None
    ) -> None:
        """Note a micro-batch of the step that follows ``number`` finished ones; a new number begins a new step."""
        if number != self._number:
            self._number, self.seen, self._share = number, [], None
        self.items = items
        self.seen.append(MicroBatchSeen(inputs, places, self._random_states()))

    def add_loss(self, share: Tensor) -> None:
        """Add a micro-batch's share of the step's loss; it stays on the device."""
        self._share = share if self._share is None else self._share + share

    def local_loss(self) -> Tensor:
        """Return the loss of this process's micro-batches, a number on the device."""
        return torch.zeros((), device=self.device) if self._share is None else self._share.float()

    def local_loss_is_finite(self) -> bool:
        """Say whether this process's share of the loss is finite; waits for the device."""
        return bool(torch.isfinite(self.local_loss()))

    def known(self, loss: float, grad_norm: float, learning_rate: float) -> None:
        """Note what the step came to."""
        self.loss, self.grad_norm = loss, grad_norm
        step = self._number + 1
        self.history.append({"step": step, "loss": loss, "grad_norm": grad_norm, "learning_rate": learning_rate})

    def _random_states(self) -> dict[str, Tensor]:
        if not self.keep_random_states:
            return {}
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states


def rows_of(split: Any, places: Tensor | None) -> list[dict[str, str]]:
    """Return ``fname``, ``dialogue`` and ``summary`` of the rows at these places of an encoded split."""
    if places is None:
        return []
    rows = (split.rows[place] for place in places.tolist())
    return [
        {"fname": str(row.id), "dialogue": row.dialogue, "summary": row.references[0] if row.references else ""}
        for row in rows
    ]
