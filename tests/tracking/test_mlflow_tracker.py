"""MLflow mirrors a run: what was sent is read back with MLflow's own client."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, make_url

from dlgsum.config.schema import Config, Mlflow
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import read_json, read_jsonl, write_json
from dlgsum.tracking.detached import Detached
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.stream import MetricStream
from dlgsum.tracking.tracker import Opening, Sample
from dlgsum.tracking.trackers.mlflow import MlflowTracker, quiet

# Of MLflow's own tables, under SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture
def folder(mlflow_folder: Path) -> Path:
    return mlflow_folder


def config(uri: Path | str | None, **settings: Any) -> Config:
    plain = Config()
    given = Mlflow(uri=None if uri is None else str(uri), **settings)
    tracking = dataclasses.replace(
        plain.tracking, mlflow=given, tags=["기준", "a"], notes="메모", store="postgresql://u:pw@h/x"
    )
    return dataclasses.replace(plain, tracking=tracking, data=dataclasses.replace(plain.data, train="훈련" * 4000))


def opening(tmp_path: Path, folder: Path, resumed_at: int | None = None, **settings: Any) -> Opening:
    run = RunFolder.create(tmp_path)
    write_json(run.path / "environment.json", {"git": {"commit": "abc123", "dirty": False}})
    return Opening(run, config(folder, **settings), resumed_at)


def client(folder: Path) -> Any:
    from mlflow import MlflowClient

    address = URL.create("sqlite", database=str(folder / "mlflow.db")).render_as_string()
    return MlflowClient(tracking_uri=address)


def sent(folder: Path, start: Opening) -> Any:
    return client(folder).get_run(read_json(start.run.path / "mlflow.json")["run_id"])


def test_a_run_comes_back_whole(tmp_path: Path, folder: Path) -> None:
    start = opening(tmp_path, folder)
    tracker = MlflowTracker.open(start)
    tracker.log(1, {"train/loss": 2.0, "layer_grad/enc.L0": 0.5})
    tracker.log(2, {"train/loss": math.nan})
    tracker.log(2, {"train/loss": 1.0, "eval/한글(점수)": 0.25})
    tracker.log(3, {f"many/{number}": float(number) for number in range(1200)})
    tracker.samples(2, "eval", [Sample("dev_0", "대화 <b>", "요약", ("정답",), {"rouge1": 0.5})])
    (tmp_path / "loss.png").write_bytes(b"\x89PNG chart")
    tracker.image(3, "loss", tmp_path / "loss.png")
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "config.json").write_text("{}")
    tracker.model(3, tmp_path / "best", {"score": 0.5})
    tracker.finish({"best/rouge1": 0.5, "status": "completed"}, failed=False)

    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "files"}
    run, read = sent(folder, start), client(folder)
    assert run.info.status == "FINISHED" and run.info.run_name == start.run.id
    assert read.get_experiment(run.info.experiment_id).name == start.config.meta.experiment_name
    history = read.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history if not math.isnan(point.value)] == [(1, 2.0), (2, 1.0)]
    assert sum(math.isnan(point.value) for point in history) == 1
    assert run.data.metrics["eval/한글_점수_"] == 0.25 and run.data.metrics["many/1199"] == 1199
    assert run.data.metrics["best/rouge1"] == 0.5 and run.data.tags["dlgsum.status"] == '"completed"'
    assert run.data.params["training.learning_rate"] == "3e-05" or float(run.data.params["training.learning_rate"]) > 0
    assert run.data.params["tracking.store"] == "***" and len(run.data.params["data.train"]) == 6000
    wanted = {
        "dlgsum.run": start.run.id, "dlgsum.tags": "기준, a", "mlflow.note.content": "메모",
        "mlflow.source.git.commit": "abc123",
    }  # fmt: skip
    assert wanted.items() <= run.data.tags.items()
    place = tmp_path / "downloads"
    place.mkdir()
    files = Path(read.download_artifacts(run.info.run_id, "", str(place)))
    (sample,) = json.loads((files / "samples" / "eval-step-2.json").read_text("utf-8"))
    assert sample["dialogue"] == "대화 <b>" and sample["scores"] == {"rouge1": 0.5}
    assert (files / "images" / "loss.png").read_bytes() == b"\x89PNG chart"
    assert (files / "best_model" / "config.json").is_file()
    assert json.loads((files / "best_model.json").read_text("utf-8")) == {"step": 3, "score": 0.5}
    assert json.loads((files / "config.json").read_text("utf-8"))["tracking"]["tags"] == ["기준", "a"]


@pytest.mark.parametrize(
    ("summary", "status"), [({"status": "interrupted"}, "KILLED"), ({"status": "failed"}, "FAILED"), ({}, "FAILED")]
)
def test_the_end_of_a_run_shows(tmp_path: Path, folder: Path, summary: dict[str, str], status: str) -> None:
    start = opening(tmp_path, folder, log_model=False)
    tracker = MlflowTracker.open(start)
    tracker.model(3, tmp_path, {})
    tracker.finish(summary, failed=True)
    run = sent(folder, start)
    assert run.info.status == status
    assert {file.path for file in client(folder).list_artifacts(run.info.run_id)} == {"best_model.json", "config.json"}


def test_a_resumed_run_goes_on_with_its_own(tmp_path: Path, folder: Path) -> None:
    start = opening(tmp_path, folder, experiment="내 실험")
    first = MlflowTracker.open(start)
    first.log(1, {"train/loss": 1.0})
    first.finish({"status": "interrupted"}, failed=True)
    before = sent(folder, start)
    training = dataclasses.replace(start.config.training, num_train_epochs=99)
    changed = dataclasses.replace(start.config, training=training)  # MLflow refuses another value of a parameter
    second = MlflowTracker.open(Opening(start.run, changed, resumed_at=1))
    assert sent(folder, start).info.status == "RUNNING"
    second.log(2, {"train/loss": 2.0})
    second.finish({}, failed=False)
    after = sent(folder, start)
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "FINISHED")
    history = client(folder).get_metric_history(after.info.run_id, "train/loss")
    assert [point.step for point in history] == [1, 2]


@pytest.mark.parametrize("content", [None, '{"run_id": "0123456789abcdef0123456789abcdef"}', "{}", "nonsense"])
def test_a_resumed_run_without_one_begins_one(tmp_path: Path, folder: Path, content: str | None) -> None:
    start = opening(tmp_path, folder, resumed_at=4)
    if content is not None:
        (start.run.path / "mlflow.json").write_text(content)
    MlflowTracker.open(start).finish({}, failed=False)
    assert sent(folder, start).info.status == "FINISHED"


def test_where_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlgsum.tracking.trackers.mlflow import _place

    general = dataclasses.replace(Config().general, output_dir=str(tmp_path / "결과"))
    default = dataclasses.replace(config(None), general=general)
    uri, files = _place(default)
    assert make_url(uri).database == str(tmp_path / "결과" / "mlruns" / "mlflow.db")
    assert files == (tmp_path / "결과" / "mlruns" / "files").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://server:5000")
    assert _place(default) == ("https://server:5000", None)
    for uri in ("http://u:pw@host", "sqlite:///x.db", "databricks"):
        assert _place(config(uri)) == (uri, None)
    # What a saved configuration holds in the place of an address that may be a secret.
    assert _place(config("***")) == ("https://server:5000", None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(EnvironmentProblem, match=r"tracking\.mlflow\.uri is not saved"):
        _place(config("***"))


# A server that takes connections and never says anything, as a broken proxy does.
@pytest.fixture
def silent_server() -> Iterator[tuple[str, threading.Event]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked, held = threading.Event(), []

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                if connection.recv(10):
                    asked.set()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
    for connection in held:
        connection.close()


def test_a_server_that_says_nothing_delays_no_step(
    tmp_path: Path, silent_server: tuple[str, threading.Event], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the thread ends soon after the test
    uri, asked = silent_server
    start = Opening(RunFolder.create(tmp_path), config(uri))
    MlflowTracker.prepare()
    mirror = Detached("MLflow", lambda: MlflowTracker.open(start), timeout=0.01)
    stream = MetricStream(tmp_path / "m.jsonl", [mirror])
    assert asked.wait(60), "the thread waits for an answer from here on"
    for step in range(5):
        stream.log(step, 0.0, {"train/loss": 1.0})
    stream.finish({})
    assert [row["step"] for row in read_jsonl(tmp_path / "m.jsonl")] == [0, 1, 2, 3, 4]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("MLflow is not waited for any longer: it is at opening, with 6 calls to go")


def test_a_server_that_is_not_there_is_told_of_once_without_its_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    start = Opening(RunFolder.create(tmp_path), config(f"http://ich:geheim@127.0.0.1:{port}"))
    mirror = Detached("MLflow", lambda: MlflowTracker.open(start), timeout=60)
    mirror.finish({}, failed=False)
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("dlgsum")]
    assert said.startswith("MLflow is left out of this run (") and "geheim" not in caplog.text


SILENT = """
import os, sys, threading
from dlgsum.tracking.trackers.mlflow import MlflowTracker
assert "mlflow" not in sys.modules
MlflowTracker.prepare()
from mlflow.telemetry import get_telemetry_client
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled()
assert not [thread.name for thread in threading.enumerate() if "elemetry" in thread.name]
"""


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    monkeypatch.delenv("MLFLOW_LOGGING_LEVEL", raising=False)
    quiet()
    assert (os.environ["MLFLOW_DISABLE_TELEMETRY"], os.environ["MLFLOW_LOGGING_LEVEL"]) == ("false", "WARNING")


@pytest.mark.slow
def test_nothing_is_told_to_the_makers_of_mlflow(tmp_path: Path) -> None:
    # Without pytest's variable, for which MLflow keeps quiet anyway.
    without = (
        "PYTEST_CURRENT_TEST",
        "CI",
        "GITHUB_ACTIONS",
        "PYTEST_VERSION",
        "MLFLOW_DISABLE_TELEMETRY",
        "DO_NOT_TRACK",
    )
    environ = {name: value for name, value in os.environ.items() if name not in without}
    environ["HOME"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", SILENT], env=environ, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "mlflow" in str(path)]
