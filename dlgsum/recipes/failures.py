"""Whatever ends a job early, as an error that says what happened and what is left."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dlgsum.core.errors import DlgsumError, EnvironmentProblem, Interrupted, TrainingFailed
from dlgsum.core.signals import terminated_like_interrupted
from dlgsum.tracking.run import RunFolder


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
        folder = run()
        name = signal.Signals(number).name
        if folder is None:
            raise Interrupted(number, f"Interrupted ({name}); nothing was kept.") from None
        kept = folder.best_model if folder.best_model.is_dir() else None
        raise Interrupted(
            number,
            f"Interrupted ({name}). The run is in {folder.path}.",
            f"The best model so far is {kept}." if kept else "There was no model to keep yet.",
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        folder = run()
        raise EnvironmentProblem(
            f"The disk is full: {error.filename or (folder.path if folder else 'a file')} could not be written.",
            f"What was saved before is whole, and lies in {folder.path}." if folder else "Nothing was saved yet.",
        ) from error
    except Exception as error:
        folder = run()
        hint = f"The traceback is in {folder.log}." if folder else "--debug shows where."
        raise TrainingFailed(f"{type(error).__name__}: {error}", hint) from error
