"""The process that tries batch sizes: it imports everything once, and forks for each try."""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from dlgsum.core import errors
from dlgsum.core.errors import ConfigError, DlgsumError
from dlgsum.data.tokenize_worker import receive, send
from dlgsum.recipes.probe import Look, Subject, Task, run_task

_TICK = 0.05  # seconds between two looks at the memory of a try


def main() -> None:
    """Answer each task from standard input with how it went; a parent that is gone ends everything.

    The first message is the pickled subject, which our own parent made; each further one a task.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not look like an answer
    try:
        message = receive(sys.stdin.buffer)
        subject: Subject = pickle.loads(message)  # noqa: S301  comes from the parent, not from a file
        _preload(subject)
        while True:
            task: Task = pickle.loads(receive(sys.stdin.buffer))  # noqa: S301
            if not _can_fork():
                send(answers, _answer(subject, task, last=True))
                return
            send(answers, _in_a_child(subject, task))
    except (EOFError, BrokenPipeError):
        return


def _preload(subject: Subject) -> None:
    """Import what a try needs; nothing here may compute, for threads do not survive a fork, nor does CUDA."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    from dlgsum.core.log import route_transformers
    from dlgsum.data import encode
    from dlgsum.training import arguments, inference, memory, trainer

    assert all((encode, arguments, inference, memory, trainer))
    route_transformers()
    with torch.device("meta"):  # the module of this kind of model, which is found by its configuration
        AutoModelForSeq2SeqLM.from_config(  # type: ignore[no-untyped-call]
            subject.of_model, trust_remote_code=subject.config.model.trust_remote_code
        )
    # Collecting garbage would touch, and so copy, all that the children share: half a second for each of them.
    gc.collect()
    gc.freeze()


def _can_fork() -> bool:
    """Say whether a forked process can use the device; elsewhere a server does one task, and a new one the next."""
    import torch

    return sys.platform == "linux" and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def _answer(subject: Subject, task: Task, *, last: bool = False) -> bytes:
    """Do a task here, and return how it went as a message; ``last`` says that the server ends."""
    try:
        return pickle.dumps({"outcome": run_task(subject, task), "last": last})
    except DlgsumError as error:
        return pickle.dumps({"error": _as_message(error), "last": last})
    except BaseException:
        traceback.print_exc()
        return pickle.dumps({"code": 1, "last": last})


def _as_message(error: DlgsumError) -> tuple[type[DlgsumError], str, str]:
    """Return one of our errors as another process can raise it again; some take other arguments than a text."""
    kind = type(error)
    if isinstance(error, ConfigError) or getattr(errors, kind.__name__, None) is not kind:
        kind = errors.UsageError if error.exit_code == 2 else errors.EnvironmentProblem
    return kind, error.message, error.hint


def _in_a_child(subject: Subject, task: Task) -> bytes:
    """Do a task in a forked process, and return its answer, or how it ended."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        with os.fdopen(theirs, "wb") as stream:
            stream.write(_answer(subject, task))
        sys.stderr.flush()
        os._exit(0)  # nothing of the server's is to be finished here
    os.close(theirs)
    limit = None if isinstance(task, Look) or task.counting != "process" else task.limit
    return _wait_for(child, ours, limit)


def _wait_for(child: int, stream: int, limit: int | None) -> bytes:
    """Wait for a child and keep its memory within a limit."""
    over, peak, content = False, 0, b""
    parent = sys.stdin.fileno()
    try:
        while True:
            ready, _, _ = select.select([stream, parent], [], [], _TICK)
            if parent in ready:  # it says nothing while it waits, so it is gone
                os.kill(child, signal.SIGKILL)
                raise EOFError
            if stream in ready:
                part = os.read(stream, 2**16)
                if not part:
                    break
                content += part
            size = _resident(child)
            peak = max(peak, size)
            if limit is not None and size > limit and not over:
                over = True
                os.kill(child, signal.SIGKILL)
    finally:
        os.close(stream)
        _, status = os.waitpid(child, 0)
    if content and not over:
        return content
    ended: dict[str, Any] = {"code": os.waitstatus_to_exitcode(status), "over": over, "peak": peak}
    return pickle.dumps(ended)


def _resident(process: int) -> int:
    """Return the bytes of main memory that a process holds; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
