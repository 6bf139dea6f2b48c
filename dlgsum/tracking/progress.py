"""A small file that shows that a run is alive, for whoever watches over it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from dlgsum.core.files import dumps
from dlgsum.core.world import ATTEMPT

NAME = "progress.json"
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

    def beat(self, step: int) -> None:
        """Note that something was done: a step, a batch of an evaluation, a checkpoint.

        A disk that takes no more is no reason to stop: the run itself will find out.
        """
        self._count += 1
        now = time.monotonic()
        if self._path is None or now - self._written < _EVERY:
            return
        self._written = now
        try:
            attempt = int(os.environ.get(ATTEMPT, "1"))
            row = {"attempt": attempt, "beat": self._count, "step": step, "pid": os.getpid()}
            # Not write_json, which waits for the disk: what a crash of the machine loses here, nobody needs.
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(dumps(row) + "\n", encoding="utf-8")
            temporary.replace(self._path)
        except OSError:
            self._written = now + 10
