"""A tracker that is slow, hangs or fails never delays the training, and is told of once."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from dlgsum.core.files import read_jsonl
from dlgsum.tracking import detached as module
from dlgsum.tracking.detached import Detached, few_finite, wait_for
from dlgsum.tracking.stream import MetricStream
from dlgsum.tracking.tracker import Opening, Tracker


class Stuck(Tracker):
    """Hangs or raises at one method, until the test lets it go."""

    name = title = "stuck"

    def __init__(self, at: str, *, error: BaseException | None = None) -> None:
        self.at, self.error = at, error
        self.arrived, self.go = threading.Event(), threading.Event()
        self.calls: list[tuple[str, Any]] = []
        self.thread: threading.Thread | None = None

    @classmethod
    def open(cls, opening: Opening) -> Stuck:
        raise NotImplementedError

    def opened(self) -> Stuck:
        self._at("opening", None)
        return self

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._at("log", (step, metrics))

    def histogram(self, step: int, name: str, values: torch.Tensor) -> None:
        self._at("histogram", values)

    def alert(self, title: str, text: str, level: str) -> None:
        self._at("alert", title)

    def model(self, step: int, folder: Path, metadata: Mapping[str, Any]) -> None:
        self._at("model", folder)

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        self._at("finish", (summary, failed))

    def _at(self, method: str, value: Any) -> None:
        self.thread = threading.current_thread()
        self.calls.append((method, value))
        if method == self.at:
            self.arrived.set()
            if self.error is not None:
                raise self.error
            assert self.go.wait(60)


@pytest.fixture
def stuck() -> Iterator[Callable[..., Stuck]]:
    made: list[Stuck] = []

    def make(*arguments: Any, **options: Any) -> Stuck:
        made.append(Stuck(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.go.set()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("at", ["opening", "log", "finish"])
def test_training_goes_on_while_a_tracker_hangs_for_ever(
    tmp_path: Path, stuck: Any, at: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = stuck(at)
    mirror = Detached("W&B", tracker.opened, timeout=0.01, remedy="`dlgsum sync` makes it whole")
    stream = MetricStream(tmp_path / "m.jsonl", [mirror])
    stream.log(0, 0.0, {"train/loss": 1.0})
    if at != "finish":
        assert tracker.arrived.wait(60), "the tracker is proven to be stuck from here on"
    for step in range(1, 6):
        stream.log(step, 0.0, {"train/loss": 1.0})
    stream.alert("t", "x", "info")
    stream.finish({"best": 1})
    assert tracker.thread is not threading.current_thread() and not tracker.go.is_set()
    assert [row["step"] for row in read_jsonl(tmp_path / "m.jsonl")] == list(range(6))
    (said,) = warnings(caplog)
    if at == "finish":
        assert said.startswith("W&B is not waited for any longer: it is at ")
    else:
        assert f"it is at {at}, with {8 if at == 'opening' else 7} calls to go" in said
    assert said.endswith("the local record is complete; `dlgsum sync` makes it whole")


@pytest.mark.parametrize("at", ["opening", "log", "finish"])
@pytest.mark.parametrize("error", [ConnectionError("the server\nis gone token=abc123"), SystemExit(3), ValueError()])
def test_a_tracker_that_raises_is_told_of_once_and_at_once(
    tmp_path: Path, stuck: Any, at: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = stuck(at, error=error)
    mirror = Detached("W&B", tracker.opened, timeout=60)
    stream = MetricStream(tmp_path / "m.jsonl", [mirror])
    for step in range(5):
        stream.log(step, 0.0, {"a": 1.0})
    if at != "finish":
        assert mirror.wait(60)
        assert len(warnings(caplog)) == 1, "long before the end"
    stream.finish({"x": 1})
    (said,) = warnings(caplog)
    assert said.startswith("W&B is left out of this run (" if at == "opening" else "W&B takes no more of this run (")
    assert "abc123" not in said and "\n" not in said and "()" not in said
    assert len(list(read_jsonl(tmp_path / "m.jsonl"))) == 5
    closed = [value for method, value in tracker.calls if method == "finish"]
    assert closed == {"opening": [], "log": [({}, True)], "finish": [({"x": 1}, False)]}[at]


def test_what_a_tracker_raises_after_it_was_given_up_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """It was told that nobody waits; another reason, after the results, would contradict that."""
    go = threading.Event()

    def opens() -> Tracker:
        assert go.wait(60)
        raise ConnectionError("abandoned")

    mirror = Detached("W&B", opens, timeout=0.01)
    mirror.finish({}, failed=False)
    go.set()
    assert mirror.wait(60)
    (said,) = warnings(caplog)
    assert said.startswith("W&B is not waited for any longer: it is at opening")


def test_an_alert_that_is_not_taken_ends_nothing(stuck: Any, caplog: pytest.LogCaptureFixture) -> None:
    tracker = stuck("alert", error=OSError("gone"))
    mirror = Detached("W&B", tracker.opened, timeout=60)
    mirror.alert("t", "x", "info")
    mirror.log(1, {"a": 1.0})
    mirror.finish({}, failed=False)
    assert warnings(caplog) == ["W&B did not take an alert (gone)"]
    assert [method for method, _ in tracker.calls] == ["opening", "alert", "log", "finish"]


def test_what_comes_too_fast_is_dropped_but_never_the_model_and_the_end(
    stuck: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MOST_CALLS", 3)
    tracker = stuck("opening")
    mirror = Detached("W&B", tracker.opened, timeout=60, remedy="`dlgsum sync` makes it whole")
    for step in range(10):
        mirror.log(step, {"a": 1.0})
    assert len(warnings(caplog)) == 1 and "too slow" in caplog.text
    mirror.model(9, Path("best"), {})
    tracker.go.set()
    mirror.finish({}, failed=False)
    assert [method for method, _ in tracker.calls] == ["opening", "log", "log", "log", "model", "finish"]
    assert warnings(caplog)[1:] == [
        "W&B lacks 7 calls that came too fast for it; the local record is complete; `dlgsum sync` makes it whole"
    ]


def test_the_memory_of_what_waits_is_bounded(stuck: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    tracker = stuck("opening")
    mirror = Detached("t", tracker.opened, timeout=60)
    for _ in range(5):
        mirror.histogram(1, "a", torch.ones(100))  # 400 bytes
    mirror.log(1, {"a": 1.0})
    tracker.go.set()
    mirror.finish({}, failed=False)
    assert [method for method, _ in tracker.calls] == ["opening", "histogram", "histogram", "log", "finish"]
    assert mirror._held == 0, "what was taken makes room"


def test_values_are_those_of_the_moment(stuck: Any) -> None:
    """The trainer overwrites its gradients, and others their dictionaries, before the thread comes to them."""
    tracker = stuck("opening")
    mirror = Detached("t", tracker.opened, timeout=60)
    metrics, gradient, summary = {"a": 1.0}, torch.tensor([1.0, math.nan, 2.0]), {"best": {"a": 1}}
    mirror.log(1, metrics)
    mirror.histogram(1, "g", gradient)
    metrics["a"] = 2.0
    gradient.zero_()
    mirror.end(summary, failed=True)
    summary["best"]["a"] = 2
    tracker.go.set()
    wait_for([mirror])
    taken = dict(tracker.calls)
    assert taken["log"] == (1, {"a": 1.0}) and taken["finish"] == ({"best": {"a": 1}}, True)
    assert taken["histogram"].tolist() == [1.0, 2.0]


def test_a_big_tensor_keeps_its_shape_and_its_extremes() -> None:
    values = torch.arange(200_000, dtype=torch.bfloat16).reshape(400, 500).requires_grad_()
    values.data[0, 0], values.data[1, 1], values.data[2, 2] = math.nan, math.inf, -5
    few = few_finite(values)
    assert few.dtype == torch.float32 and not few.requires_grad and few.isfinite().all()
    assert few.numel() <= module.MOST_VALUES + 2
    assert few.min() == -5 and few.max() == values[-1, -1].float()
    assert few.median() == pytest.approx(100_000, rel=0.02)
    small = torch.ones(3)
    assert few_finite(small).data_ptr() != small.data_ptr()
    assert few_finite(torch.tensor([math.nan])).numel() == 0


def test_ctrl_c_ends_the_wait_and_nothing_else(
    stuck: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mirrors = [Detached(title, stuck("finish").opened, timeout=1000) for title in ("a", "b")]

    def interrupted(self: Detached, seconds: float) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Detached, "wait", interrupted)
    for mirror in mirrors:
        mirror.end({}, failed=False)
    wait_for(mirrors)
    assert [said.split()[0] for said in warnings(caplog)] == ["a", "b"]


def test_a_long_wait_says_what_it_is_for(
    stuck: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_QUIET", 0.0)
    quick, slow = stuck("none"), stuck("finish")
    first, second = Detached("quick", quick.opened, timeout=60), Detached("[W&B]", slow.opened, timeout=60)
    first.finish({}, failed=False)
    capsys.readouterr()
    second.end({}, failed=False)
    wait = Detached.wait

    def look(self: Detached, seconds: float) -> bool:
        slow.go.set()
        return wait(self, seconds)

    monkeypatch.setattr(Detached, "wait", look)
    wait_for([first, second])
    assert capsys.readouterr().err.splitlines() == ["waiting for [W&B]; Ctrl-C leaves, the local record is complete"]


def test_all_mirrors_are_closed_at_the_same_time(tmp_path: Path, stuck: Any) -> None:
    """One that hangs takes no time from the others."""
    first, second = stuck("finish"), stuck("finish")
    mirrors = [Detached("a", first.opened, timeout=0.01), Detached("b", second.opened, timeout=0.01)]
    MetricStream(tmp_path / "m.jsonl", mirrors).finish({})
    assert first.arrived.wait(60) and second.arrived.wait(60)


HANGS = """
import sys, time
from dlgsum.tracking.detached import Detached
assert "torch" not in sys.modules
mirror = Detached("W&B", lambda: time.sleep(10_000), timeout=0.01)
mirror.log(1, {"a": 1.0})
mirror.finish({}, failed=False)
"""


def test_a_process_ends_although_a_tracker_hangs() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "W&B is not waited for any longer" in done.stderr
