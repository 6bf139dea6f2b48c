"""What a training run ends with."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlgsum.recipes.baselines import lead_baseline

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit
    from dlgsum.training.trainer import SummarizationTrainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """What a run ended with.

    ``best_metrics`` are the validation metrics of the best model, ``baseline_metrics`` those of the lead baseline,
    ``test_metrics`` and ``test_baseline_metrics`` the same on test rows with summaries (empty without them).
    """

    run_id: str
    run_dir: str
    model_path: str
    best_metrics: dict[str, float]
    best_step: int
    signature: str
    validation_fingerprint: str
    baseline_metrics: dict[str, float]
    test_metrics: dict[str, float]
    test_baseline_metrics: dict[str, float]
    test_signature: str
    final_metrics: dict[str, float]
    steps: int
    epochs: float
    seconds: float
    stopped_early: bool
    choices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TestScores:
    """The scores of the test rows beside the lead baseline's; empty where they could not be scored."""

    metrics: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    signature: str = ""


def score_test_rows(trainer: SummarizationTrainer, test: EncodedSplit | None) -> TestScores:
    """Generate the test rows, and score them where every row has a summary.

    Whatever goes wrong is a warning: the model is trained and saved, and must not be lost over a score.
    """
    if test is None:
        return TestScores()
    try:
        scored = trainer.evaluate(test, metric_key_prefix="test")
        last = trainer.last_evaluation
        if not test.split.has_summaries or last is None or last.scores is None:
            return TestScores()
        metrics = {name.removeprefix("test_"): value for name, value in scored.items()}
        return TestScores(metrics, lead_baseline(test.rows, trainer.suite), last.scores.signature)
    except Exception as error:
        # The console shows the message, the log the traceback too.
        logger.warning("the test rows could not be scored (%s); training itself is complete", error, exc_info=True)
        return TestScores()
