"""The callbacks of a run, joined to its folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dlgsum.config.schema import Config
from dlgsum.core.console import messages
from dlgsum.core.signals import StopWish
from dlgsum.monitoring.watch import Watch
from dlgsum.recipes import mirrors
from dlgsum.recipes.observers import Observers
from dlgsum.recipes.watching import build_watch, nan_reporter, tell_event
from dlgsum.tracking.progress import ProgressFile
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.stream import MetricStream

if TYPE_CHECKING:
    from dlgsum.training.hooks.keep_best import KeepBest, SaveModel
    from dlgsum.training.hooks.monitor import Monitor
    from dlgsum.training.hooks.progress import ShowProgress
    from dlgsum.training.hooks.stop import StopCleanly
    from dlgsum.training.trainer import SummarizationTrainer


@dataclass(frozen=True)
class Hooks:
    """The trainer, the callbacks that the recipe talks to, the stream of metrics, the detectors, the sign of life."""

    trainer: SummarizationTrainer
    keep_best: KeepBest
    progress: ShowProgress
    stop: StopCleanly
    stream: MetricStream
    watch: Watch
    alive: ProgressFile


def attach(
    trainer: SummarizationTrainer,
    config: Config,
    run: RunFolder,
    save_model: SaveModel,
    observers: Observers,
    *,
    resumed_at: int | None,
) -> Hooks:
    """Add every callback of a run to its trainer; what they remember goes into the checkpoints.

    Args:
        resumed_at: the step that the run goes on from, -1 where it starts over; None: a new run.
    """
    from dlgsum.training import parallel
    from dlgsum.training.best import Patience, Ranking
    from dlgsum.training.hooks.keep_best import KeepBest
    from dlgsum.training.hooks.progress import ShowProgress
    from dlgsum.training.hooks.record import Record
    from dlgsum.training.hooks.stop import Deadline, StopCleanly

    first = trainer.is_world_process_zero()
    greater, training = config.metrics.larger_wins, config.training
    stream = MetricStream(run.metrics, mirrors.build_trackers(config, run, resumed_at=resumed_at) if first else [])
    keep_best = KeepBest(
        config.metrics.best,
        Ranking(training.keep_best, greater),
        Patience(training.early_stopping_patience, training.early_stopping_threshold, greater),
        run,
        save_model,
    )
    progress = ShowProgress(
        trainer, keep_best, messages(), mode=config.monitoring.progress, samples=config.monitoring.samples
    )
    stop = StopCleanly(StopWish(), Deadline(None), agree=parallel.any_of, alone=trainer.args.world_size == 1)
    beat = ProgressFile(run.path) if first else ProgressFile(None)
    watch = build_watch(config, run, observers.alerts, first=first)
    monitor = _monitor(trainer, config, watch, stream)
    record = Record(
        trainer,
        stream,
        run,
        predictions=config.tracking.save_predictions,
        samples=config.tracking.samples,
        measured=monitor.take if monitor else dict,
    )
    # Best first: the line that progress prints says whether this model is the best. The monitor before the record,
    # which takes what it measured. Stop last: it overrules the others.
    for hook in (keep_best, monitor, record, progress, _alive(beat, observers), stop):
        if hook is not None:
            trainer.add_callback(hook)
    trainer.stop = stop
    trainer.checkpoint_plan.stateful |= {"best": keep_best, "metrics": stream, "stop": stop}
    if monitor is not None:
        trainer.checkpoint_plan.stateful["monitor"] = monitor
        trainer.checkpoint_plan.gather.append(monitor.gather)
    trainer.on_not_finite = nan_reporter(trainer, run, config)
    if first:
        trainer.on_event = partial(tell_event, run, observers.alerts)
    return Hooks(trainer, keep_best, progress, stop, stream, watch, beat)


def _monitor(trainer: SummarizationTrainer, config: Config, watch: Watch, stream: MetricStream) -> Monitor | None:
    if not config.monitoring.enabled:
        return None
    from dlgsum.training.hooks.monitor import Monitor

    settings = config.monitoring
    return Monitor(
        trainer,
        watch,
        layers_every=settings.layers_every,
        histograms_every=settings.histograms_every if trainer.is_world_process_zero() else 0,
        histograms=stream.histogram,
    )


def _alive(file: ProgressFile, observers: Observers) -> Any:
    """Return a callback that shows that the run is alive, and how far it has come."""
    from transformers import TrainerCallback

    class Beat(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            file.beat(state.global_step, state.max_steps, "saving" if control.should_save else "training")

        def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            file.beat(state.global_step, state.max_steps, "evaluating")

        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            observers.indexed()
            file.beat(state.global_step, state.max_steps, "saving" if control.should_save else "training")

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            file.beat(state.global_step, state.max_steps)

    return Beat()
