"""A small file that shows that a run is alive, for whoever watches over it."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Literal

from dlgsum.core.files import dumps, read_json
from dlgsum.core.world import ATTEMPT
from dlgsum.tracking.run import RunFolder

NAME = "progress.json"
Phase = Literal["training", "evaluating", "saving", "closing"]
_EVERY = 0.5  # seconds between two writings; a watcher is patient


class ProgressFile:
    """Counts what a run does, and writes the count now and then.

    Args:
        run: the run folder; None writes nothing.
    """

    def __init__(self, run: Path | None) -> None:
        self._path = None if run is None else run / NAME
        self._count = 0
        self._written = -_EVERY
        self._phase: Phase = "training"

    def beat(self, step: int, total: int | None = None, phase: Phase = "training") -> None:
        """Note that something was done: a step, a batch of an evaluation, a checkpoint.

        A change of phase is written at once. A disk that takes no more is no reason to stop: the run itself will find
        out.

        Args:
            step: optimizer steps done.
            total: steps of the whole run; None where it is not known.
            phase: what comes next.
        """
        self._count += 1
        now = time.monotonic()
        if self._path is None or (now - self._written < _EVERY and (phase == self._phase or now < self._written)):
            return
        self._written, self._phase = now, phase
        try:
            attempt = int(os.environ.get(ATTEMPT, "1"))
            row = {
                "attempt": attempt, "beat": self._count, "step": step, "total": total, "phase": phase,
                "pid": os.getpid(), "host": socket.gethostname(),
            }  # fmt: skip
            # Not write_json, which waits for the disk: what a crash of the machine loses here, nobody needs.
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(dumps(row) + "\n", encoding="utf-8")
            temporary.replace(self._path)
        except OSError:
            self._written = now + 10


def last_step(run: RunFolder) -> int | None:
    """Return the optimizer step that a run was at when it showed that it is alive; None where it never did."""
    try:
        step = read_json(run.path / NAME).get("step")
    except (OSError, ValueError):
        return None
    return step if isinstance(step, int) else None
