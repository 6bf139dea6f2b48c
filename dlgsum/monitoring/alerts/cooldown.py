"""Not the same message twice within a while: what comes meanwhile is counted, and told in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dlgsum.monitoring.alerts.alert import Alert
from dlgsum.monitoring.finding import SEVERITIES


@dataclass(slots=True)
class _Kind:
    """What is known of one kind: the message that was sent last, when, and what was held back since."""

    sent: Alert
    at: float
    held: int = 0
    last: Alert | None = None
    open: bool = True  # somebody was told of it, and not yet that it has passed
    passed: int | None = None


class Cooldown:
    """Decides which alerts of a kind are sent; not thread-safe.

    Args:
        seconds: between two messages of one kind; a more severe one does not wait.
        clock: seconds, rising.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}

    def admit(self, alert: Alert) -> str | None:
        """Return None where the alert is to be held back, else a line on those that were; empty where none were."""
        now, known = self._clock(), self._kinds.get(alert.kind)
        if known is not None:
            worse = SEVERITIES.index(alert.severity) > SEVERITIES.index(known.sent.severity)
            if now - known.at < self._seconds and not worse:
                known.held += 1
                known.last, known.passed = alert, None
                return None
        self._kinds[alert.kind] = _Kind(alert, now)
        return "" if known is None else _more(known)

    def passed(self, kind: str, step: int) -> bool:
        """Take note that trouble has passed; say whether somebody was told of it and should know."""
        known = self._kinds.get(kind)
        if known is None:
            return False
        tell, known.open = known.open, False
        if tell:
            known.held = 0  # the recovery says how often it was seen
        else:
            known.passed = step
        return tell

    @property
    def holds(self) -> bool:
        """Whether anything was held back and not told yet."""
        return any(known.held for known in self._kinds.values())

    def due(self, *, all_of_them: bool = False) -> list[tuple[Alert, str]]:
        """Return the newest of what was held back of each kind, and a line on all of it, where the time is over."""
        now, found = self._clock(), []
        for kind, known in list(self._kinds.items()):
            if known.held and known.last is not None and (all_of_them or now - known.at >= self._seconds):
                found.append((known.last, _more(known)))
                self._kinds[kind] = _Kind(known.last, now, open=known.passed is None)
        return found


def _more(known: _Kind) -> str:
    if not known.held:
        return ""
    times = "1 more time" if known.held == 1 else f"{known.held} more times"
    since = "" if known.sent.step is None else f" since step {known.sent.step}"
    last = known.last.step if known.last is not None else None
    until = "" if last is None else f", last at step {last}"
    gone = "" if known.passed is None else f"; no longer there at step {known.passed}"
    return f"{known.sent.kind}: {times}{since}{until}{gone}"
