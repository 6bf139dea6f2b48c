"""W&B mirrors a run: with a stand-in for its calls, and for real without a network."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from dlgsum.config.schema import Wandb
from dlgsum.tracking.trackers.wandb import WandbTracker


class StandIn:
    """Records what would reach W&B."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.summary: dict[str, Any] = {}
        self.defined: list[tuple[str, dict[str, Any]]] = []
        self.finished: list[dict[str, Any]] = []

    def log(self, *arguments: Any, **options: Any) -> None:
        self.calls.append((arguments, options))

    def define_metric(self, name: str, **options: Any) -> None:
        self.defined.append((name, options))

    def finish(self, **options: Any) -> None:
        self.finished.append(options)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> tuple[StandIn, list[dict[str, Any]]]:
    run, inits = StandIn(), []

    def init(**options: Any) -> StandIn:
        inits.append(options)
        return run

    monkeypatch.setattr(wandb, "run", None)
    monkeypatch.setattr(wandb, "init", init)
    return run, inits


def tracker(tmp_path: Path, **settings: Any) -> WandbTracker:
    return WandbTracker(
        Wandb(mode="offline", **settings),
        run_id="20260101_000000_aaaa1111",
        default_name="이름",
        folder=tmp_path / "run",
        config={"general": {"seed": 1}},
    )


def test_metrics_are_logged_without_a_step_of_their_own(tmp_path: Path, stand_in: Any):
    run, _ = stand_in
    mirror = tracker(tmp_path)
    mirror.log(3, {"train/loss": 1.0})
    mirror.log(3, {"eval/loss": 2.0})
    assert run.calls == [
        (({"train/loss": 1.0, "train/global_step": 3},), {}),
        (({"eval/loss": 2.0, "train/global_step": 3},), {}),
    ]
    assert run.defined == [("*", {"step_metric": "train/global_step"})]


@pytest.mark.parametrize("failed", [False, True])
def test_the_run_is_closed_with_its_summary(tmp_path: Path, stand_in: Any, failed: bool):
    run, _ = stand_in
    tracker(tmp_path).finish({"best": 1}, failed=failed)
    assert run.summary == {"best": 1}
    assert run.finished == [{"exit_code": int(failed)}]


def test_what_w_and_b_is_told(tmp_path: Path, stand_in: Any):
    _, inits = stand_in
    tracker(tmp_path, project="p", entity="e", group="g", tags=["t"], notes="n")
    tracker(tmp_path, name="mine")
    first, second = inits
    assert {name: first[name] for name in ("project", "entity", "group", "tags", "notes", "mode", "name", "id")} == {
        "project": "p", "entity": "e", "group": "g", "tags": ["t"], "notes": "n", "mode": "offline",
        "name": "이름", "id": "20260101_000000_aaaa1111",
    }  # fmt: skip
    assert first["config"] == {"general": {"seed": 1}} and Path(first["dir"]) == tmp_path / "run"
    assert second["name"] == "mine"


def test_a_run_that_the_user_opened_is_used_and_left_open(
    tmp_path: Path, stand_in: Any, monkeypatch: pytest.MonkeyPatch
):
    run, inits = stand_in
    monkeypatch.setattr(wandb, "run", run)
    mirror = tracker(tmp_path)
    mirror.log(1, {"a": 1})
    mirror.finish({"best": 1}, failed=False)
    assert inits == [] and run.finished == []
    assert len(run.calls) == 1 and run.summary == {"best": 1}


REAL = """
import sys
from pathlib import Path
from dlgsum.config.schema import Wandb
from dlgsum.tracking.stream import MetricStream
from dlgsum.tracking.trackers.wandb import WandbTracker
import wandb

folder = Path(sys.argv[1])
mirror = WandbTracker(Wandb(mode="offline"), run_id="run1", default_name="이름", folder=folder, config={"seed": 1})
stream = MetricStream(folder / "metrics.jsonl", [mirror])
for step in (1, 2, 2, 3):
    stream.log(step, 0.0, {"train/loss": 1.0 / step})
stream.log(3, 0.0, {"eval/loss": float("nan")})
stream.finish({"best": 0.5})
assert wandb.run is None
"""


def test_w_and_b_offline_for_real(tmp_path: Path):
    """All rows are in W&B's own file: none is lost by its rule that steps never go back."""
    environ = {**os.environ, "WANDB_MODE": "offline", "HOME": str(tmp_path / "home")}
    environ.pop("WANDB_API_KEY", None)
    done = subprocess.run(
        [sys.executable, "-c", REAL, str(tmp_path / "run")], env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    (record,) = (tmp_path / "run").rglob("*.wandb")
    assert rows_of(record) == [
        ("train/loss", 1),
        ("train/loss", 2),
        ("train/loss", 2),
        ("train/loss", 3),
        ("eval/loss", 3),
    ]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 5


def rows_of(path: Path) -> list[tuple[str, int]]:
    """Return metric and step of each row in an offline record of W&B."""
    from wandb.proto import wandb_internal_pb2

    rows = []
    for data in records_of(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            name = next(key for key in items if key.endswith("loss"))
            rows.append((name, int(items["train/global_step"])))
    return rows


def records_of(content: bytes) -> Iterator[bytes]:
    """Yield the records of a LevelDB log: chunks of checksum, length and kind, in blocks of 32 KiB."""
    block, at, parts = 32_768, 7, b""  # W&B's own header comes first
    while at + 7 <= len(content):
        if block - at % block < 7:
            at += block - at % block
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
