"""One line that says how scores came about, so that only comparable scores are compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dlgsum.config.schema import Metrics
from dlgsum.core.errors import UsageError
from dlgsum.metrics.scorer import Scorer

SCORING_VERSION = 1
"""Raise it whenever a change of this package changes any score."""


def describe(scorer: Scorer, settings: Metrics, nrefs: str | None = None) -> str:
    """Return the signature of the ROUGE columns, such as ``rouge_combined_f1|scorer:char|…|dlgsum:1``.

    The order of the parts is fixed, as in sacreBLEU.

    Args:
        scorer: gives its name and the versions that matter.
        settings: give the references policy and the weights, shown normalised to three decimals.
        nrefs: references per row, from :func:`count_references`; left out before rows are known.
    """
    weights = settings.weights
    total = weights.rouge1 + weights.rouge2 + weights.rougeL  # the suite refuses a total of 0
    shares = (weights.rouge1 / total, weights.rouge2 / total, weights.rougeL / total)
    parts = [
        "rouge_combined_f1",
        *scorer.signature_parts(),
        "norm:NFC",
        f"refs:{settings.references}",
        *([f"nrefs:{nrefs}"] if nrefs else []),
        "weights:" + ",".join(f"{share:.3f}" for share in shares),
        f"dlgsum:{SCORING_VERSION}",
    ]
    return "|".join(parts)


def count_references(references: Iterable[Sequence[str]]) -> str:
    """Return how many references the rows have: their common number, or ``var`` when it varies.

    Without rows the answer is ``0``.
    """
    counts = {len(row) for row in references}
    return "var" if len(counts) > 1 else str(next(iter(counts), 0))


def require_same_signature(a: str, b: str) -> None:
    """Check that scores with signatures ``a`` and ``b`` may be compared.

    Raises:
        UsageError: they differ; the message lists each part that does.
    """
    if a == b:
        return
    left, right = _parts(a), _parts(b)
    keys = [key for key in dict.fromkeys((*left, *right)) if left.get(key) != right.get(key)]
    shown = [f"  • {key}: {left.get(key, '(absent)')} and {right.get(key, '(absent)')}" for key in keys]
    raise UsageError(
        "\n".join(["These scores were computed differently and cannot be compared:", *shown]),
        "Score both sets of predictions again with the same metrics settings and package versions.",
    )


def _parts(signature: str) -> dict[str, str]:
    name, *rest = signature.split("|")
    return {"metric": name} | {key: value for key, _, value in (part.partition(":") for part in rest)}
