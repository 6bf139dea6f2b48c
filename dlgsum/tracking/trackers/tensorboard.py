"""TensorBoard as a mirror of the local record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.core.optional import require

if TYPE_CHECKING:
    from torch import Tensor

_FLUSH_SECONDS = 30  # what a crash may lose, and what a page that is open may lag behind


class TensorboardTracker:
    """Write metrics and histograms to event files; ``tensorboard --logdir FOLDER`` shows them.

    Args:
        folder: of the event files; made where it is missing.
        resumed_at: the step that a resumed run goes on from: what an earlier part wrote for later steps is hidden, and
            -1 hides all of it. None: a new run.

    Raises:
        EnvironmentProblem: the package tensorboard is missing; the caller goes on without it.
        OSError: the folder cannot be written.
    """

    name = "TensorBoard"

    def __init__(self, folder: Path, *, resumed_at: int | None = None) -> None:
        require("tensorboard", extra="tensorboard", purpose="tracking.tensorboard=true")
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resumed_at is None else resumed_at + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge, max_queue=1000, flush_secs=_FLUSH_SECONDS)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one step; NaN and infinity are written as they are."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Take the values of one step's gradient or weight, of any shape and on any device.

        Values that are not finite have no place in a histogram and are left out; where none is left, so is the
        histogram.
        """
        finite = values.detach().float()
        finite = finite[finite.isfinite()]
        if finite.numel():
            self._writer.add_histogram(name, finite.cpu(), step)

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Write what is left and close the files; TensorBoard has no place for a summary."""
        self._writer.close()
