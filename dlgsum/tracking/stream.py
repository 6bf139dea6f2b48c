"""One stream of metrics: the local file first, then every mirror."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dlgsum.core.files import append_jsonl

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """A mirror of the local record. It may fail; it must not stop training."""

    name: str

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one step; steps never go back."""

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Close the record with the final summary."""


class MetricStream:
    """Write metrics to ``metrics.jsonl`` and pass them on to the mirrors.

    Rows are ``{"step", "epoch", "time", "metrics"}``. A mirror that raises is dropped, loudly and once.
    """

    def __init__(self, path: Path, trackers: Sequence[Tracker] = ()) -> None:
        self._path = path
        self._trackers = list(trackers)

    def log(self, step: int, epoch: float | None, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a step, under names such as ``train/loss`` and ``eval/rouge_combined_f1``."""
        if not metrics:
            return
        append_jsonl(self._path, {"step": step, "epoch": epoch, "time": time.time(), "metrics": dict(metrics)})
        for tracker in list(self._trackers):
            try:
                tracker.log(step, metrics)
            except Exception as error:  # a mirror's failure is never ours
                self._drop(tracker, error)

    def finish(self, summary: Mapping[str, Any], *, failed: bool = False) -> None:
        """Close the mirrors; rows logged later reach the file only."""
        trackers, self._trackers = self._trackers, []
        for tracker in trackers:
            try:
                tracker.finish(summary, failed=failed)
            except Exception as error:
                self._drop(tracker, error)

    def _drop(self, tracker: Tracker, error: Exception) -> None:
        self._trackers = [other for other in self._trackers if other is not tracker]
        with contextlib.suppress(Exception):  # it failed already; this only lets go of its processes
            tracker.finish({}, failed=True)
        logger.warning("%s takes no more metrics of this run (%s); the local record is complete", tracker.name, error)
