"""What a training run ends with."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlgsum.core.files import new_folder, read_json
from dlgsum.recipes.baselines import lead_baseline
from dlgsum.recipes.settle import Settled
from dlgsum.tracking.run import RunFolder

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit
    from dlgsum.recipes.hooks import Hooks
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


def finish(
    run: RunFolder,
    trainer: SummarizationTrainer,
    hooks: Hooks,
    datasets: Mapping[str, EncodedSplit],
    settled: Settled,
    since: float,
) -> TrainingResult:
    """Go back to the best model, score the test rows, and gather the result; every process calls this.

    Args:
        since: the time of ``time.monotonic`` at which the run, or this part of it, began.
    """
    from dlgsum.recipes.model_folder import load_weights
    from dlgsum.training import parallel

    keep_best, last = hooks.keep_best, trainer.last_evaluation
    signature = last.scores.signature if last and last.scores else _signature_of(run) or trainer.suite.signature
    best, step = keep_best.ranking.best, trainer.state.global_step
    write = keep_best.save() if best is None else None
    if trainer.is_world_process_zero():
        keep_best.tidy()
        if write is not None:
            metric = settled.config.metrics.best
            logger.warning("no evaluation gave a finite %s; the last model is kept as best_model", metric)
            with new_folder(run.best_model) as folder:
                write(folder, {}, step)
    parallel.barrier()  # the others read what the first one wrote
    if best is not None and settled.config.training.load_best_model_at_end and best.step != step:
        load_weights(trainer.model, run.best_model)
    test = score_test_rows(trainer, datasets.get("test"))
    validation = datasets["validation"]
    return TrainingResult(
        run_id=run.id,
        run_dir=str(run.path),
        model_path=str(run.best_model),
        best_metrics=keep_best.best_metrics,
        best_step=best.step if best else step,
        signature=signature,
        validation_fingerprint=validation.split.fingerprint,
        baseline_metrics=lead_baseline(validation.rows, trainer.suite),
        test_metrics=test.metrics,
        test_baseline_metrics=test.baseline,
        test_signature=test.signature,
        final_metrics=keep_best.last_metrics,
        steps=step,
        epochs=float(trainer.state.epoch or 0.0),
        seconds=time.monotonic() - since,
        stopped_early=keep_best.stopped_early,
        choices={**settled.reasons, "device": trainer.generator.plan.reason},
    )


def _signature_of(run: RunFolder) -> str:
    """Return the signature that the best model was scored with, by an earlier part of this run; empty without one."""
    try:
        return str(read_json(run.best_model / "metrics.json").get("signature", ""))
    except (OSError, ValueError):
        return ""


def read_result(run: RunFolder) -> TrainingResult | None:
    """Return the result that a run wrote; None where there is none, or one of another version."""
    saved = run.read_results()
    if saved is None:
        return None
    saved.pop("schema_version", None)
    try:
        return TrainingResult(**saved)
    except TypeError:
        return None
