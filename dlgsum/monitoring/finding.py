"""What a detector says: what is wrong, where, with which numbers, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")  # rising


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Trouble that a detector found.

    Attributes:
        kind: the detector's name.
        severity: "info", "warning" or "error".
        step: optimizer step, from 1.
        epoch: with its fraction; None where unknown.
        message: one sentence with the numbers in it.
        numbers: the same numbers by name, for machines.
        causes: likely causes, the likeliest first.
        advice: what to do, the first thing first.
        key: the setting to change; empty where there is none.
    """

    kind: str
    severity: Severity
    step: int
    epoch: float | None
    message: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    causes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Trouble that has passed.

    Attributes:
        first_step: at which it was found first; ``last_step``: at which it was seen last.
        count: in how many readings it was seen.
        step: the reading that says that it has passed.
    """

    kind: str
    step: int
    first_step: int
    last_step: int
    count: int
