"""Whatever ends a job early, as an error that says what happened and what is left."""

from __future__ import annotations

import logging
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dlgsum.core.errors import DlgsumError, EnvironmentProblem, Interrupted, TrainingFailed
from dlgsum.core.files import disk_is_full
from dlgsum.core.signals import terminated_like_interrupted
from dlgsum.tracking.run import RunFolder, Status

if TYPE_CHECKING:
    from transformers import TrainerState


logger = logging.getLogger(__name__)


@contextmanager
def failures_in_words(run: Callable[[], RunFolder | None]) -> Iterator[None]:
    """Turn what a training job can end with into one of our errors; SIGTERM is treated like Ctrl-C.

    Args:
        run: gives the run folder, once there is one.

    Raises:
        DlgsumError: with the exit code of what went wrong.
    """
    try:
        with terminated_like_interrupted():
            yield
    except DlgsumError:
        raise
    except KeyboardInterrupt as error:
        number = int(error.args[0]) if error.args else int(signal.SIGINT)
        raise _interrupted(run(), number) from None
    except Exception as error:
        folder = run()
        if disk_is_full(error, folder.path if folder else Path.cwd()):
            raise _full_disk(folder, error) from error
        hint = f"The traceback is in {folder.log}." if folder else "--debug shows where."
        if folder and has_checkpoint(folder):
            hint += f"\nWhat was saved before is whole; go on from there with: {resume_command(folder)}"
        raise TrainingFailed(f"{type(error).__name__}: {error}", hint) from error


def interruption(run: RunFolder, number: int, reason: str, state: TrainerState, processes: int) -> Interrupted:
    """Return the error of a run that stopped at the end of a step, with everything saved."""
    return Interrupted(
        number,
        f"Stopped at step {state.global_step} of {state.max_steps} ({reason}); everything is saved in {run.path}.",
        f"Go on with: {resume_command(run, processes)}",
    )


def resume_command(run: RunFolder, processes: int = 1) -> str:
    """Return the command that goes on with a run from the current folder, with so many processes of this machine."""
    usual = Path("outputs").absolute() / "experiments" == run.path.absolute().parent
    command = f"dlgsum resume {run.id if usual else shlex.quote(str(run.path))}"
    return command if processes == 1 else f"{command} --nproc {processes}"


def has_checkpoint(run: RunFolder) -> bool:
    """Say whether a run has saved anything to go on from."""
    return any(run.checkpoints.glob("checkpoint-*"))


def status_of(error: BaseException) -> Status:
    """Return the state of a run that an error ended: interrupted or failed."""
    return "interrupted" if isinstance(error, (KeyboardInterrupt, Interrupted)) else "failed"


def record_failure(run: RunFolder, error: BaseException, *, final: bool = True) -> None:
    """Write down how a run ended: its log, its status and its events.

    Args:
        final: False: somebody may start it again; only the log is told.
    """
    status = status_of(error)
    reason = f"{type(error).__name__}: {error}"
    try:
        # The caller gets the exception, so the console need not say it twice.
        traceback = not isinstance(error, DlgsumError)
        logger.error(
            "training %s: %s",
            status,
            reason,
            exc_info=traceback,
            extra={"told": True, "event": not traceback and final},
        )
        if final:
            run.status(status, reason=reason)
            run.event("end", level="error", message=f"training {status}: {reason}", status=status, reason=reason)
    except OSError:  # a full disk must not hide the first error
        pass


def _interrupted(run: RunFolder | None, number: int) -> Interrupted:
    name = signal.Signals(number).name
    code = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
    if run is None:
        return Interrupted(code, f"Interrupted ({name}); nothing was kept.")
    best = run.best_model
    kept = f"The best model so far is {best}." if best.is_dir() else "There was no model to keep yet."
    return Interrupted(
        code,
        f"Interrupted ({name}). The run is in {run.path}.",
        f"{kept}\nGo on with: {resume_command(run)}",
    )


def _full_disk(run: RunFolder | None, error: Exception) -> EnvironmentProblem:
    name = getattr(error, "filename", None)
    place = os.fspath(name) if name else str(run.path if run else "a file")
    if run is None:
        return EnvironmentProblem(f"The disk is full: {place} could not be written.", "Nothing was saved yet.")
    go_on = f"\nFree some space and go on with: {resume_command(run)}" if has_checkpoint(run) else ""
    return EnvironmentProblem(
        f"The disk is full: {place} could not be written.",
        f"What was saved before is whole, and lies in {run.path}.{go_on}",
    )
