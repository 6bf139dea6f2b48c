"""W&B mirrors a run: for real without a network, and with a stand-in for its server."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import wandb

from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import write_json
from dlgsum.core.plugins import load
from dlgsum.tracking import wandb_exit, wandb_session
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.tracker import Opening, Sample
from dlgsum.tracking.trackers.wandb import WandbTracker, read_mark
from dlgsum.tracking.wandb_file import OfflineRun, read_offline
from dlgsum.tracking.wandb_session import Curve, safe_name
from tests.tracking.wandb_server import KEY, WandbServer, at_home

HTML = "#Person1#: <b>안녕</b><script>alert(1)</script> & 끝\n#Person2#: 네"
HOOK = "https://hooks.slack.com/services/T00000000/B00000000/abcdefghijkl"


def opening(folder: Path, *overrides: str, resumed_at: int | None = None) -> Opening:
    run = RunFolder.create(folder)
    run.best_model.mkdir()
    (run.best_model / "config.json").write_text("{}")
    (run.best_model / "onnx").mkdir()
    (run.best_model / "onnx" / "weights").write_bytes(b"w" * 1000)
    return Opening(run, compose(Request(environ={}, overrides=list(overrides))).config, resumed_at)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    at_home(tmp_path, monkeypatch)
    yield
    wandb.teardown()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as stand_in:
        at_home(tmp_path, monkeypatch, WANDB_BASE_URL=stand_in.url, WANDB_API_KEY=KEY)
        yield stand_in
        wandb.teardown()


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OfflineRun, Opening]]:
    """One run with all there is, written offline in a thread of its own, as training does it; read back."""
    folder = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        at_home(folder, patch)
        told = opening(
            folder, "wandb.mode=offline", "tracking.tags=[one,two]", "wandb.tags=[two,three]", "tracking.notes=a note",
            "wandb.group=g", "wandb.job_type=fold", "wandb.entity=team", "meta.experiment_name=한글 이름",
            f"monitoring.alerts.slack_webhook_url={HOOK}",
        )  # fmt: skip
        # W&B would look for the repository around the run, and send where it came from.
        subprocess.run(["git", "init", "-q", folder], check=True)
        origin = "https://ghp_abcdefghijklmnop:x-oauth-basic@github.com/x/y.git"
        subprocess.run(["git", "-C", folder, "remote", "add", "origin", origin], check=True)
        write_json(told.run.path / "environment.json", {"git": {"commit": "c0ffee", "dirty": True}})
        patch.setattr(sys, "argv", ["dlgsum", "train", f"monitoring.alerts.slack_webhook_url={HOOK}"])
        errors: list[BaseException] = []

        def work() -> None:
            try:
                write(told)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert errors == []
        wandb.teardown()  # as at the end of a process: W&B's own has written all
        (file,) = told.run.path.glob("wandb/offline-run-*/*.wandb")
        yield read_offline(file), told


def write(told: Opening) -> None:
    from PIL import Image

    tracker = WandbTracker.open(told)
    for step, loss in ((1, 3.0), (2, math.nan), (3, 1.0), (3, 2.0)):
        tracker.log(step, {"train/loss": loss})
    tracker.log(3, {"eval/loss": 1.5, "eval/rouge_combined_f1": 0.4}, at=1_700_000_000.0)
    rows = [
        Sample("a", HTML, "예측", ("하나", "둘"), {"rouge1_f1": 0.5}),
        Sample("b", "d", "=1+1", scores={"rouge1_f1": 0.25, "bleu": 1.0}),
    ]
    tracker.samples(3, "eval", rows)
    tracker.samples(3, "empty", [])
    tracker.histogram(3, "gradients/all", torch.tensor([[1.0, 2.0], [math.nan, -math.inf]], dtype=torch.bfloat16))
    tracker.histogram(3, "gradients/none", torch.tensor([math.nan]))
    chart = told.run.path / "chart.png"
    Image.new("RGB", (6, 4), (255, 0, 0)).save(chart)
    tracker.image(3, "charts/loss", chart)
    tracker.model(3, told.run.best_model, {"metrics": {"loss": math.nan}, "signature": "s"})
    tracker.alert("a title", "nobody is told offline", "error")
    tracker.finish({"best/rouge_combined_f1": 0.4}, failed=False)


def test_it_is_a_plugin_by_its_name():
    assert load("trackers", "wandb") is WandbTracker and WandbTracker.name == "wandb"


def test_what_w_and_b_is_told_of_the_run(offline: tuple[OfflineRun, Opening]):
    run, told = offline
    assert run.complete and run.exit_code == 0 and run.problem == "" and run.missing_files == []
    assert (run.id, run.project, run.entity) == (told.run.id, "nlp-dialogue-summarization", "team")
    assert (run.name, run.group, run.job_type, run.notes) == ("한글 이름", "g", "fold", "a note")
    assert run.tags == ["one", "three", "two"] or run.tags == ["one", "two", "three"]
    assert run.config["general"]["seed"] == told.config.general.seed
    assert run.config["monitoring"]["alerts"]["slack_webhook_url"] == "***"


def test_the_commit_is_part_of_the_configuration(offline: tuple[OfflineRun, Opening]):
    run, _ = offline
    assert run.config["git"] == {"commit": "c0ffee", "dirty": True}


def test_no_secret_is_kept_of_the_configuration_the_command_line_or_the_repository(offline: tuple[OfflineRun, Opening]):
    _, told = offline
    kept = [path for path in (told.run.path / "wandb").rglob("*") if path.is_file()]
    assert kept and not any(b"abcdefghijkl" in path.read_bytes() for path in kept)


def test_every_row_is_there_and_drawn_over_the_step(offline: tuple[OfflineRun, Opening]):
    run, _ = offline
    assert run.defined == {"*": "train/global_step"}
    rows = [(row["train/global_step"], row["train/loss"]) for row in run.history if "train/loss" in row]
    assert [step for step, _ in rows] == [1, 2, 3, 3]
    assert [loss for _, loss in rows if not math.isnan(loss)] == [3.0, 1.0, 2.0]
    (evaluated,) = (row for row in run.history if "eval/loss" in row)
    assert evaluated["eval/rouge_combined_f1"] == 0.4 and evaluated["_timestamp"] == 1_700_000_000.0


def test_samples_are_a_table_of_plain_texts(offline: tuple[OfflineRun, Opening]):
    run, _ = offline
    (row,) = (row for row in run.history if "eval/samples" in row)
    assert row["train/global_step"] == 3
    table = json.loads((run.path.parent / "files" / row["eval/samples"]["path"]).read_text())
    assert table["columns"] == ["id", "input", "prediction", "reference", "rouge1_f1", "bleu"]
    assert table["data"] == [["a", HTML, "예측", "하나\n둘", 0.5, None], ["b", "d", "=1+1", "", 0.25, 1.0]]
    # Texts, and not wandb.Html, which alone W&B would show as a page.
    assert all("html" not in artifact.type for artifact in run.artifacts)
    assert not any("empty/samples" in row for row in run.history)


def test_images_and_histograms(offline: tuple[OfflineRun, Opening]):
    run, _ = offline
    (picture,) = (row["charts/loss"] for row in run.history if "charts/loss" in row)
    assert (picture["_type"], picture["width"], picture["height"]) == ("image-file", 6, 4)
    assert (run.path.parent / "files" / picture["path"]).read_bytes()[:4] == b"\x89PNG"
    (counts,) = (row["gradients/all"] for row in run.history if "gradients/all" in row)
    assert counts["_type"] == "histogram" and sum(counts["values"]) == 2  # the finite ones
    assert (counts["bins"][0], counts["bins"][-1]) == (1.0, 2.0)
    assert not any("gradients/none" in row for row in run.history)


def test_the_best_model_is_an_artifact_that_is_not_copied(offline: tuple[OfflineRun, Opening]):
    run, told = offline
    (model,) = (artifact for artifact in run.artifacts if artifact.type == "model")
    assert model.name.endswith(told.run.id) and safe_name(model.name) == model.name
    assert {"best", told.run.id} <= set(model.aliases)
    assert model.metadata == {"step": 3, "metrics": {"loss": "NaN"}, "signature": "s"}
    assert model.files == {
        "config.json": told.run.best_model / "config.json",
        "onnx/weights": told.run.best_model / "onnx" / "weights",
    }


def test_summary_and_charts(offline: tuple[OfflineRun, Opening]):
    run, _ = offline
    assert run.summary["best/rouge_combined_f1"] == 0.4
    assert run.summary["train/loss"] == 2.0  # the last, not W&B's own minimum, which a NaN makes NaN for good
    assert run.summary["min/train/loss"] == 1.0 and run.summary["min/eval/loss"] == 1.5
    assert run.summary["max/eval/rouge_combined_f1"] == 0.4
    assert set(run.config["_wandb"]["visualize"]) == {"charts/learning_curves", "charts/score"}
    (row,) = (row for row in run.history if "charts/learning_curves_table" in row)
    points = json.loads((run.path.parent / "files" / row["charts/learning_curves_table"]["path"]).read_text())["data"]
    assert points == [
        [1, "train/loss", 3.0], [3, "train/loss", 1.0], [3, "train/loss", 2.0], [3, "eval/loss", 1.5],
    ]  # fmt: skip


def test_a_file_that_is_gone_is_missed(offline: tuple[OfflineRun, Opening]):
    run, told = offline
    weights = told.run.best_model / "onnx" / "weights"
    content = weights.read_bytes()
    weights.unlink()
    assert run.missing_files == [weights]
    weights.write_bytes(content)


def test_no_model_where_it_is_not_wanted_and_the_exit_code_of_a_failure(tmp_path: Path, alone: None):
    told = opening(tmp_path, "wandb.mode=offline", "wandb.log_model=false", "wandb.notes=mine", "tracking.notes=theirs")
    tracker = WandbTracker.open(told)
    tracker.model(1, told.run.best_model, {})
    tracker.finish({"status": "failed"}, failed=True)
    wandb.teardown()
    (file,) = told.run.path.glob("wandb/offline-run-*/*.wandb")
    run = read_offline(file)
    assert run.artifacts == [] and run.exit_code == 1 and run.notes == "mine"
    assert run.summary["status"] == "failed"
    assert read_mark(told.run) == {}  # nothing was sent anywhere


def test_a_run_that_the_user_opened_is_used_and_left_open(tmp_path: Path, alone: None):
    theirs = wandb.init(project="theirs", mode="offline", dir=str(tmp_path), config={"general": "mine", "x": 1})
    told = opening(tmp_path, "wandb.mode=disabled")
    tracker = WandbTracker.open(told)
    tracker.log(1, {"a": 1.0})
    tracker.finish({"best": 1}, failed=False)
    assert wandb.run is theirs and theirs.config["general"] == "mine"
    theirs.finish()
    wandb.teardown()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    run = read_offline(file)
    assert [row["a"] for row in run.history if "a" in row] == [1] and run.summary["best"] == 1
    assert run.config["x"] == 1 and run.config["model"] == json.loads(json.dumps(dataclasses.asdict(told.config.model)))
    assert list(told.run.path.glob("wandb")) == []


def test_online_the_rows_arrive_and_a_resumed_run_goes_on(
    tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
):
    at_home(tmp_path, monkeypatch, WANDB_MODE="offline")  # the configuration is what counts
    told = opening(tmp_path, "wandb.mode=online")
    write(told)
    received = server.runs[told.run.id]
    losses = [row["train/loss"] for row in received.history if "train/loss" in row]
    assert [loss for loss in losses if not math.isnan(loss)] == [3.0, 1.0, 2.0] and len(losses) == 4
    assert received.exit_code == 0 and received.summary["best/rouge_combined_f1"] == 0.4
    assert server.alerts == [("a title", "nobody is told offline", "ERROR")]
    assert server.files[f"{safe_name('dialogue_summarization-' + told.run.id)}/onnx/weights"] == b"w" * 1000
    before = len(received.lines)

    tracker = WandbTracker.open(dataclasses.replace(told, resumed_at=3))
    assert tracker.last_step == 3
    tracker.log(4, {"train/loss": 0.5})
    tracker.finish({}, failed=False)
    assert len(received.lines) > before and received.history[0]["train/loss"] == 3.0
    assert received.history[before]["train/loss"] == 0.5
    assert server.unknown == set()


@pytest.mark.slow
def test_what_w_and_b_has_is_noted_only_where_it_has_every_row(tmp_path: Path, server: WandbServer):
    told = opening(tmp_path, "wandb.mode=online")
    for rows in (1, 3):
        told.run.metrics.write_text('{"step": 1, "time": 7.5, "metrics": {"train/loss": 1}}\n' * rows)
        tracker = WandbTracker.open(told)
        tracker.log(1, {"train/loss": 1.0})
        tracker.finish({}, failed=False)
        mark = read_mark(told.run)
        if rows == 1:
            assert (mark["rows"], mark["last"], mark["how"]) == (1, 7.5, "online")
            assert mark["url"].startswith(server.url) and mark["id"] == told.run.id
    assert mark["rows"] == 1  # the second time, one of three rows had not come this way


@pytest.mark.slow
def test_a_server_that_falls_silent_holds_up_nobody(
    tmp_path: Path, server: WandbServer, caplog: pytest.LogCaptureFixture
):
    told = opening(tmp_path, "wandb.mode=online", "tracking.finish_timeout=1")
    tracker = WandbTracker.open(told)
    server.silent.set()
    for step in range(200):
        tracker.log(step, {"train/loss": 1.0})
    tracker.samples(200, "eval", [Sample("a", "d", "p")])  # W&B asks its server about a table, and waits
    assert "did not take eval/samples" in caplog.text
    tracker.log(201, {"train/loss": 1.0})
    with pytest.raises(TimeoutError):
        tracker.finish({}, failed=False)
    assert read_mark(told.run) == {} and wandb.run is None
    server.closed.set()  # so that the end of this process need not wait for it


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wandb_session, "INIT_TIMEOUT", 0.5)
    server.silent.set()
    with pytest.raises(EnvironmentProblem, match=r"does not open the run[\s\S]*wandb.mode=offline") as caught:
        WandbTracker.open(opening(tmp_path, "wandb.mode=online"))
    assert server.url in str(caught.value) and wandb.run is None
    server.closed.set()


LEFT = """
import sys
from pathlib import Path
from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.tracking.detached import Detached
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.tracker import Opening
from dlgsum.tracking.trackers.wandb import WandbTracker

