"""Who sees a run besides its folder: trackers that mirror the record, and people who are told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from dlgsum.config.schema import Alerts as Settings
from dlgsum.config.schema import Config
from dlgsum.monitoring.alerts import Alert, Alerts
from dlgsum.recipes import announce
from dlgsum.tracking.choice import WANDB, chosen, tracker_class
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.tracker import Opening

if TYPE_CHECKING:
    from dlgsum.tracking.detached import Detached

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


def build_trackers(config: Config, run: RunFolder, *, resumed_at: int | None = None) -> list[Detached]:
    """Open the mirrors that the configuration names, and join a W&B run that the user has open.

    All of them get threads of their own, TensorBoard too: a disk can hang like a network, and one rule is simpler. One
    that cannot be opened is left out, loudly.

    Args:
        resumed_at: the step that the run goes on from, -1 where it starts over; None: a new run.
    """
    from dlgsum.tracking.detached import Detached, reason

    opening = Opening(run, config, resumed_at)
    opened = []
    for name in chosen(config):
        title = name
        try:
            kind = tracker_class(name)
            title = kind.title
            kind.prepare()
        except Exception as error:  # they raise many kinds; none may stop a training run
            logger.warning("%s is left out of this run (%s); the local record is complete", title, reason(error))
            continue
        remedy = f"`dlgsum sync {run.id}` makes it whole" if name == WANDB else ""
        open_it = partial(kind.open, opening)
        opened.append(Detached(title, open_it, timeout=config.tracking.finish_timeout, remedy=remedy))
    return opened
