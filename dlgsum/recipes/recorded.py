"""A training job from its first second to its last: who holds the folder, what is written down, who is told."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dlgsum.config.schema import Config
from dlgsum.core.files import write_json
from dlgsum.core.log import logging_to, route_transformers
from dlgsum.recipes import announce, closing, introduction
from dlgsum.recipes.failures import record_failure, status_of
from dlgsum.recipes.observers import Observers
from dlgsum.recipes.processes import Group
from dlgsum.recipes.result import TrainingResult
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.timeline import last_alive

if TYPE_CHECKING:
    from dlgsum.recipes.hooks import Hooks


@dataclasses.dataclass(frozen=True)
class Job:
    """One run in this process.

    Attributes:
        reasons: why the model, the data and so on were chosen.
        observers: who learns how it goes.
        hooks: the callbacks, once there are any.
    """

    run: RunFolder
    group: Group
    config: Config
    reasons: dict[str, str]
    observers: Observers
    hooks: Callable[[], Hooks | None]

    def do(self, work: Callable[[], TrainingResult]) -> TrainingResult:
        """Do the work and hold the run folder meanwhile; the first process writes down and tells how it goes.

        Raises:
            BaseException: whatever the work raises.
        """
        run, first, monitoring = self.run, self.group.first, self.config.monitoring
        log = logging_to(
            self.group.log(run),
            events=run.events if first else None,
            level=monitoring.log_level,
            console_level=monitoring.console_level,
        )
        with self.group.folder_held(run), log:
            route_transformers()
            summary: dict[str, Any] = {}
            failed = True
            try:
                result = self._written_down(work) if first else work()
                summary, failed = {f"best/{name}": value for name, value in result.best_metrics.items()}, False
                if first:
                    self._after(result)
                return result
            except BaseException as error:
                summary = {"status": status_of(error)}
                raise
            finally:
                self._close(summary, failed=failed)

    def _written_down(self, work: Callable[[], TrainingResult]) -> TrainingResult:
        run, since = self.run, time.monotonic()
        before = last_alive(run)
        run.status("running")
        run.event("start", reasons=self.reasons, processes=self.group.size, last_alive=before)
        self.observers.indexed()
        try:
            introduction.describe_machine(run)
            result = work()
            write_json(run.results, dataclasses.asdict(result))
            run.status("completed")
            run.event("end", status="completed", seconds=result.seconds)
        except BaseException as error:
            # Whoever watches over several processes may start them again: how the run ended is not known here.
            record_failure(run, error, final=not self.group.supervised)
            if not self.group.supervised:
                self._tell_failure(error, time.monotonic() - since)
            if (hooks := self.hooks()) is not None:
                best = hooks.keep_best.ranking.best
                closing.draw(run, self.config, best.step if best else None)
                closing.show_charts(hooks.stream, run, hooks.trainer.state.global_step)
            raise
        return result

    def _after(self, result: TrainingResult) -> None:
        """Do what follows a complete run; nothing of it can make the run anything else."""
        run, hooks = self.run, self.hooks()
        closing.announce_completed(self.observers.alerts, run, result, hooks.watch.episodes if hooks else {})
        closing.register(self.config, run, result)
        closing.draw(run, self.config, result.best_step)
        if hooks is not None:
            hooks.alive.beat(result.steps, result.steps, "closing")
            closing.show(hooks.stream, run, self.config, result)

    def _tell_failure(self, error: BaseException, seconds: float) -> None:
        hooks = self.hooks()
        announce.ended(
            self.observers.alerts,
            self.run,
            error,
            seconds=seconds,
            step=hooks.trainer.state.global_step if hooks else None,
            best=hooks.keep_best.best_metrics if hooks else None,
            processes=self.group.size,
        )

    def _close(self, summary: dict[str, Any], *, failed: bool) -> None:
        hooks = self.hooks()
        with suppress(KeyboardInterrupt):  # whoever is tired of waiting has a run that ended as it did
            if hooks is not None:
                hooks.progress.close()
            self.observers.indexed()
            self.observers.close()
        if hooks is not None:  # last, as trackers pass alerts on too
            hooks.stream.finish(summary, failed=failed)
