"""What every tracker must pass; they are found by discovery, so a new one is tested without a change here."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dlgsum.config.schema import Config
from dlgsum.core import plugins
from dlgsum.core.files import read_jsonl
from dlgsum.tracking.choice import tracker_class
from dlgsum.tracking.detached import Detached
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.stream import MetricStream
from dlgsum.tracking.tracker import Opening, Sample, Tracker

NAMES = plugins.names("trackers")
SECRETS = ("geheim-store-1", "geheim-alert-2")
MARK = "marke_7f3"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)

# Of MLflow's own tables, under SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture
def begin(tmp_path: Path, mlflow_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Opening]:
    """Return how a run begins: nothing may be written elsewhere, and no server is there."""
    for variable in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))

    def make() -> Opening:
        plain = Config()
        alerts = dataclasses.replace(plain.monitoring.alerts, urls=[f"json://host/{SECRETS[1]}"])
        config = dataclasses.replace(
            plain,
            general=dataclasses.replace(plain.general, output_dir=str(tmp_path)),
            monitoring=dataclasses.replace(plain.monitoring, alerts=alerts),
            wandb=dataclasses.replace(plain.wandb, mode="offline"),
            tracking=dataclasses.replace(
                plain.tracking,
                store=f"postgresql://u:{SECRETS[0]}@host/x",
                mlflow=dataclasses.replace(plain.tracking.mlflow, uri=str(mlflow_folder)),
                tags=["기준"],
                notes="메모 <b>",
            ),
        )
        return Opening(RunFolder.create(tmp_path / "결과"), config)

    return make


def tracker(name: str) -> type[Tracker]:
    kind = tracker_class(name)
    kind.prepare()
    return kind


def all_of_a_run(opened: Tracker | Detached, folder: Path) -> None:
    opened.log(0, {"eval/loss": 3.0})
    opened.log(1, {"train/loss": 2.0, f"train/{MARK}": 1.5, "layer_grad/enc.L0": 0.1, "eval/한글 점수": 1.0})
    opened.log(1, {"eval/loss": 1.0, "eval/rouge_combined_f1": 0.25})
    opened.log(2, {"train/loss": math.nan, "monitor/grad_norm": math.inf, "a": -math.inf})
    opened.log(3, {})
    dialogue = "#Person1#: <script>alert(1)</script>\n\n# 제목 ~~~ ``` | a |\n\x00끝 '\"\\ 😀"
    rows = [
        Sample("행_0", dialogue, "**요약**", ("하나", "둘"), {"rouge1": 0.5, "b": math.nan}),
        Sample("행_1", "", ""),
    ]
    opened.samples(2, "eval", rows)
    opened.samples(2, "best", [])
    opened.histogram(2, "gradients/a.weight", torch.tensor([[1.0, math.nan], [math.inf, 2.0]], dtype=torch.float16))
    opened.histogram(2, "gradients/b", torch.tensor([math.nan]))
    opened.histogram(2, "gradients/c", torch.empty(0))
    (folder / "loss.png").write_bytes(PNG)
    opened.image(3, "charts/loss", folder / "loss.png")
    (folder / "best_model").mkdir()
    (folder / "best_model" / "config.json").write_text("{}", "utf-8")
    opened.model(3, folder / "best_model", {"metrics": {"rouge1": 0.5}, "말": "한글"})
    opened.alert("제목" * 50, "text", "error")
    opened.finish({"best/rouge1": 0.5, "best/loss": math.nan, "status": "completed"}, failed=False)


def written(*folders: Path) -> bytes:
    return b"".join(path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_takes_all_of_a_run_and_none_of_its_secrets(
    name: str, tmp_path: Path, mlflow_folder: Path, begin: Callable[[], Opening], caplog: pytest.LogCaptureFixture
) -> None:
    start = begin()
    mirror = Detached(name, lambda: tracker(name).open(start), timeout=120)
    (tmp_path / "files").mkdir()
    all_of_a_run(mirror, tmp_path / "files")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    content = written(tmp_path, mlflow_folder)
    assert MARK.encode() in content
    for secret in SECRETS:
        assert secret.encode() not in content


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resumed_at", [1, -1])
def test_a_resumed_run_goes_on(
    name: str, resumed_at: int, begin: Callable[[], Opening], caplog: pytest.LogCaptureFixture
) -> None:
    start = begin()
    for part in (start, dataclasses.replace(start, resumed_at=resumed_at)):
        mirror = Detached(name, lambda part=part: tracker(name).open(part), timeout=120)  # type: ignore[misc]
        mirror.log(1, {"train/loss": 1.0})
        mirror.log(2, {"train/loss": 2.0})
        mirror.finish({"status": "interrupted"}, failed=True)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_can_be_written_the_local_record_is_complete(
    name: str, tmp_path: Path, begin: Callable[[], Opening], caplog: pytest.LogCaptureFixture
) -> None:
    start = begin()
    (tmp_path / "file").write_text("")
    nowhere = tmp_path / "file" / "run"
    mlflow = dataclasses.replace(start.config.tracking.mlflow, uri=str(nowhere))
    config = dataclasses.replace(start.config, tracking=dataclasses.replace(start.config.tracking, mlflow=mlflow))
    opening = Opening(RunFolder(nowhere), config)
    mirror = Detached(name, lambda: tracker(name).open(opening), timeout=120)
    stream = MetricStream(tmp_path / "metrics.jsonl", [mirror])
    stream.log(1, 0.0, {"train/loss": 1.0})
    stream.finish({})
    assert [row["step"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == [1]
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("dlgsum")]
    assert said.startswith(f"{name} is left out of this run (")
