"""The end of a process while W&B still waits for its server.

At the end of a process W&B waits until its service, a process of its own, has sent everything: half a minute and more
where the server is silent, and Ctrl-C does not end that.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

logger = logging.getLogger(__name__)

_GRACE = 1.0  # seconds that the service has to end by itself
_open: set[str] = set()
_ended = threading.Event()


def do_not_wait_for(run: str) -> None:
    """Have the end of this process not wait for a run, unless ``is_finished`` is called for it; W&B must be set up.

    Args:
        run: its id.
    """
    with contextlib.suppress(ImportError, AttributeError):  # not W&B's public face
        from wandb.analytics.opentelemetry import opentelemetry_proxy

        opentelemetry_proxy.disable()  # W&B's reports of its own use, which hold up the end by 10 s
    _open.add(run)
    atexit.unregister(_end_service)
    atexit.register(_end_service)  # the last is called first: before W&B's own, which waits


def is_finished(run: str) -> None:
    """Note that W&B has all of a run, or never had any of it."""
    _open.discard(run)


def service_ended() -> bool:
    """Return whether W&B's service was ended here: what W&B raises from then on is of no interest."""
    return _ended.is_set()


def _end_service() -> None:
    """End W&B's service if only runs that nobody waits for are left in it.

    W&B has no public way to leave without waiting: another version of it may be waited for as it likes.
    """
    with contextlib.suppress(AttributeError):
        _end_service_of_this_version()


def _end_service_of_this_version() -> None:
    setup = getattr(sys.modules.get("wandb.sdk.wandb_setup"), "_singleton", None)
    # A fork has the service of its parent, which is not its own to end.
    if not _open or setup is None or setup._pid != os.getpid():
        return
    if any(run.id not in _open for run in setup._active_runs):  # the user's own, which W&B is to finish
        return
    connection: Any = setup._connection
    process = getattr(getattr(connection, "_proc", None), "_process", None)
    if process is None:  # a service that another process started
        return
    _ended.set()
    with contextlib.suppress(Exception):
        import wandb

        wandb.termsetup(wandb.Settings(silent=True), None)
        threading.excepthook = partial(_not_of_wandb, threading.excepthook)
        connection._cleanup()  # W&B's own hook
    process.terminate()
    try:
        process.wait(_GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
    logger.debug("W&B's service was ended before it had sent all")


def _not_of_wandb(hook: Callable[[Any], Any], error: Any) -> None:
    """Tell of an exception in a thread, unless the thread is W&B's: those miss the service."""
    if error.thread is None or not error.thread.name.startswith("wandb-"):
        hook(error)
