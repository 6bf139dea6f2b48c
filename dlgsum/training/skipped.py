"""How many steps were skipped, which a resumed run must know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class SkippedSteps:
    """Steps whose gradient was not finite: in all, and in a row up to now."""

    total: int = 0
    in_a_row: int = 0

    def state(self) -> dict[str, Any]:
        """Return the counts."""
        return {"total": self.total, "in_a_row": self.in_a_row}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.total, self.in_a_row = int(state["total"]), int(state["in_a_row"])