WandbTracker.prepare()
overrides = ["wandb.mode=online", "tracking.finish_timeout=1"]
opening = Opening(RunFolder(Path(sys.argv[1])), compose(Request(environ={}, overrides=overrides)).config)
mirror = Detached("W&B", lambda: WandbTracker.open(opening), timeout=1)
mirror.log(1, {"train/loss": 1.0})
print("logged", flush=True)
sys.stdin.readline()
mirror.finish({}, failed=False)
print("results", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("at", ["opening", "finish"])
def test_the_end_of_a_process_does_not_wait_for_a_silent_server(tmp_path: Path, server: WandbServer, at: str):
    run = RunFolder.create(tmp_path)
    if at == "opening":
        server.silent.set()
    process = subprocess.Popen(
        [sys.executable, "-c", LEFT, str(run.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    assert process.stdout.readline() == "logged\n"
    while at == "finish" and run.id not in server.runs:
        time.sleep(0.05)
    server.silent.set()
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "results\n"
    assert process.wait(15) == 0  # W&B itself waits for half a minute
    said = process.stderr.read()
    assert said.count("W&B") == 1 and "Traceback" not in said and "local record is complete" in said
    for stream in (process.stdin, process.stdout, process.stderr):  # W&B's service, which had them too, is gone
        stream.close()


def test_a_run_that_the_user_has_open_is_waited_for(tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch):
    theirs = wandb.init(project="theirs", mode="offline", dir=str(tmp_path))
    monkeypatch.setattr(wandb_exit, "_open", {"ours"})
    wandb_exit._end_service()
    assert not wandb_exit.service_ended()
    theirs.log({"a": 1})
    theirs.finish()


ASKING = """
import sys
from pathlib import Path
from dlgsum.tracking.wandb_session import WandbSession
assert sys.stdin.isatty() and sys.stderr.isatty()
WandbSession.open(mode="online", project="p", folder=Path(sys.argv[1]), config={}, finish_timeout=1)
"""


def test_nobody_is_asked_for_a_key(tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch):
    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(wandb.errors.term, f"_sys_{stream}_isatty", lambda: True)
    assert wandb.errors.term.can_use_terminput()  # W&B itself would ask
    with pytest.raises(EnvironmentProblem, match=r"takes no key of this machine[\s\S]*`wandb login`"):
        WandbTracker.open(opening(tmp_path, "wandb.mode=online"))
    assert wandb.errors.term.can_use_terminput()  # and may ask again, when its user calls it


@pytest.mark.slow
def test_nobody_is_asked_for_a_key_on_a_terminal(tmp_path: Path):
    ours, theirs = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environ |= {"WANDB_CONFIG_DIR": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", ASKING, str(tmp_path)], stdin=theirs, stdout=theirs, stderr=theirs, env=environ
    )
    os.close(theirs)
    said = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(4096)
            except OSError:  # the process has ended
                break
            if not part:
                break
            said += part
    assert process.wait(60) == 1
    assert b"takes no key of this machine" in said and b"`wandb login`" in said and b"wandb.mode=offline" in said
    assert b"Enter your choice" not in said


def test_a_key_of_the_wrong_form(tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch):
    at_home(tmp_path, monkeypatch, WANDB_API_KEY="short")
    with pytest.raises(EnvironmentProblem, match="wandb login") as caught:
        WandbTracker.open(opening(tmp_path, "wandb.mode=online"))
    assert "short" not in str(caught.value).replace("too short", "")


def test_a_curve_stays_small_and_keeps_its_extremes():
    curve = Curve(most=10)
    for step in range(1000):
        curve.add(step, -1.0 if step == 501 else math.nan if step == 7 else float(step))
    assert len(curve.xs) == len(curve.ys) <= 10 and curve.xs[0] == 0 and curve.xs[-1] >= 500
    assert (curve.lowest, curve.highest) == (-1.0, 999.0)
    assert Curve().lowest is None


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("한글 이름-x", "x"), ("a/b:c", "a-b-c"), ("", "model"), ("//", "model"), ("x" * 200, "x" * 128)],
)
def test_names_that_w_and_b_takes(given: str, wanted: str):
    assert safe_name(given) == wanted
