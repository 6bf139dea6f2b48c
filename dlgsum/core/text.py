"""Numbers with their words: ``1 row``, ``1,234 rows``."""

from __future__ import annotations


def plural(count: int, one: str) -> str:
    """Return a count with its word, which ends in an s unless there is one of it."""
    return f"{count:,} {one}{'s' * (count != 1)}"
