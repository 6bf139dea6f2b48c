"""The supervisor behind `--nproc`: several processes that are started again when one of them dies or hangs."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dlgsum.config.schema import Distributed
from dlgsum.core.errors import Interrupted, TrainingFailed, UsageError
from dlgsum.core.signals import SAME_SIGNAL, STOPPING
from dlgsum.core.world import ATTEMPT, RELAUNCHED, SUPERVISED, current_world
from dlgsum.recipes import group
from dlgsum.recipes.attempt import Failure, Processes, Pulse, read_failures, reason_of
from dlgsum.recipes.failures import resume_command
from dlgsum.tracking.run import RunFolder

logger = logging.getLogger(__name__)

_LOOK = 0.2  # seconds between two looks at the processes
_PATIENCE = 5.0  # seconds from SIGTERM to SIGKILL for processes that hang
_LONGEST_PAUSE = 30.0  # seconds before another attempt


@dataclass(frozen=True)
class Outcome:
    """A job that was done.

    Attributes:
        attempts: how often the processes were started.
        relaunches: why they were started again, in order.
    """

    attempts: int
    relaunches: list[str] = field(default_factory=list)


def supervise(
    run: RunFolder,
    *,
    processes: int,
    settings: Distributed,
    worker: Sequence[str],
    time_limit: float | None = None,
    environ: Mapping[str, str] | None = None,
    closing: float = 0.0,
    on_relaunch: Callable[[int, str, float], None] = lambda attempt, reason, pause: None,
) -> Outcome:
    """Run ``worker`` as a group of processes on this machine until it is done, whatever dies in between.

    The group is started anew when a process dies, or when the counter of ``progress.json`` stands still for
    ``settings.hang_timeout`` seconds; without a newer checkpoint in between at most ``settings.max_relaunches`` times
    in a row, after 1, 2, 4 … 30 seconds. SIGINT, SIGTERM and SIGUSR1 are passed on to the workers, which have
    ``settings.timeout`` seconds to save and end; a second signal kills them. Killing this process kills them too.

    A worker finds ``DLGSUM_SUPERVISED=1``, ``DLGSUM_ATTEMPT`` (a number never used before in this run) and what
    torchrun sets. It writes ``progress.json`` and, when it fails in order, ``attempts/<attempt>/rank_<rank>.json``.

    Args:
        run: the run that is trained; logs of all ranks but the first go to its ``logs/``.
        processes: number of processes.
        settings: how long to wait, and how often to try again.
        worker: arguments of Python for each process: ``-m``, a module and its arguments, or a script and its own.
        time_limit: seconds from now after which no other attempt is begun.
        environ: the workers' environment; None: this process's.
        closing: seconds that a complete run may be silent besides, while it waits for its trackers.
        on_relaunch: told of each further attempt: its number, why, and the seconds before it.

    Raises:
        UsageError: no process was asked for, or this process is one of several itself.
        TrainingFailed: the processes died too often.
        Interrupted: a signal came, or the time was up before the job was done.
        DlgsumError: what a worker called final, with its exit code.
    """
    environment = dict(os.environ if environ is None else environ)
    if processes < 1:
        raise UsageError(f"--nproc {processes}: at least 1 process is needed")
    world = current_world(environment)
    if world.size > 1:
        raise UsageError(
            f"--nproc starts the processes itself, but this is one of {world.size} that {world.launcher} started.",
            f"Leave out --nproc, or start dlgsum without {world.launcher}.",
        )
    with _taken_signals() as signals:
        return _Supervisor(run, processes, settings, list(worker), time_limit, environment, signals, closing).run(
            on_relaunch
        )


class _Signals:
    """The signals that came, those left out that only repeat another one."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._last = (0, 0.0)

    def take(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number != self._last[0] or now - self._last[1] > SAME_SIGNAL:
            self.received.append(number)
        self._last = (number, now)


@contextmanager
def _taken_signals() -> Iterator[_Signals]:
    signals = _Signals()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield signals
        return
    before = {number: signal.signal(number, signals.take) for number in STOPPING}
    try:
        yield signals
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class _Supervisor:
    def __init__(
        self,
        run: RunFolder,
        processes: int,
        settings: Distributed,
        worker: list[str],
        time_limit: float | None,
        environ: dict[str, str],
        signals: _Signals,
        closing: float,
    ) -> None:
        self._run = run
        self._processes = processes
        self._settings = settings
        self._worker = worker
        self._ends = None if time_limit is None else time.monotonic() + time_limit
        self._environ = environ
        self._signals = signals
        self._closing = closing
        self._newest = -1  # the newest checkpoint there ever was: one that is written again is no progress

    def run(self, on_relaunch: Callable[[int, str, float], None]) -> Outcome:
        relaunches: list[str] = []
        in_vain = 0
        self._has_new_checkpoint()
        for attempt in itertools.count(_next_attempt(self._run)):
            reason = self._attempt(attempt)
            self._environ[RELAUNCHED] = "1"
            if reason is None:
                return Outcome(len(relaunches) + 1, relaunches)
            in_vain = 0 if self._has_new_checkpoint() else in_vain
            if in_vain >= self._settings.max_relaunches:
                raise TrainingFailed(
                    f"The {self._processes} processes failed: {reason.rstrip('. ')}. Attempts: {len(relaunches) + 1}; "
                    f"relaunches without a new checkpoint: {in_vain} (distributed.max_relaunches).",
                    f"What they said is in {self._run.log} and {self._run.path / 'logs'}. {self._how_to_go_on()}",
                )
            pause = min(2.0**in_vain, _LONGEST_PAUSE)
            in_vain += 1
            self._refuse_after_the_end(reason)
            logger.warning("%s; all %d processes are started again in %.0f s", reason, self._processes, pause)
            self._run.event("relaunch", attempt=attempt + 1, reason=reason, pause=pause)
            on_relaunch(attempt + 1, reason, pause)
            relaunches.append(reason)
            self._pause(pause)
        raise AssertionError("unreachable")

    def _attempt(self, attempt: int) -> str | None:
        """Run the group once; return None when it did its job, else why it is worth another attempt."""
        folder = self._run.path / "attempts" / str(attempt)
        folder.mkdir(parents=True)
        progress = self._run.path / "progress.json"
        progress.unlink(missing_ok=True)
        pulse = Pulse(progress, attempt, self._settings.hang_timeout, closing=self._closing)
        command = group.command(
            processes=self._processes,
            report=folder / "group.json",
            logs=self._run.path / "logs",
            worker=self._worker,
        )
        running = Processes(command, self._environment(attempt), self._processes)
        try:
            ended = self._watch(running, pulse)
        except BaseException:
            running.kill()
            raise
        running.kill()  # what the workers started may have outlived them
        if isinstance(ended, str):
            if self._signals.received:
                self._interrupted(self._signals.received[0], f"All processes were killed: {ended}. ")
            return ended
        return self._judge(ended, read_failures(folder)) if ended else None

    def _watch(self, running: Processes, pulse: Pulse) -> int | str:
        """Return torchrun's exit code, or why the group was killed."""
        passed_on: float | None = None
        while (code := running.wait(_LOOK)) is None:
            received = self._signals.received
            if received and passed_on is None:
                passed_on = time.monotonic()
                if not running.tell(received[0]):
                    self._interrupted(received[0], "Training had not begun. ")
                logger.info("%s passed on; the processes save and end", signal.Signals(received[0]).name)
            elif len(received) > 1:
                running.kill()
                self._interrupted(received[1], "The second signal killed all processes at once. ")
            elif passed_on is not None and time.monotonic() - passed_on > self._settings.timeout:
                running.kill()
                return f"they did not end within {self._settings.timeout} s (distributed.timeout)"
            if pulse.hangs():
                running.kill(patience=_PATIENCE, trace=True)
                where = "" if pulse.step is None else f" after step {pulse.step}"
                return f"no progress{where} for {self._settings.hang_timeout} s (distributed.hang_timeout)"
        return code

    def _judge(self, code: int, failures: list[Failure]) -> str:
        """Return why the group failed, unless another attempt is out of the question."""
        for failure in sorted(failures, key=lambda failure: failure.rank):  # the first rank knows best
            if failure.final and not failure.interrupted:
                raise failure.error()
        stopped = [failure for failure in failures if failure.interrupted]
        # Once one rank is gone torchrun stops the others with SIGTERM: that alone is nobody's wish.
        in_order = all(failure.interrupted or failure.stopped for failure in failures)
        if stopped and (self._signals.received or in_order):
            raise min(stopped, key=lambda failure: failure.rank).error()
        reason = reason_of(failures, code)
        if self._signals.received:
            self._interrupted(self._signals.received[0], f"The processes could not save any more: {reason}. ")
        return reason

    def _interrupted(self, number: int, what: str) -> NoReturn:
        raise Interrupted(
            number,
            f"Interrupted ({signal.Signals(number).name}). {what}The run is in {self._run.path}.",
            self._how_to_go_on(),
        )

    def _refuse_after_the_end(self, reason: str) -> None:
        if self._ends is not None and time.monotonic() >= self._ends:
            raise Interrupted(
                signal.SIGTERM,
                f"The time limit was reached after the processes had ended: {reason}. The run is in {self._run.path}.",
                self._how_to_go_on(),
            )

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._signals.received:
                self._interrupted(self._signals.received[0], "No process was running. ")
            time.sleep(min(_LOOK, seconds))

    def _has_new_checkpoint(self) -> bool:
        found = (path.name.removeprefix("checkpoint-") for path in self._run.checkpoints.glob("checkpoint-*"))
        newest = max((int(number) for number in found if number.isdecimal()), default=-1)
        before, self._newest = self._newest, max(newest, self._newest)
        return newest > before

    def _how_to_go_on(self) -> str:
        self._has_new_checkpoint()
        if self._newest < 0:
            return "There is no checkpoint yet."
        return f"Go on from checkpoint-{self._newest} with: {resume_command(self._run, self._processes)}"

    def _environment(self, attempt: int) -> dict[str, str]:
        # PET_… are torchrun's own settings, which some clusters set for several machines.
        environ = {name: value for name, value in self._environ.items() if not name.startswith("PET_")}
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // self._processes)))
        environ["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        environ |= {SUPERVISED: "1", ATTEMPT: str(attempt)}
        return environ


def _next_attempt(run: RunFolder) -> int:
    """Return a number that no attempt of this run had, so that records of an earlier command are not taken for new."""
    names = [path.name for path in (run.path / "attempts").glob("*")]
    return max((int(name) for name in names if name.isdecimal()), default=0) + 1
