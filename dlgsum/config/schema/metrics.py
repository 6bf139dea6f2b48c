"""How summaries are scored and which score decides."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from dlgsum.config.schema.options import RULES, nested, option


@dataclass(frozen=True, kw_only=True, config=RULES)
class Weights:
    """Weights of the three ROUGE F1 scores in the combined score; they are normalised to sum to 1."""

    rouge1: float = option(1.0, "Weight of ROUGE-1 F1.", ge=0)
    rouge2: float = option(1.0, "Weight of ROUGE-2 F1.", ge=0)
    rougeL: float = option(1.0, "Weight of ROUGE-L F1.", ge=0)


SMALLER_IS_BETTER = ("loss", "empty_share")


@dataclass(frozen=True, kw_only=True, config=RULES)
class Metrics:
    """Scorer, treatment of several references, combined score and further metrics."""

    scorer: str = option("kiwi", "How text is cut into units for ROUGE; a scorer's short name.")
    protect_tags: bool = option(True, "Keep tags such as #Person1# as one unit in morpheme scorers.")
    references: Literal["mean", "max"] = option("mean", "Several references: average the scores, or take the best.")
    weights: Weights = nested(Weights, "Weights of ROUGE-1/2/L in rouge_combined_f1.")
    bleu: bool = option(True, "Also report BLEU (sacrebleu) over the scorer's units.")
    extra: list[str] = option([], "Further metrics by their name or local path in the `evaluate` library.")
    best: str = option("rouge_combined_f1", "The metric that chooses the best model.")
    greater_is_better: bool | None = option(
        None, "Whether a larger value of `metrics.best` is better; null: not for loss and empty_share."
    )
    bootstrap_samples: int = option(1000, "Resamples for the 95 % intervals of `evaluate`.", ge=100, le=100_000)

    @property
    def larger_wins(self) -> bool:
        """Whether the model with the larger value of ``best`` is the better one."""
        return self.best not in SMALLER_IS_BETTER if self.greater_is_better is None else self.greater_is_better
