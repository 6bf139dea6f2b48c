"""The callbacks of a run, joined to its folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlgsum.config.schema import Config
from dlgsum.core.console import messages
from dlgsum.core.signals import StopWish
from dlgsum.recipes import wiring
from dlgsum.tracking.progress import ProgressFile
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.stream import MetricStream

if TYPE_CHECKING:
    from dlgsum.training.hooks.keep_best import KeepBest, SaveModel
    from dlgsum.training.hooks.progress import ShowProgress
    from dlgsum.training.hooks.stop import StopCleanly
    from dlgsum.training.trainer import SummarizationTrainer


@dataclass(frozen=True)
class Hooks:
    """The callbacks that the recipe talks to, and the stream of metrics."""

    keep_best: KeepBest
    progress: ShowProgress
    stop: StopCleanly
    stream: MetricStream


def attach(trainer: SummarizationTrainer, config: Config, run: RunFolder, save_model: SaveModel) -> Hooks:
    """Add every callback of a run to its trainer; what they remember goes into the checkpoints."""
    from dlgsum.training import parallel
    from dlgsum.training.best import Patience, Ranking
    from dlgsum.training.hooks.keep_best import KeepBest
    from dlgsum.training.hooks.progress import ShowProgress
    from dlgsum.training.hooks.record import Record
    from dlgsum.training.hooks.stop import Deadline, StopCleanly

    first = trainer.is_world_process_zero()
    greater, training = config.metrics.larger_wins, config.training
    stream = MetricStream(run.metrics, wiring.build_trackers(config, run) if first else [])
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
    # Best first: the line that progress prints says whether this model is the best. Stop last: it overrules the others.
    record = Record(trainer, stream, run, predictions=config.tracking.save_predictions)
    for hook in (keep_best, record, progress, _beating(beat), stop):
        trainer.add_callback(hook)
    trainer.stop = stop
    trainer.checkpoint_plan.stateful |= {"best": keep_best, "metrics": stream, "stop": stop}
    if first:
        trainer.on_event = run.event
    return Hooks(keep_best, progress, stop, stream)


def _beating(file: ProgressFile) -> Any:
    """Return a callback that shows that the run is alive."""
    from transformers import TrainerCallback

    class Beat(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            file.beat(state.global_step)

        def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            file.beat(state.global_step)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            file.beat(state.global_step)

    return Beat()
