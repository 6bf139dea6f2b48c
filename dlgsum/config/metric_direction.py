"""Which of two values of a metric is the better one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from dlgsum.config.schema.metrics import SMALLER_IS_BETTER

LARGER_IS_BETTER: Final = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rouge_combined_f1", "bleu", "distinct_share")


def direction(metric: str, configs: Iterable[Mapping[str, Any]] = ()) -> Literal[-1, 0, 1]:
    """Return 1 where larger is better, -1 where smaller is, and 0 where that is not known.

    Not known are metrics such as runtime, which says nothing of a model, or pred_chars, which can be too large and too
    small. Of an extra metric, that is known which chose a best model.

    Args:
        metric: with or without ``test_`` in front.
        configs: settings that were saved; where they contradict one another, nothing is known.
    """
    name = metric.removeprefix("test_")
    if name in SMALLER_IS_BETTER:
        return -1
    if name in LARGER_IS_BETTER:
        return 1
    said: set[Literal[-1, 1]] = set()
    for config in configs:
        metrics = config.get("metrics")
        # Without the second setting it is the configuration of another program.
        if isinstance(metrics, Mapping) and metrics.get("best") == name and "greater_is_better" in metrics:
            said.add(-1 if metrics["greater_is_better"] is False else 1)
    return said.pop() if len(said) == 1 else 0
