"""Numbers as people say them: ``1 row``, ``1,234 rows``, ``3 h 20 min``."""

from __future__ import annotations


def plural(count: int, one: str) -> str:
    """Return a count with its word, which ends in an s unless there is one of it."""
    return f"{count:,} {one}{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """Return a time as people say it: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
