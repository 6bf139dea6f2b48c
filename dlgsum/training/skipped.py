"""Steps that are skipped because loss or gradient is not finite, and how many are too many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dlgsum.core.errors import TrainingFailed

# Under fp16 an overflow is routine: the loss scaler skips the step and halves its factor, which begins at 2^16. An
# overflow that outlasts all of these halvings is none.
ROUTINE = 20


@dataclass
class SkippedSteps:
    """Steps whose loss or gradient was not finite, which a resumed run must know.

    Attributes:
        total: of the run; ``in_a_row``: up to now.
        scaling: besides these, steps in a row in which the loss scaler of fp16 was only looking for its factor.
        last_one: whether the last step was skipped, and not only because of the loss scaler.
    """

    total: int = 0
    in_a_row: int = 0
    scaling: int = 0
    last_one: bool = False

    def count(self, loss: float, norm: float, *, scaled: bool) -> bool:
        """Count a step, and say whether it is skipped for another reason than the loss scaler's search.

        Args:
            norm: of the gradient.
            scaled: whether there is a loss scaler.
        """
        self.last_one = False
        if math.isfinite(loss) and math.isfinite(norm):
            self.in_a_row = self.scaling = 0
        elif scaled and math.isfinite(loss) and self.scaling < ROUTINE:
            self.scaling += 1
        else:
            self.total += 1
            self.in_a_row += 1
            self.last_one = True
        return self.last_one

    def refuse_too_many(self, limit: int, *, step: int, what: str, found: str) -> None:
        """End the training after more than ``limit`` skipped steps in a row.

        Args:
            what: is not finite; ``found``: a sentence on why, or nothing.

        Raises:
            TrainingFailed: there were more.
        """
        if self.in_a_row <= limit:
            return
        times = f" after {self.in_a_row} steps in a row" if self.in_a_row > 1 else ""
        said = f"The {what} is not finite at step {step}{times}; the weights were not touched."
        raise TrainingFailed(
            f"{said} {found}".rstrip(),
            "Likely causes: a learning rate that is too high (training.learning_rate), fp16 with a T5 model "
            "(training.precision=bf16), a damaged checkpoint. What was saved before is whole.",
        )

    def state(self) -> dict[str, Any]:
        """Return the counts."""
        return {"total": self.total, "in_a_row": self.in_a_row, "scaling": self.scaling}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.total, self.in_a_row = int(state["total"]), int(state["in_a_row"])
        self.scaling = int(state.get("scaling", 0))  # checkpoints of earlier versions have none
