"""Checking the metric settings must stay quick: nothing heavy is imported for it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "transformers", "datasets", "kiwipiepy", "evaluate", "sacrebleu", "rouge_score", "nltk")
PROGRAM = """
import sys
from dlgsum.config.schema import Metrics
from dlgsum.metrics.suite import MetricSuite, known_metric_names, settings_problems
settings = Metrics(extra=["chrf"])
assert "chrf" in known_metric_names(settings)
assert settings_problems(settings) == []
MetricSuite(settings).signature
print(",".join(name for name in sys.argv[1:] if name in sys.modules))
"""


def test_settings_are_checked_and_signed_without_heavy_imports() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *HEAVY], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == ""
