"""Watch a run from another process by its folder alone, and tell when it falls silent or its process is gone."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.schema import Config
from dlgsum.core.lenient import read_object
from dlgsum.recipes.failures import resume_command
from dlgsum.recipes.watch_files import Tail, last_warnings
from dlgsum.recipes.watch_state import ENDED, RunState, RunView
from dlgsum.tracking.liveness import Holder
from dlgsum.tracking.progress import NAME
from dlgsum.tracking.run import RunFolder

if TYPE_CHECKING:
    from dlgsum.monitoring.alerts import Alerts

_GRACE = 5.0  # seconds without any change before a process that is not there counts as lost
_PAUSE = 5.0  # seconds between two looks that count as silence at most: this process may have been stopped meanwhile
_EXIT_CODES = {"failed": 5, "lost": 5, "interrupted": 143, "gone": 4}


def exit_code(state: RunState) -> int:
    """Return the exit code that tells a script how a run is: 0 completed or still running, 5 failed or lost,
    143 interrupted, 4 its folder is gone."""
    return _EXIT_CODES.get(state.condition, 0)


class Silence:
    """How long nothing has changed, by the clock of this process alone: no file's date and no calendar has a say.

    A pause between two looks counts at most 5 s, so that a watcher that was itself stopped does not blame the run.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = clock()
        self.seconds = 0.0

    def look(self, changed: bool) -> float:
        """Take whether something changed since the last look, and return the seconds of silence."""
        now = self._clock()
        elapsed, self._looked = min(now - self._looked, _PAUSE), now
        self.seconds = 0.0 if changed else self.seconds + elapsed
        return self.seconds


class Watcher:
    """Look at a run again and again, and alert once when it stops reporting, and once when it goes on.

    Only the run's files are read. How a run ended it tells by itself, and no alert is sent for it from here.

    Args:
        timeout: seconds without any change of ``progress.json`` and ``metrics.jsonl`` that count as silence.
        start_timeout: the same before the first step, while data and model are loaded; changes of the status, the
            events and the log count as well there.
        open_alerts: gives who is told, and whether that is written into the run's folder too; None: nobody is told.
        grace: seconds without any change before a process that is not there counts as lost.
    """

    def __init__(
        self,
        run: RunFolder,
        config: Config,
        *,
        timeout: float,
        start_timeout: float,
        open_alerts: Callable[[bool], Alerts] | None = None,
        grace: float = _GRACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = run
        self._timeout, self._start_timeout = timeout, start_timeout
        self._grace = grace
        self._open_alerts = open_alerts
        self._alerts = None if open_alerts is None else open_alerts(True)
        self._view = RunView(config.metrics.best, larger_wins=config.metrics.larger_wins)
        # Scores are needed from the beginning, to know the best; of all else, the latest.
        self._metrics = Tail(run.metrics, landmark=b'"eval/')
        self._events = Tail(run.events)
        self._alert_rows = Tail(run.alerts)
        self._silence = Silence(clock)
        self._holder = Holder(run)
        self._progress: object = None
        self._seen: object = None
        self._told = ""

    def close(self) -> None:
        """Wait for alerts on their way, for a bounded time."""
        if self._alerts is not None:
            self._alerts.close()

    def states(self, poll: float) -> Iterator[RunState]:
        """Yield the run's state every ``poll`` seconds; the last one is the state it ended in."""
        while True:
            state = self.look()
            yield state
            if state.ended:
                return
            time.sleep(poll)

    def look(self) -> RunState:
        """Read what is new, and return how the run is."""
        changed = self._read()
        silence = self._silence.look(changed)
        state = self._view.state(self.run.id, str(self.run.path), time.time())
        state = dataclasses.replace(state, silence=silence)
        condition, reason = self._judge(changed, silence)
        if condition:
            state = dataclasses.replace(state, condition=condition, reason=reason, phase="", seconds_left=None)
        if state.condition in ("failed", "interrupted", "lost", "silent"):
            state = dataclasses.replace(state, resume=resume_command(self.run, state.processes))
        self._tell(state)
        return state

    def _read(self) -> bool:
        """Take what is new; say whether the run gave a sign of life."""
        view, path = self._view, self.run.path
        status, progress = read_object(path / "status.json"), read_object(path / NAME)
        if status is not None:
            view.take_status(status)
        if progress is not None:  # a disk that does not answer for a moment changes nothing
            view.take_progress(progress)
            self._progress = progress
        for row in self._metrics.new_rows(view.forget_metrics):
            view.take_metrics(row)
        for row in self._events.new_rows():
            view.take_event(row)
        for row in self._alert_rows.new_rows():
            view.take_alert(row)
        seen: tuple[object, ...] = (self._progress, self._metrics.place)
        if view.condition == "preparing":
            seen = (*seen, status, self._events.place, _size(self.run.log))
        changed, self._seen = seen != self._seen, seen
        return changed

    def _judge(self, changed: bool, silence: float) -> tuple[str, str]:
        """Return what is known from outside; nothing where the run's own word holds."""
        if self._view.condition in ENDED:
            return "", ""
        if not _there(self.run.path):
            return ("gone", f"{self.run.path} is not there any more") if silence >= self._grace else ("", "")
        if self._holder.gone(self._view.pid, changed=changed) and silence >= self._grace:
            if self.run.state in ENDED:  # in order, since we read the status
                return "", ""
            return "lost", "its process is gone, and did not say why: killed, out of memory, or the machine"
        preparing = self._view.condition == "preparing"
        if silence >= (self._start_timeout if preparing else self._timeout):
            before = ", and no step is done yet" if preparing else ""
            return "silent", f"nothing was reported for {silence:.0f} s{before}"
        return "", ""

    def _tell(self, state: RunState) -> None:
        trouble = state.condition if state.condition in ("silent", "lost", "gone") else ""
        if trouble == self._told:
            return
        before, self._told = self._told, trouble
        if self._alerts is None or self._open_alerts is None:
            return
        if trouble == "gone":  # a record would make the folder again
            self._alerts.close()
            self._alerts = self._open_alerts(False)
        details: dict[str, Any] = {
            "step": state.step,
            "condition": state.condition,
            "silence_seconds": round(state.silence, 1),
        }
        if trouble:
            self._alerts.send(trouble, "error", f"{trouble}: {state.reason}", _report(state, self.run), **details)
        elif state.condition not in ("failed", "interrupted"):
            title, text = f"reports again after it was {before}", f"It is {state.condition} at {_at(state)}."
            # As news of the run's course, which is sent although it is no trouble.
            self._alerts.send("recovered", "info", title, text, lifecycle=True, **details)


def _report(state: RunState, run: RunFolder) -> str:
    """Return what a person who is woken by it needs to know."""
    lines = [f"Last: {_at(state)}."]
    if state.condition != "gone":
        warnings = last_warnings(run.log, 5)
        said = "; its last warnings:" if warnings else ", with no warning at its end."
        lines.append(f"The log is {run.log}{said}")
        lines += [f"  {line}" for line in warnings]
    if state.condition == "silent" and state.pid is not None:
        lines.append(f"See what process {state.pid} on its machine does. If it hangs, stop it (kill {state.pid}).")
    if state.resume:
        lines.append(f"Go on with: {state.resume}")
    return "\n".join(lines)


def _at(state: RunState) -> str:
    total = "" if state.total is None else f" of {state.total}"
    loss = f", training loss {state.points[-1].loss:.4g}" if state.points else ""
    return f"step {state.step}{total}{loss}" if state.step is not None else "no step"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _there(path: Path) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - Path.exists calls a disk that does not answer an absent file
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
