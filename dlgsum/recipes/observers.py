"""Who learns of a run while it goes on, besides its folder: people, and the index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlgsum.config.schema import Config
from dlgsum.monitoring.alerts import Alert, Alerts
from dlgsum.recipes import mirrors
from dlgsum.recipes.stored import open_store
from dlgsum.tracking.run import RunFolder

if TYPE_CHECKING:
    from dlgsum.tracking.index import Index

_CLOSING = 20.0  # seconds that a database may take for the last row of a run


@dataclass(frozen=True)
class Observers:
    """Those who learn how a run goes; of several processes only the first has any.

    Attributes:
        alerts: tells people.
        index: makes the run findable; None in other processes than the first.
    """

    alerts: Alerts
    index: Index | None

    def indexed(self) -> None:
        """Let the index know that the folder has changed; this never waits."""
        if self.index is not None:
            self.index.update()

    def close(self) -> None:
        """Send what is on its way, for a bounded time."""
        self.alerts.close()
        if self.index is not None:
            self.index.close(_CLOSING)


def observers_of(config: Config, run: RunFolder, mirror: Callable[[Alert], None], *, first: bool) -> Observers:
    """Return who learns of a run.

    Args:
        mirror: takes alerts as well.
    """
    from dlgsum.tracking.index import Index

    index = Index(run, lambda: open_store(config)) if first else None
    return Observers(mirrors.build_alerts(config, run, mirror, first=first), index)
