"""What follows the training itself: a chart, the model's registration, and what mirrors get at the end.

All of it is extra: the run folder has its model and its scores by then, so that what goes wrong here is a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dlgsum.config.schema import Config
from dlgsum.monitoring.alerts import Alerts
from dlgsum.recipes import announce, introduction
from dlgsum.recipes.result import TrainingResult
from dlgsum.recipes.stored import place_of
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.samples import samples_from

if TYPE_CHECKING:
    from dlgsum.tracking.stream import MetricStream

logger = logging.getLogger(__name__)


def draw(run: RunFolder, config: Config, best_step: int | None) -> None:
    """Draw the learning curves of a run, however it ended."""
    with _extra("the learning curves could not be drawn"):
        from dlgsum.reporting.charts.training import save_learning_curves

        save_learning_curves(run, best_step, config.metrics.best)


def announce_completed(alerts: Alerts, run: RunFolder, result: TrainingResult, findings: Mapping[str, int]) -> None:
    """Tell people that a run is complete; see ``announce.completed``."""
    with _extra("nobody could be told that the run is complete"):
        announce.completed(alerts, run, result, findings)


def register(config: Config, run: RunFolder, result: TrainingResult) -> None:
    """Register the best model, so that ``models:NAME`` finds it."""
    with _extra("the model is not registered yet; `dlgsum experiments reindex` does it"):
        from dlgsum.tracking.registry import ModelRegistry, register_run

        place = place_of(config)
        registry = ModelRegistry(place.output_dir, place.store)
        try:
            name = register_run(registry, run, result)
        finally:
            registry.shared.close()
        run.event("registered", model=name)
        if config.monitoring.progress != "off":
            introduction.say("registered", f"models:{name}")


def show(stream: MetricStream, run: RunFolder, config: Config, result: TrainingResult) -> None:
    """Give the mirrors what is shown of a whole run: predictions of the best model, the chart, the model itself."""
    with _extra("the mirrors did not get everything that is shown at the end"):
        predictions = run.predictions / f"eval-step-{result.best_step}.jsonl"
        if config.tracking.samples and predictions.is_file():
            stream.samples(result.steps, "best", samples_from(run, predictions, config.tracking.samples))
        show_charts(stream, run, result.steps)
        scores = {"metrics": result.best_metrics, "signature": result.signature}
        stream.model(result.steps, run.best_model, {"run": run.id, "step": result.best_step, **scores})


def show_charts(stream: MetricStream, run: RunFolder, step: int) -> None:
    """Give the mirrors the charts of a run."""
    with _extra("the mirrors did not get the charts"):
        for chart in sorted(run.visualizations.glob("*.png")):
            stream.image(step, chart.stem, chart)


@contextmanager
def _extra(what: str) -> Iterator[None]:
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:  # whoever is tired of waiting has a finished run all the same
        logger.warning("%s (%s: %s)", what, type(error).__name__, error, exc_info=True)
