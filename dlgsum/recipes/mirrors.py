"""Who sees a run besides its folder: trackers that mirror the record, and people who are told."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dlgsum.config.masking import plain
from dlgsum.config.schema import Alerts as Settings
from dlgsum.config.schema import Config
from dlgsum.monitoring.alerts import Alert, Alerts
from dlgsum.recipes import announce
from dlgsum.tracking.run import RunFolder

if TYPE_CHECKING:
    from dlgsum.tracking.stream import Tracker

logger = logging.getLogger(__name__)


def build_alerts(config: Config, run: RunFolder, mirror: Callable[[Alert], None], *, first: bool) -> Alerts:
    """Return what tells people how a run goes; only the first process has anybody to tell.

    Args:
        mirror: is told as well.
    """
    source = announce.source_of(config, run)
    if not first:
        return Alerts(Settings(), record=None, source=source)
    return Alerts(config.monitoring.alerts, record=run.alerts, source=source, mirrors=[mirror])


def build_trackers(config: Config, run: RunFolder, *, resumed_at: int | None = None) -> list[Tracker]:
    """Open the mirrors that the configuration names, and join a W&B run that the user has open.

    One that cannot be opened is left out, loudly.

    Args:
        resumed_at: the step that the run goes on from, -1 where it starts over; None: a new run.
    """
    opened: list[Tracker] = []
    for name, make in _wanted(config, run, resumed_at):
        try:
            opened.append(make())
        except Exception as error:  # they raise many kinds; none may stop a training run
            logger.warning("%s is left out of this run (%s); the local record is complete", name, error)
    return opened


def _wanted(config: Config, run: RunFolder, resumed_at: int | None) -> Iterator[tuple[str, Callable[[], Tracker]]]:
    if config.wandb.mode != "disabled" or getattr(sys.modules.get("wandb"), "run", None) is not None:
        from dlgsum.tracking.trackers.wandb import WandbTracker

        yield (
            "W&B",
            lambda: WandbTracker(
                config.wandb,
                run_id=run.id,
                default_name=config.meta.experiment_name,
                folder=run.path,
                config=plain(config),
            ),
        )
    if config.tracking.tensorboard:
        from dlgsum.tracking.trackers.tensorboard import TensorboardTracker

        yield "TensorBoard", lambda: TensorboardTracker(run.path / "tensorboard", resumed_at=resumed_at)
