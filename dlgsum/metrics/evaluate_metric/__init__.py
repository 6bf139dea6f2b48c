"""Our scorer as a metric of the `evaluate` library, for code that uses that library."""

from __future__ import annotations

from pathlib import Path


def evaluate_metric_path() -> Path:
    """Return the folder for ``evaluate.load(str(evaluate_metric_path()))``, which works offline."""
    return Path(__file__).parent / "korean_rouge"
