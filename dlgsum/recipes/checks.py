"""Things that are tried before they are relied on, each with its outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """One thing that was tried: how it went, what was found, and the seconds it took."""

    name: str
    status: Status
    details: list[str]
    seconds: float


class Found:
    """What a check has found so far."""

    def __init__(self) -> None:
        self.details: list[str] = []
        self.status: Status = "ok"

    def __call__(self, detail: str) -> None:
        """Add something that is as it should be."""
        self.details.append(detail)

    def warn(self, detail: str) -> None:
        """Add something that works in a lesser way."""
        self.status = "failed" if self.status == "failed" else "warning"
        self.details.append(detail)

    def fail(self, detail: str) -> None:
        """Add something that does not work."""
        self.status = "failed"
        self.details.append(detail)


class CheckList:
    """Runs checks one after the other, timing each and telling about it."""

    def __init__(self, on_check: Callable[[Check], None] | None = None) -> None:
        self.checks: list[Check] = []
        self._on_check = on_check

    @contextmanager
    def check(self, name: str) -> Iterator[Found]:
        """Give what takes the findings; an exception passes through, and the check is then not in the list."""
        found = Found()
        started = time.perf_counter()
        yield found
        done = Check(name, found.status, found.details, time.perf_counter() - started)
        self.checks.append(done)
        if self._on_check is not None:
            self._on_check(done)
