"""A run in several processes on this machine, started, watched and started again by this one."""

from __future__ import annotations

import os
import time

from dlgsum.config.compose import to_yaml
from dlgsum.config.masking import secret_environment
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.recipes import announce
from dlgsum.recipes.failures import failures_in_words, record_failure
from dlgsum.recipes.launch import supervise
from dlgsum.recipes.limits import Limits
from dlgsum.recipes.observers import observers_of
from dlgsum.recipes.result import TrainingResult, read_result
from dlgsum.recipes.settle import Settled
from dlgsum.tracking.lock import RunLock
from dlgsum.tracking.progress import last_step
from dlgsum.tracking.run import RunFolder


def go_on(run: RunFolder, settled: Settled, processes: int, limits: Limits) -> TrainingResult:
    """Go on with a run in several processes; a run without a checkpoint begins.

    Raises:
        DlgsumError: with the exit code of what went wrong.
    """
    worker = ["-m", "dlgsum.recipes.worker", str(run.path.absolute()), "--since", str(limits.since)]
    if limits.seconds is not None:
        worker += ["--seconds", str(limits.seconds)]
    if limits.force:
        worker.append("--force")
    config = settled.config
    with failures_in_words(lambda: run), RunLock(run.path):
        # The processes take their configuration from here, and what must not be saved from their environment.
        run.write_config(to_yaml(config))
        run.status("running")
        observers = observers_of(config, run, lambda alert: None, first=True)
        observers.indexed()
        alerts = observers.alerts

        def relaunched(attempt: int, reason: str, pause: float) -> None:
            announce.relaunched(alerts, run, attempt=attempt, reason=reason, pause=pause, processes=processes)

        try:
            supervise(
                run,
                processes=processes,
                settings=config.distributed,
                worker=worker,
                time_limit=limits.left(),
                closing=config.tracking.finish_timeout,
                environ={**os.environ, **secret_environment(config)},
                on_relaunch=relaunched,
            )
        except BaseException as error:
            record_failure(run, error)
            announce.ended(
                alerts, run, error, seconds=time.monotonic() - limits.since, step=last_step(run), processes=processes
            )
            raise
        finally:
            observers.indexed()
            observers.close()
        result = read_result(run)
    if result is None:
        raise EnvironmentProblem(f"The processes ended, but {run.results} cannot be read", f"The log is {run.log}.")
    return result
