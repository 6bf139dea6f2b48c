"""Signals that ask a job to stop: as an exception, or as a wish that is granted at the next good moment."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1")  # SIGUSR1: what SLURM is told to send before the time is up
    if hasattr(signal, name)
)

SAME_SIGNAL = 0.5  # seconds within which a signal counts once: `timeout` and `uv run` send it twice


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Treat SIGTERM and SIGUSR1 as Ctrl-C while the block runs; the KeyboardInterrupt carries the signal's number."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    with _handled(interrupt, STOPPING[1:]):
        yield


class StopWish:
    """The first signal that asked for a stop, if any came.

    Attributes:
        number: the signal's number; None while none came.
    """

    def __init__(self) -> None:
        self.number: int | None = None


@contextmanager
def signals_as_wish(*, second_ends: bool = True) -> Iterator[StopWish]:
    """Give what remembers the first of SIGINT, SIGTERM and SIGUSR1; a second one ends the process at once.

    Outside the main thread no signal can be handled, and the wish stays empty.

    Args:
        second_ends: False where somebody else decides when it has taken too long, as the supervisor does.
    """
    wish, came = StopWish(), 0.0

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if wish.number is not None:
            if not second_ends or time.monotonic() - came < SAME_SIGNAL:
                return
            # Not sys.exit: whatever is stuck, such as a process group, must not hold the user up.
            os.write(sys.stderr.fileno() if _has_descriptor() else 2, b"\nsecond signal: stopped at once\n")
            os._exit(128 + (signal.SIGINT if number == signal.SIGINT else signal.SIGTERM))
        wish.number, came = number, time.monotonic()

    with _handled(remember, STOPPING):
        yield wish


def _has_descriptor() -> bool:
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], signals: tuple[signal.Signals, ...]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
