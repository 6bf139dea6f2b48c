"""One attempt at a job of several processes: the processes, their sign of life, and why they ended."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from dlgsum.core.errors import DataError, DlgsumError, EnvironmentProblem, Interrupted, TrainingFailed, UsageError
from dlgsum.core.files import read_json

_ERRORS: dict[int, type[DlgsumError]] = {2: UsageError, 3: DataError, 4: EnvironmentProblem}


class Processes:
    """torchrun in a session of its own, so that a terminal's Ctrl-C does not reach it, and the workers under it.

    Args:
        command: what starts torchrun.
        count: number of workers.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], count: int) -> None:
        self._torchrun = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, start_new_session=True)
        self._count = count
        self._workers: list[psutil.Process] = []

    def wait(self, seconds: float) -> int | None:
        """Return torchrun's exit code, or None when it still runs after so many seconds."""
        self._look()
        try:
            return self._torchrun.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def tell(self, number: int) -> int:
        """Send a signal to the workers, not to torchrun; return how many of them there are."""
        self._look()
        for worker in self._workers:
            with contextlib.suppress(psutil.Error):
                worker.send_signal(number)
        return len(self._workers)

    def kill(self, *, patience: float = 0.0, trace: bool = False) -> None:
        """End all processes; when this returns, none of them is left.

        Args:
            patience: seconds from SIGTERM to SIGKILL; 0: SIGKILL at once.
            trace: send SIGUSR2 first, to which a worker answers with the stack of each thread.

        Raises:
            TrainingFailed: the system does not let go of a process, as when a driver hangs.
        """
        family = self._family()
        if trace and hasattr(signal, "SIGUSR2"):
            self.tell(signal.SIGUSR2)
            self.wait(1.0)
        if patience:
            self.tell(signal.SIGTERM)
            _still_there(self._workers, patience)
        # Torchrun first, or it would tell of workers that died.
        with contextlib.suppress(OSError):
            self._torchrun.kill()
        for process in {*family, *self._workers}:
            with contextlib.suppress(psutil.Error):
                process.kill()
        left = [process.pid for process in _still_there([*family, *self._workers], 15)]
        try:
            self._torchrun.wait(15)
        except subprocess.TimeoutExpired:
            left.append(self._torchrun.pid)
        if left:
            raise TrainingFailed(
                f"Process {', '.join(map(str, left))} cannot be killed: the system does not let go of it.",
                "Usually a driver or a network disk hangs; the machine may have to be restarted.",
            )

    def _look(self) -> None:
        if len(self._workers) < self._count:  # torchrun starts each of them once
            with contextlib.suppress(psutil.Error):
                self._workers = psutil.Process(self._torchrun.pid).children()

    def _family(self) -> list[psutil.Process]:
        """Return the workers and what they started themselves, such as the processes of a data loader."""
        self._look()
        found = list(self._workers)
        for worker in self._workers:
            with contextlib.suppress(psutil.Error):
                found += worker.children(recursive=True)
        return found


def _still_there(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return those that still run after so many seconds.

    Not psutil.wait_procs, which also waits for zombies; where process 1 of a container does not reap, they stay.
    """
    until = time.monotonic() + seconds
    while (left := [process for process in processes if _runs(process)]) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


class Pulse:
    """The sign of life in ``progress.json``: how long ago its counter moved.

    No clock of the file system or the calendar has a say, and a pause of the whole machine is no silence.

    Args:
        limit: seconds of silence that count as a hang; 0: none does.
        closing: seconds more for a run that is complete and waits for its trackers.
    """

    def __init__(
        self,
        path: Path,
        attempt: int,
        limit: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        closing: float = 0.0,
    ) -> None:
        self._path = path
        self._attempt = attempt
        self._limit = limit
        self._closing = closing
        self._clock = clock
        self._looked = clock()
        self._beat: object = None
        self._silence = 0.0
        self.step: object = None

    def hangs(self) -> bool:
        """Look once, and say whether the silence has become too long; to be called at least every second."""
        now = self._clock()
        elapsed, self._looked = min(now - self._looked, 2.0), now
        try:
            content = read_json(self._path)
        except (OSError, ValueError):
            content = {}
        if content.get("attempt") == self._attempt and content.get("beat") != self._beat:
            self._beat, self.step = content.get("beat"), content.get("step")
            self._silence = 0.0
        elif self._beat is not None:  # before the first beat models are loaded and rows read, however long that takes
            self._silence += elapsed
        patience = self._closing if content.get("phase") == "closing" else 0.0
        return 0 < self._limit <= self._silence - patience


@dataclasses.dataclass(frozen=True)
class Failure:
    """How one rank ended: what torchrun saw, and what the rank itself wrote down if it still could.

    Attributes:
        exit_code: as in ``subprocess``: below 0 the signal that killed it; None where torchrun saw nothing.
        kind: class of the exception; empty when the rank left no record.
        final: whether another attempt would only end in the same way.
        stopped: torchrun ended it because another rank was gone.
    """

    rank: int
    exit_code: int | None = None
    kind: str = ""
    message: str = ""
    hint: str = ""
    final: bool = False
    stopped: bool = False

    @property
    def interrupted(self) -> bool:
        """Whether the rank ended in order because of a signal."""
        return bool(self.kind) and (self.exit_code or 0) > 128

    def error(self) -> DlgsumError:
        """Return the record as the exception that it was, as far as its exit code tells."""
        code = self.exit_code or 1
        if code > 128:
            return Interrupted(code - 128, self.message, self.hint)
        return _ERRORS.get(code, TrainingFailed)(self.message, self.hint)

    def __str__(self) -> str:
        if self.kind:
            first_line = self.message.partition("\n")[0]
            return f"rank {self.rank} failed: {textwrap.shorten(first_line, 200, placeholder=' …')}"
        if self.exit_code is not None and self.exit_code < 0:
            return f"rank {self.rank} was killed ({_signal_name(-self.exit_code)})"
        return f"rank {self.rank} died with exit code {self.exit_code}"


def read_failures(folder: Path) -> list[Failure]:
    """Return how the ranks ended, those first that torchrun saw first; unreadable records count as absent."""
    seen: dict[int, Failure] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        seen = {entry["rank"]: Failure(**entry) for entry in read_json(folder / "group.json")["failures"]}
    records: dict[int, Failure] = {}
    for path in folder.glob("rank_*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            rank, content = int(path.stem.removeprefix("rank_")), read_json(path)
            records[rank] = Failure(
                rank,
                exit_code=int(content["exit_code"]),
                kind=str(content["kind"]),
                message=str(content.get("message") or ""),
                hint=str(content.get("hint") or ""),
                final=content.get("final") is True,
            )
    return [records.get(rank) or seen[rank] for rank in dict.fromkeys([*seen, *sorted(records)])]


def reason_of(failures: Sequence[Failure], code: int) -> str:
    """Say why an attempt ended: first the ranks that died, then those that failed for want of the others.

    Args:
        code: torchrun's exit code, for want of anything better.
    """
    causes = [entry for entry in failures if not entry.interrupted and not entry.stopped]
    found = sorted(causes, key=lambda entry: bool(entry.kind)) or failures
    if found:
        return "; ".join(map(str, found))
    return f"torchrun was killed ({_signal_name(-code)})" if code < 0 else f"torchrun ended with exit code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
