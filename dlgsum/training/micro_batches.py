"""A training step that survives running out of memory: the same rows again, in smaller parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlgsum.core.errors import TrainingFailed
from dlgsum.training.memory import is_out_of_memory, release_memory

Inputs = dict[str, Any]
Step = Callable[[Inputs, bool], Tensor]
"""Forward and backward of one part, and whether it is the micro-batch's last; returns its share of the step's loss."""


class OutOfMemory(Exception):
    """Memory ran out where several processes train together; all of them start again, with more parts.

    Args:
        parts: into how many parts each micro-batch is to be divided then.
    """

    def __init__(self, parts: int, reason: str) -> None:
        super().__init__(f"out of memory: {reason}")
        self.parts = parts


class MicroBatches:
    """Divides each micro-batch into ``parts``, and into twice as many whenever memory runs out.

    The loss of a part is its share of the whole step's (see ``SummaryLoss``), so the gradient does not depend on
    the number of parts. Weights and optimizer change only at the end of a step, so a step that ran out of memory is
    repeated from its beginning: the gradients go, every micro-batch of the step is done again, and nothing is lost.

    Attributes:
        parts: into how many parts each micro-batch is divided; kept in checkpoints.
        halved: how often memory ran out.
    """

    def __init__(self, told: Callable[[int, int, str], None]) -> None:
        self.parts = 1
        self.halved = 0
        self._told = told
        self._done: list[Inputs] = []
        self._step = -1

    def run(self, inputs: Inputs, step: Step, *, number: int, forget_gradients: Callable[[], None]) -> Tensor:
        """Do one micro-batch and return its share of the loss.

        Args:
            inputs: tensors whose first dimension is rows.
            number: of the optimizer step that the micro-batch belongs to.
            forget_gradients: sets all gradients to zero.

        Raises:
            TrainingFailed: memory runs out with a single row.
        """
        if number != self._step:
            self._step, self._done = number, []
        todo = [inputs]
        while True:
            try:
                for batch in todo:
                    loss = self._in_parts(batch, step)
                self._done.append(inputs)
                return loss
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                failed, reason = batch, str(error).partition("\n")[0]
            # Outside the except block: the traceback holds the tensors of the attempt.
            self._halve(failed, reason)
            forget_gradients()
            release_memory()
            todo = [*self._done, inputs]

    def once(self, inputs: Inputs, step: Step) -> Tensor:
        """Do one micro-batch in as many parts as are known to be needed, without repeating anything.

        Raises:
            OutOfMemory: memory ran out; the number of parts was doubled for the next start.
        """
        try:
            return self._in_parts(inputs, step)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        self._halve(inputs, reason)
        raise OutOfMemory(self.parts, reason)

    def state(self) -> dict[str, Any]:
        """Return the number of parts and how it came about."""
        return {"parts": self.parts, "halved": self.halved}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with parts that are known to fit."""
        self.parts, self.halved = int(state["parts"]), int(state["halved"])

    def _in_parts(self, batch: Inputs, step: Step) -> Tensor:
        rows = _rows(batch)
        size = -(-rows // self.parts)
        if size >= rows:
            return step(batch, True)
        losses = [
            step({name: value[start : start + size] for name, value in batch.items()}, start + size >= rows)
            for start in range(0, rows, size)
        ]
        return torch.stack(losses).sum()

    def _halve(self, batch: Inputs, reason: str) -> None:
        rows = _rows(batch)
        size = -(-rows // self.parts)
        if size == 1:
            tokens = " + ".join(str(batch[name].shape[1]) for name in ("input_ids", "labels") if name in batch)
            raise TrainingFailed(
                f"Out of memory with a single row of {tokens} tokens: {reason}",
                "Lower tokenizer.encoder_max_len, set training.activation_checkpointing=true, choose a smaller model, "
                "or free the memory that other programs hold (`dlgsum gpu-check` shows them).",
            )
        self.parts *= 2
        self.halved += 1
        self._told(self.parts, -(-rows // self.parts), reason)


def _rows(batch: Inputs) -> int:
    return int(next(iter(batch.values())).shape[0])
