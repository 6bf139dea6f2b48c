"""An address that alerts go to, through Apprise: one attempt, and what came back."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlgsum.config.addresses import label, overheard, service_of
from dlgsum.monitoring.alerts.alert import Alert

# What requests, urllib3, smtplib and the operating system say, and what it means.
_MEANINGS = (
    (r"timed? ?out", "timed out"),
    (r"refused", "connection refused"),
    (r"name or service not known|name resolution|getaddrinfo|nodename nor servname", "no such server"),
    (r"certificate|ssl", "no secure connection"),
    (r"unreachable", "network unreachable"),
    (r"reset|aborted|remotedisconnected|remote end closed", "connection lost"),
)
_TYPES = {"info": "info", "warning": "warning", "error": "failure"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: whether it was delivered, in words (``HTTP 500``, ``timed out``), and after how many seconds."""

    delivered: bool
    detail: str
    seconds: float
    attempts: int = 1


class _NotUnderstood(ValueError):
    """Its message may be shown."""


class Target:
    """One address.

    Args:
        name: what may be shown of it.
        timeout: seconds for the connection, and again for the answer.

    Raises:
        ValueError: Apprise does not understand the address.
    """

    def __init__(self, address: str, name: str, timeout: float) -> None:
        self.name = name
        self._service: Any = service_of(address)
        if self._service is None:
            raise _NotUnderstood(f"{name} is no address that Apprise understands")
        self._service.socket_connect_timeout = min(timeout, self._service.socket_connect_timeout)
        self._service.socket_read_timeout = timeout

    def attempt(self, alert: Alert) -> Answer:
        """Send an alert once and wait for the answer; nothing is raised."""
        import apprise

        began = time.monotonic()
        with overheard() as heard:
            try:
                sender = apprise.Apprise(asset=self._service.asset)
                sender.add(self._service)
                told = bool(
                    sender.notify(
                        title=alert.title, body=alert.short, notify_type=_TYPES[alert.severity], body_format="text"
                    )
                )
            except Exception as error:  # Apprise is not meant to raise; whatever it does, training goes on
                heard.append(f"{type(error).__name__}: {error}")
                told = False
        return Answer(told, "delivered" if told else meaning(heard), time.monotonic() - began)


def targets(addresses: Sequence[str], timeout: float) -> tuple[list[Target], list[str]]:
    """Return a target for each address, and what may be shown of those that cannot be used, with the reason.

    Several that look the same are numbered.
    """
    labels = [label(address) for address in addresses]
    names = [
        name if labels.count(name) == 1 else f"{name} (no. {labels[:place].count(name) + 1})"
        for place, name in enumerate(labels)
    ]
    found, problems = [], []
    for address, name in zip(addresses, names, strict=True):
        try:
            found.append(Target(address, name, timeout))
        except ImportError:
            problems.append(f"{name}: apprise is not installed")
        except Exception as error:  # a plugin may raise anything, and its words may name the address
            problems.append(str(error) if isinstance(error, _NotUnderstood) else f"{name}: {type(error).__name__}")
    return found, problems


def meaning(heard: Sequence[str]) -> str:
    """Return what a failure comes down to, without the words of the library, which may name the address."""
    for message in heard:
        status = re.search(r"\berror=(\d{3})\b", message)
        if status:
            return f"HTTP {status[1]}"
    text = "\n".join(heard).lower()
    return next((words for pattern, words in _MEANINGS if re.search(pattern, text)), "not delivered")
