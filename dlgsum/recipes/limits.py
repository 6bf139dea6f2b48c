"""How long a training may take, and what it lets pass."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlgsum.training.hooks.stop import Deadline


@dataclass(frozen=True)
class Limits:
    """What the one who starts a training allows it.

    Attributes:
        seconds: after which it must have stopped, with everything saved; None: no limit.
        since: the time of ``time.monotonic`` that the seconds count from; processes of one machine share that clock.
        force: go on with a run although its data or settings have changed.
    """

    seconds: float | None = None
    since: float = field(default_factory=time.monotonic)
    force: bool = False

    def left(self) -> float | None:
        """Return the seconds that are left, at least 0; None: no limit."""
        return None if self.seconds is None else max(0.0, self.seconds - (time.monotonic() - self.since))

    def deadline(self) -> Deadline:
        """Return the deadline that training watches."""
        from dlgsum.training.hooks.stop import Deadline

        return Deadline(self.seconds, started=self.since)
