"""A way out for alerts: a bounded queue and a thread, so that nobody waits for whoever is at the other end."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from dlgsum.monitoring.alerts.alert import Alert
from dlgsum.monitoring.alerts.target import Answer

logger = logging.getLogger(__name__)

_LONGEST_QUEUE = 100
_PAUSE = 1.0  # seconds before the second attempt


@dataclass(frozen=True, slots=True)
class Closed:
    """How many messages were delivered, failed, and were given up because time ran out; one to two targets is two."""

    delivered: int = 0
    failed: int = 0
    given_up: int = 0


class Outlet:
    """Delivers one alert after the other; the thread begins with the first.

    Each target has its own, so that one that hangs holds up none of the others.

    Args:
        attempt: delivers an alert and waits; an exception counts as a failure.
        attempts: how often an alert is tried.
        done: told of each answer, in the thread; an exception of it is logged, and the next alert is delivered.
    """

    def __init__(
        self, name: str, attempt: Callable[[Alert], Answer], attempts: int, done: Callable[[str, Alert, Answer], None]
    ) -> None:
        self.name = name
        self._attempt = attempt
        self._attempts = attempts
        self._done = done
        self._waiting: deque[Alert] = deque()  # the one being delivered is the first
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._abandoned = False

    def put(self, alert: Alert) -> bool:
        """Take an alert, without waiting; false where too many are waiting already, or this is closed."""
        with self._change:
            if self._closing.is_set() or len(self._waiting) >= _LONGEST_QUEUE:
                return False
            self._waiting.append(alert)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"alerts to {self.name}", daemon=True)
                self._thread.start()
            self._change.notify()
        return True

    def stop(self) -> None:
        """Take nothing more; what waits is still delivered."""
        with self._change:
            self._closing.set()
            self._change.notify()

    def wait(self, until: float) -> list[Alert]:
        """Wait for the deliveries, but not after ``until`` (``time.monotonic``); return what was given up."""
        if self._thread is not None:
            self._thread.join(max(0.0, until - time.monotonic()))
        with self._change:
            self._abandoned = True
            left = list(self._waiting)
            self._waiting.clear()
        return left

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._waiting:
                    if self._closing.is_set():
                        return
                    self._change.wait()
                alert = self._waiting[0]
            answer = self._deliver(alert)
            with self._change:
                if self._abandoned:
                    return  # it was counted as given up
                self._waiting.popleft()
            try:
                self._done(self.name, alert, answer)
            except Exception:
                with suppress(Exception):  # logging may be what failed
                    logger.info("the answer of %s was lost", self.name, exc_info=True)

    def _deliver(self, alert: Alert) -> Answer:
        began = time.monotonic()
        answer = Answer(False, "not tried", 0.0)
        for number in range(1, self._attempts + 1):
            if number > 1:
                self._closing.wait(_PAUSE)
            try:
                answer = self._attempt(alert)
            except Exception as error:
                answer = Answer(False, type(error).__name__, 0.0)
            answer = Answer(answer.delivered, answer.detail, time.monotonic() - began, number)
            if answer.delivered:
                break
        return answer
