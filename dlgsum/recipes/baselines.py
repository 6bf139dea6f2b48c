"""Scores of summaries that need no model, to hold a model against."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlgsum.data.rows import Dialogue

if TYPE_CHECKING:
    from dlgsum.metrics.suite import MetricSuite

_SPEAKER = re.compile(r"^#Person\d*#\s*:\s*")


def lead(dialogue: str, turns: int) -> str:
    """Return the first turns of a dialogue without their speaker marks; an empty dialogue gives empty text."""
    return " ".join(_SPEAKER.sub("", line) for line in dialogue.splitlines()[:turns])


def lead_baseline(rows: Sequence[Dialogue], suite: MetricSuite) -> dict[str, float]:
    """Return the best scores among the first 1, 2 and 3 turns taken as the summary, with and without speaker marks.

    The strongest variant is reported, so that a model is not compared with a straw man; rows without
    references are left out, and with none left the result is empty.
    """
    scored = [row for row in rows if row.references]
    if not scored:
        return {}
    references = [row.references for row in scored]
    variants = [[lead(row.dialogue, turns) for row in scored] for turns in (1, 2, 3)]
    variants += [[" ".join(row.dialogue.splitlines()[:turns]) for row in scored] for turns in (1, 2, 3)]
    results = [suite.rouge(texts, references) for texts in variants]
    return max(results, key=lambda metrics: metrics["rouge_combined_f1"])
