"""ROUGE for Korean as a local metric: ``evaluate.load(str(evaluate_metric_path()))``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from dlgsum.config.schema import Metrics, Weights
from dlgsum.metrics.suite import MetricSuite

DESCRIPTION = "ROUGE F1 over Korean morphemes, words or characters, with BLEU and simple health numbers."

INPUTS = """
Args:
    predictions: list of texts.
    references: list of texts, or list of lists of texts with several references a row.
    scorer: how texts are cut: kiwi (default), mecab, char, multilingual, whitespace, pltrdy or google.
    protect_tags: keep tags such as #Person1# as one unit (default True).
    multiple: mean (default) or max, for several references.
    weights: of ROUGE-1, ROUGE-2 and ROUGE-L in rouge_combined_f1 (default equal).
    bleu: also compute BLEU (default True).
Returns:
    a dictionary of numbers, the same as `dlgsum` reports, and `signature`, a text that says how they came about.
"""


class KoreanRouge(evaluate.Metric):  # type: ignore[misc]  # evaluate is not typed
    """The metrics of :class:`dlgsum.metrics.suite.MetricSuite` behind the interface of `evaluate`."""

    def _info(self) -> Any:
        text = datasets.Value("string")
        formats = [
            datasets.Features({"predictions": text, "references": datasets.List(text)}),
            datasets.Features({"predictions": text, "references": text}),
        ]
        return evaluate.MetricInfo(description=DESCRIPTION, citation="", inputs_description=INPUTS, features=formats)

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[str] | Sequence[Sequence[str]],
        scorer: str = "kiwi",
        protect_tags: bool = True,
        multiple: str = "mean",
        weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
        bleu: bool = True,
    ) -> dict[str, Any]:
        one, two, longest = weights
        settings: dict[str, Any] = {
            "scorer": scorer,
            "protect_tags": protect_tags,
            "references": multiple,
            "weights": Weights(rouge1=one, rouge2=two, rougeL=longest),
            "bleu": bleu,
        }
        rows = [[row] if isinstance(row, str) else list(row) for row in references]
        result = MetricSuite(Metrics(**settings)).score(predictions, rows)
        return {**result.metrics, "signature": result.signature}
