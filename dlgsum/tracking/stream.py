"""One stream of metrics: the local file first, then every mirror."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.core.files import append_jsonl, dumps, read_jsonl, write_text_atomic
from dlgsum.tracking.detached import Detached, reason, wait_for
from dlgsum.tracking.tracker import Sample, Tracker

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

OF_THE_MACHINE = ("throughput/", "host/", "gpu/", "/runtime")
"""Parts of the names of metrics that are never the same twice: times, and what the machine was doing besides."""


class MetricStream:
    """Write metrics to ``metrics.jsonl`` and pass them on to the mirrors.

    Rows are ``{"step", "epoch", "time", "metrics"}``. A mirror that raises is dropped, loudly and once. A run that goes
    on passes on what is new; what the file already had, the mirrors have.

    Args:
        path: the file.
        trackers: the mirrors; those that may wait for a network are detached, others are called on the spot.
    """

    def __init__(self, path: Path, trackers: Sequence[Tracker | Detached] = ()) -> None:
        self._path = path
        self._trackers = list(trackers)
        self._rows = 0

    def state(self) -> dict[str, Any]:
        """Return how many rows there are; they are on the disk when this returns."""
        if self._path.is_file():
            with self._path.open("rb") as stream:
                os.fsync(stream.fileno())
        return {"rows": self._rows}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on after the rows of an earlier ``state``: later ones, and a torn one, are removed from the file.

        Rows that are missing are missed loudly; training does not depend on them.
        """
        wanted = int(state["rows"])
        kept = self._there()[:wanted]
        if len(kept) < wanted:
            logger.warning("%s has lost %d of its %d rows", self._path, wanted - len(kept), wanted)
        self._keep(kept)

    def keep_until(self, step: int) -> None:
        """Go on after a step, where no ``state`` says after how many rows; later rows are removed from the file."""
        self._keep([row for row in self._there() if isinstance(row.get("step"), int) and row["step"] <= step])

    def _there(self) -> list[dict[str, Any]]:
        return list(read_jsonl(self._path)) if self._path.is_file() else []

    def _keep(self, kept: list[dict[str, Any]]) -> None:
        write_text_atomic(self._path, "".join(dumps(row) + "\n" for row in kept))
        self._rows = len(kept)

    def log(self, step: int, epoch: float | None, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a step, under names such as ``train/loss`` and ``eval/rouge_combined_f1``."""
        if not metrics:
            return
        append_jsonl(self._path, {"step": step, "epoch": epoch, "time": time.time(), "metrics": dict(metrics)})
        self._rows += 1
        self._pass_on("log", step, metrics)

    def alert(self, title: str, text: str, level: str) -> None:
        """Pass an alert on to the mirrors that can tell somebody; one that cannot be passed on is logged."""
        for tracker in list(self._trackers):
            try:
                tracker.alert(title, text, level)
            except Exception as error:  # it may still take metrics
                logger.warning("%s did not take an alert (%s)", tracker.title, reason(error))

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Pass values on to the mirrors that show distributions; the local record has none."""
        self._pass_on("histogram", step, name, values)

    def samples(self, step: int, name: str, rows: Sequence[Sample]) -> None:
        """Pass predictions on to the mirrors; the run folder has all of an evaluation in predictions/."""
        if rows:
            self._pass_on("samples", step, name, rows)

    def image(self, step: int, name: str, path: Path) -> None:
        """Pass a chart on to the mirrors: a PNG file that stays where it is."""
        self._pass_on("image", step, name, path)

    def model(self, step: int, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Pass the folder of the best model on to the mirrors; it stays until ``finish`` has returned."""
        self._pass_on("model", step, folder, metadata)

    def finish(self, summary: Mapping[str, Any], *, failed: bool = False) -> None:
        """Close the mirrors, all at the same time, and wait for those that are detached; see ``wait_for``.

        Rows logged later reach the file only.
        """
        trackers, self._trackers = self._trackers, []
        detached = [tracker for tracker in trackers if isinstance(tracker, Detached)]
        for mirror in detached:
            mirror.end(summary, failed=failed)
        for tracker in trackers:
            if not isinstance(tracker, Detached):
                try:
                    tracker.finish(summary, failed=failed)
                except Exception as error:
                    _tell(tracker, error)
        wait_for(detached)

    def _pass_on(self, method: str, *arguments: Any) -> None:
        """Call a method of every mirror; one that raises is dropped."""
        for tracker in list(self._trackers):
            try:
                getattr(tracker, method)(*arguments)
            except Exception as error:  # a mirror's failure is never ours
                self._trackers = [other for other in self._trackers if other is not tracker]
                with contextlib.suppress(Exception):  # it failed already; this only lets go of its processes
                    tracker.finish({}, failed=True)
                _tell(tracker, error)


def _tell(tracker: Tracker | Detached, error: Exception) -> None:
    logger.warning("%s takes no more of this run (%s); the local record is complete", tracker.title, reason(error))
