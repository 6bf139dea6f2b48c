"""Each try in a process of its own, so that a failed one leaves nothing behind; a server process starts them."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.data.tokenize_worker import receive, send
from dlgsum.recipes.probe import Outcome, Subject, Task

PATIENCE = 900.0  # seconds for one try; a step on a CPU can take minutes
# What tells a process that it is one of several: a try is none of them.
_OF_SEVERAL = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
    "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
_PREFIXES = ("TORCHELASTIC_", "ACCELERATE_", "FSDP_", "PMI_", "OMPI_COMM_")


class Probes:
    """Runs tasks, each in a new process, one at a time; a context manager that leaves no process behind.

    The server has imported everything and forks for each task, which takes milliseconds; where that is not safe (macOS,
    Windows) each task starts a server of its own.

    Args:
        subject: what is tried.
        patience: seconds that one task may take.
        card: as CUDA_VISIBLE_DEVICES, where it is not the first.
    """

    def __init__(self, subject: Subject, *, patience: float = PATIENCE, card: str | None = None) -> None:
        self._message = pickle.dumps(subject)
        self._patience = patience
        self._card = card
        self._server: subprocess.Popen[bytes] | None = None
        # Kept open from one server to the next, and gone with this object.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115

    def __enter__(self) -> Probes:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
        self._said.close()

    def run(self, task: Task) -> Outcome:
        """Do a task in a process of its own.

        Raises:
            DlgsumError: the task ended with one of our errors.
            EnvironmentProblem: it failed in another way than for want of memory, or took too long.
        """
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._stop()

        timer = threading.Timer(self._patience, give_up)
        timer.daemon = True
        timer.start()
        answer: dict[str, Any] | None = None
        try:
            server = self._server or self._start()
            assert server.stdin is not None
            assert server.stdout is not None
            send(server.stdin, pickle.dumps(task))
            answer = pickle.loads(receive(server.stdout))  # noqa: S301  from our own server
        except (EOFError, BrokenPipeError, ValueError):  # ValueError: the timer closed the pipe
            if not late.is_set():
                answer = {"code": self._stop()}
        except BaseException:
            self._stop()
            raise
        finally:
            timer.cancel()
        if answer is None:
            raise EnvironmentProblem(
                f"A try of the batch size was not done after {self._patience:.0f} seconds.",
                "Set the batch size yourself.",
            )
        if answer.get("last"):
            self._stop()
        return self._judge(answer)

    def _judge(self, answer: dict[str, Any]) -> Outcome:
        if "outcome" in answer:
            outcome: Outcome = answer["outcome"]
            return outcome
        if "error" in answer:
            kind, message, hint = answer["error"]
            raise kind(message, hint)
        if answer["code"] == -signal.SIGKILL:
            # The system does that where main memory runs out; a card's memory has errors of its own.
            note = "more memory than there is to take" if answer.get("over") else "killed by the system (SIGKILL)"
            return Outcome(False, answer.get("peak", 0), note=note)
        raise EnvironmentProblem(
            f"A try of the batch size failed, but not for want of memory ({_ending(answer['code'])}):\n"
            f"{self._last_lines()}",
            "Set the batch size yourself, or see whether `dlgsum train --dry-run` works with it.",
        )

    def _last_lines(self, count: int = 6) -> str:
        self._said.seek(0)
        text = self._said.read().decode("utf-8", "replace").rstrip()
        return "\n".join(f"  {line}" for line in text.splitlines()[-count:]) or "  it said nothing"

    def _start(self) -> subprocess.Popen[bytes]:
        self._said.seek(0)
        self._said.truncate()
        # Not multiprocessing: it runs the user's main script again in each process.
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        environ = {
            name: value
            for name, value in os.environ.items()
            if name not in _OF_SEVERAL and not name.startswith(_PREFIXES)
        }
        environ |= {
            "PYTHONPATH": path,
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",  # a try needs nothing from there
            # Asking for cards the usual way starts CUDA, and no process forked after that could use it.
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        }
        if self._card is not None:
            environ["CUDA_VISIBLE_DEVICES"] = self._card
        self._server = subprocess.Popen(
            [sys.executable, "-P", "-c", "from dlgsum.recipes.probe_server import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environ,
            start_new_session=True,  # Ctrl-C reaches this process only, which then ends the others
        )
        assert self._server.stdin is not None
        send(self._server.stdin, self._message)
        return self._server

    def _stop(self) -> int:
        """End the server and the try in it; return how the server ended."""
        server, self._server = self._server, None
        if server is None:
            return 0
        assert server.stdin is not None
        with contextlib.suppress(OSError):
            server.stdin.close()  # the server ends its child, then itself
        try:
            code = server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            code = server.wait()
        if server.stdout is not None:
            server.stdout.close()
        return code


def _ending(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
