"""The local record is complete whatever happens to its mirrors."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dlgsum.core.files import read_jsonl
from dlgsum.tracking.detached import Detached
from dlgsum.tracking.stream import MetricStream
from dlgsum.tracking.tracker import Opening, Sample, Tracker


class Mirror(Tracker):
    """Keeps what it gets; raises at the given call."""

    name = "mirror"
    title = "mirror"

    def __init__(self, name: str = "mirror", *, fails_at: int | None = None, fails_in_finish: bool = False) -> None:
        self.title = name  # type: ignore[misc]
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.calls = 0
        self.finished: list[tuple[dict[str, Any], bool]] = []
        self._fails_at, self._fails_in_finish = fails_at, fails_in_finish
        self.others: list[tuple[object, ...]] = []

    @classmethod
    def open(cls, opening: Opening) -> Mirror:
        return cls()

    def samples(self, step: int, name: str, rows: Sequence[Sample]) -> None:
        self.others.append(("samples", step, name, *rows))

    def image(self, step: int, name: str, path: Path) -> None:
        self.others.append(("image", step, name, path))

    def model(self, step: int, folder: Path, metadata: Mapping[str, Any]) -> None:
        self.others.append(("model", step, folder, dict(metadata)))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.calls += 1
        if self.calls == self._fails_at:
            raise ConnectionError("the server is gone")
        self.rows.append((step, dict(metrics)))

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        if self._fails_in_finish:
            raise TimeoutError("no answer")
        self.finished.append((dict(summary), failed))


def test_every_mirror_gets_what_the_file_gets(tmp_path: Path):
    first, second = Mirror("a"), Mirror("b")
    stream = MetricStream(tmp_path / "new" / "metrics.jsonl", [first, second])
    stream.log(1, 0.5, {"train/loss": 2.0})
    stream.log(2, None, {"train/loss": math.nan, "eval/loss": 1.0})
    stream.finish({"best": 1}, failed=True)
    rows = list(read_jsonl(tmp_path / "new" / "metrics.jsonl"))
    assert [(row["step"], row["epoch"], row["metrics"]) for row in rows] == [
        (1, 0.5, {"train/loss": 2.0}),
        (2, None, {"train/loss": "NaN", "eval/loss": 1.0}),
    ]
    assert rows[0]["time"] <= rows[1]["time"]
    for mirror in (first, second):
        assert [step for step, _ in mirror.rows] == [1, 2]
        assert mirror.finished == [({"best": 1}, True)]


def test_nothing_is_written_for_no_metrics(tmp_path: Path):
    mirror = Mirror()
    stream = MetricStream(tmp_path / "m.jsonl", [mirror])
    stream.log(1, 0.0, {})
    stream.log(2, 0.0, {"a": 1})
    assert [row["step"] for row in read_jsonl(tmp_path / "m.jsonl")] == [2]
    assert mirror.calls == 1


def test_a_row_is_on_disk_before_a_mirror_sees_it(tmp_path: Path):
    path, seen = tmp_path / "m.jsonl", []

    class Looking(Mirror):
        def log(self, step: int, metrics: Mapping[str, float]) -> None:
            seen.append([row["step"] for row in read_jsonl(path)])

    stream = MetricStream(path, [Looking()])
    stream.log(1, 0.0, {"a": 1})
    stream.log(2, 0.0, {"a": 1})
    assert seen == [[1], [1, 2]]


def test_a_mirror_that_raises_is_dropped_once_and_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    bad, good = Mirror("W&B", fails_at=2), Mirror("good")
    stream = MetricStream(tmp_path / "m.jsonl", [bad, good])
    with caplog.at_level(logging.WARNING):
        for step in range(1, 6):
            stream.log(step, 0.0, {"a": step})
        stream.finish({})
    assert [row["step"] for row in read_jsonl(tmp_path / "m.jsonl")] == [1, 2, 3, 4, 5]
    assert bad.calls == 2 and len(good.rows) == 5
    assert len(good.finished) == 1
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "W&B takes no more of this run (the server is gone); the local record is complete",
    ]


def test_a_mirror_that_fails_at_the_end_does_not_stop_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    bad, good = Mirror("bad", fails_in_finish=True), Mirror("good")
    stream = MetricStream(tmp_path / "m.jsonl", [bad, good])
    stream.log(1, 0.0, {"a": 1})
    stream.finish({"x": 1})
    assert good.finished == [({"x": 1}, False)]
    assert "bad takes no more of this run" in caplog.text and "no answer" in caplog.text


def test_two_mirrors_of_one_kind_are_told_apart(tmp_path: Path):
    """Dropping one must not drop the other, even where they compare equal."""

    class Equal(Mirror):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        __hash__ = None  # type: ignore[assignment]

    good, bad = Equal("good"), Equal("bad", fails_at=1)
    stream = MetricStream(tmp_path / "m.jsonl", [good, bad])
    stream.log(1, 0.0, {"a": 1})
    stream.log(2, 0.0, {"a": 1})
    assert len(good.rows) == 2 and bad.calls == 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_inside_a_mirror_still_interrupts(tmp_path: Path, stop: type[BaseException]):
    class Interrupted(Mirror):
        def log(self, step: int, metrics: Mapping[str, float]) -> None:
            raise stop

    stream = MetricStream(tmp_path / "m.jsonl", [Interrupted()])
    with pytest.raises(stop):
        stream.log(1, 0.0, {"a": 1})
    assert len(list(read_jsonl(tmp_path / "m.jsonl"))) == 1


def test_a_resumed_record_goes_on_in_the_same_file(tmp_path: Path):
    for step in (1, 2):
        stream = MetricStream(tmp_path / "m.jsonl")
        stream.log(step, 0.0, {"a": step})
        stream.finish({})
    assert [row["step"] for row in read_jsonl(tmp_path / "m.jsonl")] == [1, 2]


@pytest.mark.parametrize("detached", [False, True])
def test_what_is_shown_besides_metrics_reaches_the_mirrors(tmp_path: Path, detached: bool):
    mirror = Mirror()
    stream = MetricStream(tmp_path / "m.jsonl", [Detached("m", lambda: mirror, timeout=60) if detached else mirror])
    row = Sample("a", "대화", "요약", ("정답",), {"rouge1": 0.5})
    stream.samples(2, "eval", [row])
    stream.samples(3, "eval", [])
    stream.image(4, "loss", tmp_path / "loss.png")
    stream.model(4, tmp_path, {"score": 1})
    stream.finish({"best": 1})
    assert mirror.others == [
        ("samples", 2, "eval", row),
        ("image", 4, "loss", tmp_path / "loss.png"),
        ("model", 4, tmp_path, {"score": 1}),
    ]
    assert mirror.finished == [({"best": 1}, False)]


def test_a_resumed_run_replays_nothing_to_its_mirrors(tmp_path: Path):
    first = MetricStream(tmp_path / "m.jsonl", [Mirror()])
    for step in (1, 2, 3):
        first.log(step, 0.0, {"a": step})
        if step == 2:
            state = first.state()
    mirror = Mirror()
    second = MetricStream(tmp_path / "m.jsonl", [mirror])
    second.restore(state)
    second.log(3, 0.0, {"a": 30})
    assert mirror.rows == [(3, {"a": 30})]
    assert [row["metrics"]["a"] for row in read_jsonl(tmp_path / "m.jsonl")] == [1, 2, 30]
