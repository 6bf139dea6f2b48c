"""WandBLogger, for scripts: off by default, and the same calls wherever it goes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from matplotlib.figure import Figure

from dlgsum.core.errors import UsageError
from dlgsum.tracking.wandb_file import read_offline
from dlgsum.tracking.wandb_logger import WandBLogger
from tests.tracking.wandb_server import at_home


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    at_home(tmp_path / "home", monkeypatch)
    yield
    wandb.teardown()


def use(logger: WandBLogger, folder: Path) -> None:
    picture = folder / "c.png"
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([1, 2])
    figure.savefig(picture)
    (folder / "model").mkdir()
    (folder / "model" / "w.bin").write_bytes(b"w")
    logger.log({"loss": 1.0})
    logger.log({"loss": 0.5}, step=7)
    logger.log({"loss": 0.25})
    logger.log({"loss": 0.75}, step=2)
    logger.log_summary({"best": 0.25})
    logger.log_image("chart", picture)
    logger.log_image("figure", figure)
    logger.log_checkpoint(folder / "model")
    logger.log_checkpoint(folder / "model" / "w.bin", "weights 1")


def test_it_is_off_and_says_how_to_switch_it_on_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = sys.modules.get("wandb")
    with WandBLogger("p", {"a": 1}) as logger:
        use(logger, tmp_path)
        assert not logger.enabled and logger.url is None and logger.mode == "disabled"
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("W&B is off") == 1 and "WANDB_MODE=online" in said.err
    assert not (tmp_path / "wandb").exists() and sys.modules.get("wandb") is before


def test_offline_everything_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = {"lr": 1e-3, "api_key": "s3cret-value", "nested": {"password": "s3cret-value"}, "bos_token": "<s>"}
    with pytest.raises(RuntimeError, match="broke"), WandBLogger("p", config, name="n", tags=["t"]) as logger:
        use(logger, tmp_path)
        raise RuntimeError("the script broke")
    assert not logger.enabled
    logger.log({"late": 1})
    wandb.teardown()
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    run = read_offline(file)
    assert (run.project, run.name, run.tags, run.exit_code, run.problem) == ("p", "n", ["t"], 1, "")
    assert b"s3cret-value" not in file.read_bytes() and run.config["lr"] == 1e-3 and run.config["bos_token"] == "<s>"
    rows = [(row["train/global_step"], row["loss"]) for row in run.history if "loss" in row]
    assert rows == [(0, 1.0), (7, 0.5), (8, 0.25), (2, 0.75)]
    assert run.summary["best"] == 0.25 and run.defined == {"*": "train/global_step"}
    pictures = {name for row in run.history for name in row if isinstance(row[name], dict)}
    assert pictures == {"chart", "figure"} and run.missing_files == []
    assert {(artifact.name, artifact.type) for artifact in run.artifacts} == {
        ("model", "model"),
        ("weights-1", "model"),
    }
    assert not any("late" in row for row in run.history)


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(UsageError, match="'online'"):
        WandBLogger("p")
    logger = WandBLogger("p", mode="disabled")
    for call in (logger.log_checkpoint, lambda path: logger.log_image("x", path)):
        with pytest.raises(UsageError, match=r"no file or folder .*gone"):
            call(tmp_path / "gone")


def test_a_failure_ends_the_logging_and_not_the_script(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    logger = WandBLogger("p", mode="offline")
    assert wandb.run is not None
    (tmp_path / "no.png").write_text(json.dumps({}))
    logger.log_image("x", tmp_path / "no.png")
    logger.log({"a": 1})
    assert caplog.text.count("takes no more") == 1 and not logger.enabled
    wandb.run.finish()
