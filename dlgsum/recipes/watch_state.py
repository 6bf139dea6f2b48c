"""What a run folder says about its run, put together from rows; no file is read here and no clock asked."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dlgsum.core.lenient import moment, number, whole
from dlgsum.core.masking import masked

ENDED = ("completed", "failed", "interrupted")
_POINTS = 60  # training losses that are kept
_NOTES = 20  # findings that are kept
_SHOWN = ("train/", "throughput/", "gpu/", "host/")  # groups of metrics whose latest values are kept
_TEXT = 4000  # characters kept of a finding's text


@dataclass(frozen=True, slots=True)
class Point:
    """The training loss of a step, and when it was recorded (seconds since 1970 on the run's clock)."""

    step: int
    loss: float
    time: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation; ``number`` counts from 1, ``best`` says whether its score is the best so far."""

    number: int
    step: int
    epoch: float | None
    scores: Mapping[str, float]
    best: bool


@dataclass(frozen=True, slots=True)
class Best:
    """The best score so far; ``metric`` without its prefix, such as rouge_combined_f1."""

    metric: str
    score: float
    step: int


@dataclass(frozen=True, slots=True)
class Note:
    """A finding or another message of ``alerts.jsonl``; ``number`` counts from 1."""

    number: int
    time: float | None
    severity: str
    kind: str
    title: str
    text: str
    step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """A run at one moment.

    Attributes:
        condition: what ``status.json`` says (running, completed, failed, interrupted), or: preparing (nothing was
            trained yet), silent (it stopped reporting), lost (its process is gone), gone (its folder is).
        reason: why it is so; empty where there is nothing to say.
        phase: training, evaluating or saving; empty where it is unknown.
        seconds: since it was started last, until now or its end; by the clocks of both machines.
        seconds_left: at the pace of the latest recorded steps, with their evaluations; None while unknown.
        latest: last value of each metric train/…, throughput/…, gpu/… and host/….
        silence: seconds in which nothing was seen to change.
        resume: the command that goes on with the run.
    """

    run: str
    folder: str
    condition: str
    reason: str = ""
    phase: str = ""
    step: int | None = None
    total: int | None = None
    epoch: float | None = None
    seconds: float | None = None
    seconds_left: float | None = None
    points: tuple[Point, ...] = ()
    latest: Mapping[str, float] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    best: Best | None = None
    notes: tuple[Note, ...] = ()
    silence: float = 0.0
    pid: int | None = None
    processes: int = 1
    resume: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be expected."""
        return self.condition in (*ENDED, "lost", "gone")


class RunView:
    """Take the rows of a run's files, in any order of the files, and say how the run is.

    Rows and values of other shapes are passed over; of rows without end, only the latest are kept.

    Args:
        best: the metric that chooses the best model, without its prefix.
        larger_wins: whether a larger value of it is better.
    """

    def __init__(self, best: str, *, larger_wins: bool) -> None:
        self._metric = best
        self._larger_wins = larger_wins
        self._status: Mapping[str, Any] = {}
        self._progress: Mapping[str, Any] = {}
        self._started: float | None = None
        self._processes = 1
        self._notes: deque[Note] = deque(maxlen=_NOTES)
        self._noted = 0
        self.forget_metrics()

    def forget_metrics(self) -> None:
        """Begin again, because the metrics will be read anew."""
        self._points: deque[Point] = deque(maxlen=_POINTS)
        self._latest: dict[str, float] = {}
        self._step: int | None = None
        self._epoch: float | None = None
        self._evaluation: Evaluation | None = None
        self._best: Best | None = None

    def take_status(self, content: Mapping[str, Any]) -> None:
        """Take ``status.json``."""
        self._status = content

    def take_progress(self, content: Mapping[str, Any]) -> None:
        """Take ``progress.json``."""
        self._progress = content

    def take_metrics(self, row: Mapping[str, Any]) -> None:
        """Take a row of ``metrics.jsonl``."""
        step, metrics = whole(row.get("step")), row.get("metrics")
        if step is None or not isinstance(metrics, dict):
            return
        numbers = {name: value for name, raw in metrics.items() if (value := number(raw)) is not None}
        epoch = number(row.get("epoch"))
        self._step, self._epoch = step, epoch if epoch is not None else self._epoch
        self._latest |= {name: value for name, value in numbers.items() if name.startswith(_SHOWN)}
        if "train/loss" in numbers:
            self._points.append(Point(step, numbers["train/loss"], number(row.get("time"))))
        scores = {name[5:]: value for name, value in numbers.items() if name.startswith("eval/")}
        if scores:
            self._take_scores(step, epoch, scores)

    def _take_scores(self, step: int, epoch: float | None, scores: Mapping[str, float]) -> None:
        score = scores.get(self._metric, math.nan)
        sign = 1 if self._larger_wins else -1
        best = math.isfinite(score) and (self._best is None or sign * score > sign * self._best.score)
        if best:
            self._best = Best(self._metric, score, step)
        count = 0 if self._evaluation is None else self._evaluation.number
        self._evaluation = Evaluation(count + 1, step, epoch, scores, best)

    def take_event(self, row: Mapping[str, Any]) -> None:
        """Take a row of ``events.jsonl``."""
        if row.get("event") == "start":
            self._started = moment(row.get("time"))
            self._processes = whole(row.get("processes")) or 1

    def take_alert(self, row: Mapping[str, Any]) -> None:
        """Take a row of ``alerts.jsonl``."""
        kind, title, text = (str(row.get(name) or "") for name in ("kind", "title", "text"))
        if row.get("row") == "answer" or not (kind or title or text):  # what became of an alert
            return
        self._noted += 1
        severity, step = str(row.get("severity") or "info"), whole(row.get("step"))
        note = Note(self._noted, moment(row.get("time")), severity, kind, title[:_TEXT], text[:_TEXT], step)
        self._notes.append(note)

    @property
    def condition(self) -> str:
        """What the run says of itself; preparing until it reports steps."""
        status = str(self._status.get("status") or "preparing")
        return "preparing" if status == "running" and not self._reports() else status

    @property
    def pid(self) -> int | None:
        """The process that wrote the status; None while unknown."""
        return whole(self._status.get("pid"))

    def _reports(self) -> bool:
        """Whether the progress is of the process that runs now, not of one before it that was resumed."""
        pid = whole(self._progress.get("pid"))
        return pid is not None and (self.pid is None or pid == self.pid)

    def state(self, run: str, folder: str, now: float) -> RunState:
        """Return the run as it is.

        Args:
            now: seconds since 1970.
        """
        reports = self._reports()
        step = whole(self._progress.get("step")) if reports else None
        if step is None or (self._step is not None and self._step > step):  # the file lags behind by half a second
            step = self._step
        total = whole(self._progress.get("total")) if reports else None
        started, ended = self._span(now)
        return RunState(
            run=run,
            folder=folder,
            condition=self.condition,
            reason=masked(str(self._status.get("reason") or "")),
            phase=str(self._progress.get("phase") or "") if self.condition == "running" else "",
            step=step,
            total=total,
            epoch=self._epoch,
            seconds=None if started is None else max(0.0, ended - started),
            seconds_left=self._left(step, total, started) if self.condition == "running" else None,
            points=tuple(self._points),
            latest=dict(self._latest),
            evaluation=self._evaluation,
            best=self._best,
            notes=tuple(self._notes),
            pid=self.pid,
            processes=self._processes,
        )

    def _span(self, now: float) -> tuple[float | None, float]:
        written = moment(self._status.get("time"))
        if self._status.get("status") in ENDED:
            return self._started, written if written is not None else now
        return (self._started if self._started is not None else written), now

    def _left(self, step: int | None, total: int | None, started: float | None) -> float | None:
        # Points of before a resume would count the hours in which nobody trained.
        recent = [(it.step, it.time) for it in self._points if it.time is not None and it.time >= (started or 0.0)]
        if step is None or total is None or len(recent) < 2:
            return None
        (first, begin), (last, end) = recent[0], recent[-1]
        return (end - begin) / (last - first) * max(0, total - step) if last > first and end > begin else None
