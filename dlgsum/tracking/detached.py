"""A tracker in a thread of its own, so that one that is slow, hangs or fails never delays a step."""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.core.console import messages
from dlgsum.core.masking import masked
from dlgsum.tracking.tracker import Sample, Tracker

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

MOST_CALLS = 10_000  # that may wait for a tracker
MOST_BYTES = 256 * 2**20  # of the histograms and texts among them
MOST_VALUES = 65_536  # of a histogram: of a bigger tensor, as many evenly spread ones and both extremes

_QUIET = 2.0  # seconds that are waited for without a word
_CAME_BACK = 0.2  # seconds between two looks whether Ctrl-C was pressed, which Windows tells only then


@dataclass(frozen=True)
class _Call:
    """A method that the thread is to call; ``size`` is that of its values in bytes, where they are many."""

    method: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    size: int = 0


class Detached:
    """A tracker that is opened, called and closed in a daemon thread; the methods of ``Tracker`` return at once.

    What the tracker raises ends it with one warning; calls after that do nothing. Where more waits for it than
    ``MOST_CALLS`` or ``MOST_BYTES`` allow, calls are dropped, but never the model and the end; the first is told at
    once and their number at the end. What it raises after it was given up is not told. Values are copied: the caller
    may change its own afterwards.

    Args:
        title: the tracker's name for people.
        open: opens it.
        timeout: seconds that ``finish`` waits.
        remedy: how a mirror that lacks something is made whole, as part of a warning; empty: it stays as it is.
    """

    def __init__(self, title: str, open: Callable[[], Tracker], *, timeout: float, remedy: str = "") -> None:
        self.title = title
        self._open = open
        self._timeout = timeout
        self._remedy = f"the local record is complete{remedy and '; '}{remedy}"
        self._calls: deque[_Call] = deque()
        self._ready = threading.Condition()
        self._held = 0
        self._dropped = 0
        self._doing = "opening"
        self._closed = False
        self._done = threading.Event()
        self._failed = self._given_up = False
        self._until = float("inf")
        threading.Thread(target=self._work, name=f"tracker {title}", daemon=True).start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand on the metrics of a step."""
        self._hand_on("log", step, dict(metrics))

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Hand on the values of a gradient or a weight; see ``few_finite`` for what is left of them."""
        if not self._closed:
            values = few_finite(values)
            self._hand_on("histogram", step, name, values, size=values.nbytes)

    def samples(self, step: int, name: str, rows: Sequence[Sample]) -> None:
        """Hand on predictions."""
        letters = sum(len(row.dialogue) + len(row.prediction) + sum(map(len, row.references)) for row in rows)
        self._hand_on("samples", step, name, copy.deepcopy(tuple(rows)), size=4 * letters)

    def image(self, step: int, name: str, path: Path) -> None:
        """Hand on a chart."""
        self._hand_on("image", step, name, path)

    def model(self, step: int, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Hand on the folder of the best model, which must stay until ``finish`` has returned."""
        self._hand_on("model", step, folder, copy.deepcopy(dict(metadata)))

    def alert(self, title: str, text: str, level: str) -> None:
        """Hand on an alert; one that the tracker does not take is a warning, and the tracker goes on."""
        self._hand_on("alert", title, text, level)

    def end(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Have the tracker close its record after all that was handed on, without waiting for it."""
        self._hand_on("finish", copy.deepcopy(dict(summary)), failed=failed)
        self._closed = True
        self._until = min(self._until, time.monotonic() + self._timeout)

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Have the tracker close its record, and wait for it; see ``wait_for``."""
        self.end(summary, failed=failed)
        wait_for([self])

    @property
    def busy(self) -> bool:
        """Whether the tracker has something to do, and time left for it."""
        return not self._done.is_set() and time.monotonic() < self._until

    def left(self) -> None:
        """Tell what is not there: a tracker that is still busy, or calls that were dropped."""
        with self._ready:
            waiting, doing, dropped = len(self._calls), self._doing, self._dropped
            self._given_up = not self._failed and not self._done.is_set()
        if self._given_up:
            logger.warning(
                "%s is not waited for any longer: it is at %s, with %d calls to go%s; %s",
                self.title, doing, waiting, f" and {dropped} dropped" if dropped else "", self._remedy,
            )  # fmt: skip
        elif dropped:
            logger.warning("%s lacks %d calls that came too fast for it; %s", self.title, dropped, self._remedy)

    def wait(self, seconds: float) -> bool:
        """Wait until the tracker is done, for at most ``seconds``; return whether it is."""
        return self._done.wait(seconds)

    def _hand_on(self, method: str, *arguments: Any, size: int = 0, **options: Any) -> None:
        with self._ready:
            if self._closed:
                return
            full = len(self._calls) >= MOST_CALLS or self._held + size > MOST_BYTES
            if not full or method in ("model", "finish"):
                self._calls.append(_Call(method, arguments, options, size))
                self._held += size
                self._ready.notify()
                return
            self._dropped += 1
            first = self._dropped == 1
        if first:
            logger.warning(
                "%s is too slow for this run, and some of it is dropped for this tracker; %s", self.title, self._remedy
            )

    def _work(self) -> None:
        """Open the tracker and call its methods, one after the other, until the last or until one fails."""
        tracker: Tracker | None = None
        try:
            tracker = self._open()
            while self._doing != "finish":
                call = self._next()
                try:
                    getattr(tracker, call.method)(*call.arguments, **call.options)
                except Exception as error:
                    if call.method != "alert":
                        raise
                    logger.warning("%s did not take an alert (%s)", self.title, reason(error))
        except BaseException as error:  # a library that calls sys.exit() as well: nobody else would tell
            self._fail(error, opened=tracker is not None)
            if tracker is not None and self._doing != "finish":
                with contextlib.suppress(Exception):  # it failed already; this only lets go of its processes
                    tracker.finish({}, failed=True)
        else:
            self._done.set()

    def _next(self) -> _Call:
        with self._ready:
            self._doing = "waiting"
            while not self._calls:
                self._ready.wait()
            call = self._calls.popleft()
            self._held -= call.size
            self._doing = call.method
            return call

    def _fail(self, error: BaseException, *, opened: bool) -> None:
        with self._ready:
            self._closed = True
            self._calls.clear()
            self._held = self._dropped = 0  # what was dropped matters no more
            self._failed, given_up = True, self._given_up
        if given_up:  # which was told; another reason now would contradict it
            logger.debug("%s failed after it was given up (%s)", self.title, reason(error))
        else:
            what = "takes no more of this run" if opened else "is left out of this run"
            logger.warning("%s %s (%s); %s", self.title, what, reason(error), self._remedy)
        self._done.set()


def wait_for(mirrors: Sequence[Detached]) -> None:
    """Wait until each tracker that was ended is done or its time is up, and tell which of them is not.

    A wait of over 2 s says what it is for. Ctrl-C ends it, and nothing else.
    """
    started, told = time.monotonic(), False
    try:
        while busy := [mirror for mirror in mirrors if mirror.busy]:
            if not told and time.monotonic() - started >= _QUIET:
                told = True
                titles = ", ".join(mirror.title for mirror in busy)
                messages().print(f"waiting for {titles}; Ctrl-C leaves, the local record is complete", markup=False)
            busy[0].wait(_CAME_BACK)
    except KeyboardInterrupt:
        pass
    for mirror in mirrors:
        mirror.left()


def few_finite(values: Tensor) -> Tensor:
    """Return the finite values as a flat float32 tensor on the CPU, which shares no memory with ``values``.

    Of more than ``MOST_VALUES``, as many as that or fewer, evenly spread, with the smallest and the largest of all.
    Empty where no value is finite.
    """
    import torch

    finite = values.detach().flatten().float()
    finite = finite[finite.isfinite()]
    if finite.numel() > MOST_VALUES:
        extremes = torch.stack(finite.aminmax())
        finite = torch.cat([finite[:: -(-finite.numel() // MOST_VALUES)], extremes])
    return finite.cpu()


def reason(error: BaseException) -> str:
    """Return what an error says, on one line and without secrets; its kind where it says nothing."""
    return " ".join(masked(str(error)).split()) or type(error).__name__
