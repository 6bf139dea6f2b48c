"""TensorBoard as a mirror of the local record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.masking import plain
from dlgsum.core.files import dumps
from dlgsum.core.optional import require
from dlgsum.tracking.tracker import Opening, Sample, Tracker

if TYPE_CHECKING:
    from torch import Tensor

_FLUSH_SECONDS = 30  # what a crash may lose, and what a page that is open may lag behind


class TensorboardTracker(Tracker):
    """Write metrics, histograms, samples and charts to event files; ``tensorboard --logdir FOLDER`` shows them.

    Args:
        folder: of the event files; made where it is missing.
        resumed_at: the step that a resumed run goes on from: what an earlier part wrote for later steps is hidden, and
            -1 hides all of it. None: a new run.

    Raises:
        EnvironmentProblem: the package tensorboard is missing; the caller goes on without it.
        OSError: the folder cannot be written.
    """

    name = "tensorboard"
    title = "TensorBoard"

    def __init__(self, folder: Path, *, resumed_at: int | None = None) -> None:
        self.prepare()
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resumed_at is None else resumed_at + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge, max_queue=1000, flush_secs=_FLUSH_SECONDS)

    @classmethod
    def prepare(cls) -> None:
        """Import tensorboard.

        Raises:
            EnvironmentProblem: it is missing.
        """
        require("tensorboard", extra="tensorboard", purpose="tracking.trackers=[tensorboard]")
        import torch.utils.tensorboard  # noqa: F401

    @classmethod
    def open(cls, opening: Opening) -> TensorboardTracker:
        """Begin event files in ``tensorboard/`` of the run, with the configuration as a text."""
        tracker = cls(opening.run.path / "tensorboard", resumed_at=opening.resumed_at)
        tracker._writer.add_text(
            "configuration", fenced(dumps(plain(opening.config), indent=2)), max(opening.resumed_at or 0, 0)
        )
        return tracker

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

    def samples(self, step: int, name: str, rows: Sequence[Sample]) -> None:
        """Take predictions as texts, one a row, which show as they are: neither Markdown nor HTML."""
        for number, row in enumerate(rows):
            scores = ", ".join(f"{metric} {value:.4g}" for metric, value in (row.scores or {}).items())
            parts = [f"[{row.id}] {scores}", f"[dialogue]\n{row.dialogue}", f"[prediction]\n{row.prediction}"]
            parts += [f"[reference {place}]\n{text}" for place, text in enumerate(row.references, 1)]
            self._writer.add_text(f"samples/{name}/{number}", "\n\n".join(map(fenced, parts)), step)

    def image(self, step: int, name: str, path: Path) -> None:
        """Take a chart."""
        from matplotlib.image import imread

        self._writer.add_image(name, imread(path), step, dataformats="HWC")

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Write what is left and close the files; TensorBoard has no place for a summary."""
        self._writer.close()


def fenced(text: str) -> str:
    """Return Markdown that shows a text as it is: a block of code, whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("~+", text)), default=0)
    fence = "~" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


PLUGIN = TensorboardTracker
