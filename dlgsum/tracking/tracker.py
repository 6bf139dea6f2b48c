"""The contract of a tracker: a mirror of the local record, such as W&B."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dlgsum.config.schema import Config
from dlgsum.tracking.run import RunFolder

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Opening:
    """What a tracker is opened with.

    Attributes:
        run: the run folder; a tracker that writes files puts them into a folder of its own in it.
        config: the configuration; secrets never leave it, so what is sent is ``dlgsum.config.masking.plain(config)``.
        resumed_at: the step that a resumed run goes on from, -1 where it starts over; None: a new run.
    """

    run: RunFolder
    config: Config
    resumed_at: int | None = None


@dataclass(frozen=True)
class Sample:
    """One row of an evaluation, with the scores of its prediction (0 to 1) by metric."""

    id: str
    dialogue: str
    prediction: str
    references: tuple[str, ...] = ()
    scores: Mapping[str, float] | None = None


class Tracker(ABC):
    """A mirror of the local record. It may fail, and it may be slow; it never stops or delays training.

    Every method but the abstract ones does nothing unless it is overridden. ``prepare`` is called by the training
    itself; all the others, ``open`` the first of them, in order and from one thread of the tracker's own, where they
    may wait for a network. What a method raises ends the mirror, loudly and once.

    Attributes:
        name: short name, as in ``tracking.trackers``; the module's name.
        title: name for people.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @classmethod
    def prepare(cls) -> None:
        """Import what the tracker needs; no network.

        Not in ``open``: two threads that import at once can see each other's half-made modules.

        Raises:
            EnvironmentProblem: a package is missing; the run goes on without this mirror.
        """
        return  # most need nothing that takes long

    @classmethod
    @abstractmethod
    def open(cls, opening: Opening) -> Tracker:
        """Open the mirror of a run; a resumed run goes on with its own.

        Raises:
            Exception: of any kind; the run goes on without this mirror.
        """

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one step; steps never go back, and one step may come twice with other metrics."""

    def histogram(self, step: int, name: str, values: Tensor) -> None:  # noqa: B027
        """Take the values of a gradient or a weight, of any shape and on any device."""

    def samples(self, step: int, name: str, rows: Sequence[Sample]) -> None:  # noqa: B027
        """Take predictions; ``name`` is ``eval``, ``test``, or ``best`` for the best model's, at the end."""

    def image(self, step: int, name: str, path: Path) -> None:  # noqa: B027
        """Take a chart, a PNG file that stays where it is."""

    def model(self, step: int, folder: Path, metadata: Mapping[str, Any]) -> None:  # noqa: B027
        """Take the folder of the best model, at the end of a run that is complete."""

    def alert(self, title: str, text: str, level: str) -> None:  # noqa: B027
        """Tell the tracker's user; ``level`` is info, warning or error."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Close the record with the final summary; nothing comes after."""
