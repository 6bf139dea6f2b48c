"""Read what another process, another version or a damaged disk may have written: what does not fit is None."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

from dlgsum.core.files import read_json


def read_object(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None where there is none, or none that can be read just now."""
    try:
        return read_json(path)
    except (OSError, ValueError, RecursionError):
        return None


def number(value: Any) -> float | None:
    """Return a number as our files hold it, NaN and infinities as words; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity"):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def whole(value: Any) -> int | None:
    """Return a whole number; None for everything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def moment(value: Any) -> float | None:
    """Return a time, written as a number or in ISO 8601, in seconds since 1970; None for everything else."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    found = number(value)
    return found if found is not None and math.isfinite(found) else None
