"""Which run is to be watched, and with which settings."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING

from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.errors import ConfigError, UsageError
from dlgsum.core.lenient import read_object, whole
from dlgsum.recipes.announce import source_of
from dlgsum.recipes.resume import find_folder
from dlgsum.tracking.liveness import Holder
from dlgsum.tracking.progress import NAME
from dlgsum.tracking.run import RunFolder, list_runs

if TYPE_CHECKING:
    from dlgsum.monitoring.alerts import Alerts

logger = logging.getLogger(__name__)

_RECENT = 3600.0  # seconds since its last report for which a run whose process cannot be asked is taken to run
_ALERT_VARIABLES = ("DLGSUM__MONITORING__ALERTS__", "SLACK_WEBHOOK_URL", "DISCORD_WEBHOOK_URL")


def find(name: str, request: Request) -> RunFolder:
    """Return the run that ``name`` means; ``latest`` is the newest that runs, else the newest.

    A run whose process is gone from this machine does not run, whatever its status says. One of another machine is
    taken to run while it is the newest, or reported within the last hour.

    Raises:
        UsageError: no run fits.
    """
    run = find_folder(name, request)
    if name != "latest":
        return run
    return _running(run) or run


def wait_for(request: Request, *, poll: float = 1.0) -> RunFolder:
    """Return the newest run that runs, as soon as there is one.

    Raises:
        ConfigError: a setting that says where the runs are is wrong.
    """
    while True:
        try:
            run = _running(find_folder("latest", request))
        except ConfigError:
            raise
        except UsageError:
            run = None
        if run is not None:
            return run
        time.sleep(poll)


def read_config(run: RunFolder, request: Request) -> Config:
    """Return the configuration of a run, with what is said now about alerts, by variables and overrides, on top.

    One that cannot be read is replaced by the defaults, with a warning: what a run reports can be shown without it.

    Raises:
        ConfigError: an override is wrong.
    """
    environ = {key: value for key, value in request.environ.items() if key.startswith(_ALERT_VARIABLES)}
    now = dataclasses.replace(request, environ=environ)
    try:
        return compose(dataclasses.replace(now, base=run.config)).config
    except (ConfigError, OSError) as error:
        config = compose(now).config  # where the overrides are at fault, this says so
        logger.warning("the configuration of %s cannot be read, the defaults take its place: %s", run.id, error)
        return config


def open_alerts(run: RunFolder, config: Config, *, recorded: bool = True) -> Alerts:
    """Return who is told of a run's silence: those that its configuration and the environment name.

    Args:
        recorded: whether alerts are also written to the run's ``alerts.jsonl``.
    """
    from dlgsum.monitoring.alerts import Alerts

    record = run.alerts if recorded else None
    return Alerts(config.monitoring.alerts, record=record, source=source_of(config, run))


def _running(newest: RunFolder) -> RunFolder | None:
    """Return the newest run that runs, of those beside the newest of all."""
    runs = reversed(list_runs(newest.path.parent.parent))
    return next((run for run in runs if _runs(run, newest=run.id == newest.id)), None)


def _runs(run: RunFolder, *, newest: bool) -> bool:
    if run.state != "running":
        return False
    alive = Holder(run).alive(whole((read_object(run.path / "status.json") or {}).get("pid")))
    return newest or _reported_lately(run) if alive is None else alive


def _reported_lately(run: RunFolder) -> bool:
    try:
        return time.time() - (run.path / NAME).stat().st_mtime < _RECENT
    except OSError:
        return False
