"""A run in several processes on this machine, started, watched and started again by this one."""

from __future__ import annotations

from dlgsum.config.compose import to_yaml
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.recipes.failures import failures_in_words, record_failure
from dlgsum.recipes.launch import supervise
from dlgsum.recipes.limits import Limits
from dlgsum.recipes.result import TrainingResult, read_result
from dlgsum.recipes.settle import Settled
from dlgsum.tracking.lock import RunLock
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
    with failures_in_words(lambda: run), RunLock(run.path):
        # The processes take their configuration from here.
        run.write_config(to_yaml(settled.config))
        try:
            supervise(
                run,
                processes=processes,
                settings=settled.config.distributed,
                worker=worker,
                time_limit=limits.left(),
            )
        except BaseException as error:
            if run.state == "running":  # else the first process has written down how it ended
                record_failure(run, error, None)
            raise
        result = read_result(run)
    if result is None:
        raise EnvironmentProblem(f"The processes ended, but {run.results} cannot be read", f"The log is {run.log}.")
    return result
