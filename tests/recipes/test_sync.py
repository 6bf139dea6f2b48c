"""`dlgsum sync`: W&B's own files are uploaded where they hold all, and runs rebuilt where they do not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import wandb

from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.config.schema import Data
from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.core.files import append_jsonl, dumps, read_json, read_jsonl, write_json
from dlgsum.data.rows import Split
from dlgsum.data.sources import load_source, resolve_files
from dlgsum.recipes.sync import Synced, plan, sync
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.samples import keep_dialogues
from dlgsum.tracking.tracker import Opening, Sample
from dlgsum.tracking.trackers.wandb import WandbTracker, proven_rows
from dlgsum.tracking.wandb_file import read_offline
from dlgsum.tracking.wandb_session import WandbSession
from tests.tracking.wandb_server import KEY, WandbServer, at_home


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as stand_in:
        at_home(tmp_path / "home", monkeypatch, WANDB_BASE_URL=stand_in.url, WANDB_API_KEY=KEY)
        yield stand_in
        wandb.teardown()


@cache
def validation_rows() -> Split:
    data = Data(source="sample")
    source = resolve_files(data, folder=Path.cwd()).sources["validation"]
    return load_source(source, data, name="validation", need_summary=True)


def a_run(outputs: Path, *, mode: str = "offline", rows: int = 3, status: str = "completed") -> RunFolder:
    """Make a finished run on the bundled validation rows, with all that a run leaves."""
    run, split = RunFolder.create(outputs), validation_rows()
    run.write_config(dumps({"wandb": {"mode": mode}, "data": {"source": "sample"}, "tracking": {"samples": 2}}))
    write_json(run.path / "data.json", {"splits": [split.describe()]})
    for step in range(1, rows):
        row = {"step": step, "epoch": 0.5, "time": 1000.0 + step, "metrics": {"train/loss": 3.0 / step}}
        append_jsonl(run.metrics, row)
    scores = {"eval/loss": float("nan"), "eval/rouge_combined_f1": 0.5}
    append_jsonl(run.metrics, {"step": rows - 1, "epoch": 1.0, "time": 2000.0, "metrics": scores})
    for row in split.rows[:4]:
        said = {"fname": row.id, "prediction": f"{row.id}의 요약", "references": row.references, "rouge1_f1": 0.5}
        append_jsonl(run.predictions / f"eval-step-{rows - 1}.jsonl", said)
    keep_dialogues(run, "eval", {place: (split.rows[place].id, split.rows[place].dialogue) for place in (0, 2)})
    run.best_model.mkdir()
    (run.best_model / "model.safetensors").write_bytes(b"m" * 100)
    best = {"step": rows - 1, "signature": "s", "metrics": {"rouge_combined_f1": 0.5}}
    write_json(run.best_model / "metrics.json", best)
    run.visualizations.mkdir()
    from PIL import Image

    Image.new("RGB", (3, 2)).save(run.visualizations / "loss.png")
    run.status(status)  # type: ignore[arg-type]
    return run


def offline_file(run: RunFolder, *, rows: int | None = None, without: str = "") -> Path:
    """Write W&B's own file of a run, as its training would have; of the first ``rows`` rows only where given."""
    config = compose(Request(base=run.config, environ={})).config
    tracker = WandbTracker.open(Opening(run, config))
    for line in run.metrics.read_text().splitlines()[:rows]:
        row = json.loads(line.replace('"NaN"', "NaN"))
        tracker.log(row["step"], row["metrics"])
    show(tracker, run, without=without)
    tracker.finish({"best/rouge_combined_f1": 0.5}, failed=False)
    wandb.teardown()
    return sorted(run.path.glob("wandb/offline-run-*/*.wandb"))[-1]


def show(tracker: WandbTracker, run: RunFolder, *, without: str = "") -> None:
    """Give a tracker what training shows besides metrics."""
    if without != "samples":
        tracker.samples(2, "eval", [Sample("dev_0", "d", "p")])
    if without != "model":
        tracker.model(2, run.best_model, {})


def where(outputs: Path) -> Request:
    return Request(environ={}, overrides=[f"general.output_dir={outputs}"])


@pytest.mark.slow
def test_a_whole_file_is_uploaded_once(tmp_path: Path, server: WandbServer):
    run = a_run(tmp_path)
    file = offline_file(run)
    planned = plan(run, where(tmp_path))
    assert (planned.action, planned.rows, planned.files) == ("upload", 3, (file,))
    assert sync([], where(tmp_path), dry_run=True)[0].done == "upload" and server.runs == {}
    (synced,) = sync([], where(tmp_path))
    assert synced.done == "uploaded" and synced.url == f"{server.url}/me/nlp-dialogue-summarization/runs/{run.id}"
    received = server.runs[run.id]
    assert [row["train/global_step"] for row in received.history if "train/loss" in row] == [1, 2]
    assert received.summary["best/rouge_combined_f1"] == 0.5 and received.exit_code == 0
    assert read_json(run.path / "wandb_sync.json")["how"] == "uploaded"
    lines = len(received.lines)
    assert not Path("wandb").exists()  # W&B's own command leaves its logs with the run
    (again,) = sync([run.id], where(tmp_path))
    assert again.done == "nothing" and len(received.lines) == lines


def test_a_run_without_a_file_is_rebuilt_with_all_there_is_and_then_only_what_is_new(
    tmp_path: Path, server: WandbServer
):
    run = a_run(tmp_path)
    told: list[Synced] = []
    moves: list[tuple[int, int]] = []
    sync(["latest"], where(tmp_path), tell=told.append, progress=lambda done, total: moves.append((done, total)))
    assert [each.done for each in told] == ["rebuilt"] and moves == [(1, 3), (2, 3), (3, 3)]
    received = server.runs[run.id]
    losses = [(row["train/global_step"], row["train/loss"], row["_timestamp"]) for row in received.history[:2]]
    assert losses == [(1, 3.0, 1001.0), (2, 1.5, 1002.0)]
    assert received.history[2]["eval/loss"] != received.history[2]["eval/loss"]  # NaN as it was
    assert received.summary["best/rouge_combined_f1"] == 0.5 and received.summary["status"] == "completed"
    assert server.files[f"dialogue_summarization-{run.id}/model.safetensors"] == b"m" * 100
    assert received.config["general"]["seed"] == 42
    tables = [json.loads(data) for name, data in server.files.items() if "media/table/eval/samples" in name]
    assert [row[0] for row in tables[0]["data"]] == ["dev_0", "dev_2"]
    assert tables[0]["data"][0][1].startswith("#Person1#") and tables[0]["data"][0][2] == "dev_0의 요약"
    assert any("media/table/best/samples" in name for name in server.files)
    assert any("media/images/loss" in name for name in server.files)

    for step in (3, 4):
        append_jsonl(run.metrics, {"step": step, "time": 3000.0 + step, "metrics": {"train/loss": 9.0}})
    before = len(received.lines)
    assert sync([], where(tmp_path))[0].done == "rebuilt"
    new = [row["train/global_step"] for row in received.history[before:] if "train/loss" in row]
    assert new == [3, 4] and received.summary["min/train/loss"] == 1.5  # of all rows
    assert sync([], where(tmp_path))[0].done == "nothing"
    assert server.unknown == set()


def test_a_gap_before_the_last_step_of_the_server_is_filled(tmp_path: Path, server: WandbServer):
    """Rows of an earlier part that W&B lost, or that came too fast for it; its last step says nothing of them."""
    run = a_run(tmp_path, mode="online", rows=6)
    config = compose(Request(base=run.config, environ={})).config
    tracker = WandbTracker.open(Opening(run, config, resumed_at=2))
    for step in (3, 4, 5):
        tracker.log(step, {"train/loss": 3.0 / step})
    tracker.finish({}, failed=False)

    def losses() -> list[int]:
        return [row["train/global_step"] for row in server.runs[run.id].history if "train/loss" in row]

    assert losses() == [3, 4, 5] and plan(run, where(tmp_path)).reason == "W&B's own file lacks 3 rows"
    assert sync([], where(tmp_path))[0].done == "rebuilt"
    assert losses()[3:] == [1, 2, 3, 4, 5]
    assert sync([], where(tmp_path))[0].done == "nothing"
    assert plan(run, where(tmp_path), again=True).known == 0


@pytest.mark.slow
def test_a_run_that_the_server_has_no_more_is_brought_whole(tmp_path: Path, server: WandbServer):
    run = a_run(tmp_path, rows=3)
    write_json(run.path / "wandb_sync.json", {"rows": 2, "last": 1002.0, "how": "online"})
    assert plan(run, where(tmp_path)).known == 2
    assert sync([], where(tmp_path))[0].done == "rebuilt"
    losses = [row["train/global_step"] for row in server.runs[run.id].history if "train/loss" in row]
    assert losses == [1, 2]


@pytest.mark.parametrize("without", ["model", "samples"])
def test_a_file_without_the_model_or_a_table_is_not_uploaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str
):
    at_home(tmp_path / "home", monkeypatch)
    run = a_run(tmp_path)
    offline_file(run, without=without)
    planned = plan(run, where(tmp_path))
    missing = {"model": "the model", "samples": "the samples of eval at step 2"}[without]
    assert (planned.action, planned.reason) == ("rebuild", f"W&B's own file lacks {missing}")


@pytest.mark.slow
def test_a_model_that_w_and_b_did_not_take_is_brought(
    tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
):
    run = a_run(tmp_path, mode="online")
    config = compose(Request(base=run.config, environ={})).config
    taken = WandbSession.artifact

    def refused(*arguments: object, **options: object) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr(WandbSession, "artifact", refused)
    tracker = WandbTracker.open(Opening(run, config))
    for row in read_jsonl(run.metrics):
        tracker.log(row["step"], {"train/loss": 1.0})
    show(tracker, run)
    tracker.finish({}, failed=False)
    assert read_json(run.path / "wandb_sync.json")["lacks"] == ["the model"]
    assert plan(run, where(tmp_path)).reason == "W&B did not take the model"
    (failed,) = sync([], where(tmp_path))
    assert failed.done == "failed" and "did not take the model" in failed.reason
    monkeypatch.setattr(WandbSession, "artifact", taken)
    assert sync([], where(tmp_path))[0].done == "rebuilt"
    assert server.files[f"dialogue_summarization-{run.id}/model.safetensors"] == b"m" * 100
    assert sync([], where(tmp_path))[0].done == "nothing"


def test_only_rows_that_a_mark_proves_are_with_w_and_b(tmp_path: Path):
    run = a_run(tmp_path, rows=6)  # at 1001 to 1005, and 2000
    for mark, proven in (
        ({}, 0),
        ({"rows": 4, "last": 1004.0}, 4),
        ({"rows": 6, "last": 2000.0}, 6),
        ({"rows": 9, "last": 1002.5}, 2),  # of a run that went on from before its end: later rows are others
        ({"rows": 6, "last": 999.0}, 0),  # of one that started over
    ):
        write_json(run.path / "wandb_sync.json", mark)
        assert proven_rows(run) == proven


def test_a_file_that_does_not_hold_all_is_not_uploaded(tmp_path: Path, server: WandbServer):
    run = a_run(tmp_path)
    file = offline_file(run, rows=1)
    whole = file.read_bytes()
    reasons = {"lacks 2 rows": whole, "ends within a record": whole[:-20], "holds no run": whole[:7]}
    for reason, content in reasons.items():
        file.write_bytes(content)
        planned = plan(run, where(tmp_path))
        assert planned.action == "rebuild" and reason in planned.reason

    (synced,) = sync([], where(tmp_path), mode="offline")  # nothing is uploaded, and it can be read back
    wandb.teardown()
    rebuilt = read_offline(sorted(run.path.glob("wandb/offline-run-*/*.wandb"))[-1])
    assert synced.done == "rebuilt" and server.runs == {} and rebuilt.complete
    assert [row["train/loss"] for row in rebuilt.history if "train/loss" in row] == [3.0, 1.5]
    assert {artifact.type for artifact in rebuilt.artifacts} == {"model", "run_table"}
    assert not (run.path / "wandb_sync.json").exists()  # W&B has nothing of it


def test_what_is_left_out(tmp_path: Path):
    unwanted, running, broken = (a_run(tmp_path, mode=mode) for mode in ("disabled", "offline", "offline"))
    running.status("running")
    broken.config.write_text("training: {learning_rat: 1}")
    empty = a_run(tmp_path)
    empty.metrics.unlink()
    reasons = {each.run: (each.done, each.reason) for each in sync([], where(tmp_path), dry_run=True)}
    assert reasons[unwanted.id] == ("left out", "wandb.mode=disabled for it; --force brings it all the same")
    assert reasons[running.id] == ("left out", "it is running")
    assert "configuration cannot be read" in reasons[broken.id][1]
    assert reasons[empty.id] == ("left out", "it has no metrics")
    assert plan(unwanted, where(tmp_path), force=True).action == "rebuild"
    with pytest.raises(UsageError, match="There is no run 'nosuch'"):
        sync(["nosuch"], where(tmp_path))


def test_no_key_no_server_and_a_server_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = a_run(tmp_path)
    at_home(tmp_path / "home", monkeypatch)
    with pytest.raises(EnvironmentProblem, match="`wandb login`"):
        sync([], where(tmp_path))
    at_home(tmp_path / "home", monkeypatch, WANDB_BASE_URL="http://127.0.0.1:9", WANDB_API_KEY=KEY)
    with pytest.raises(EnvironmentProblem, match=r"cannot be reached: http://127.0.0.1:9 "):
        sync([], where(tmp_path))
    assert not (run.path / "wandb_sync.json").exists() and not (run.path / "wandb").exists()
    wandb.teardown()


KILLED = """
import sys, time
from pathlib import Path
from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.stream import MetricStream
from dlgsum.tracking.samples import keep_dialogues
from dlgsum.tracking.tracker import Opening, Sample
from dlgsum.tracking.trackers.wandb import WandbTracker, proven_rows

run = RunFolder(Path(sys.argv[1]))
run.status("running")
run.metrics.unlink()
config = compose(Request(base=run.config, environ={})).config
stream = MetricStream(run.metrics, [WandbTracker.open(Opening(run, config))])
for step in range(1, 22):
    stream.log(step, 0.0, {"train/loss": 1.0 / step})
print("logged", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_what_w_and_b_loses_with_a_killed_process_is_brought_back(tmp_path: Path, server: WandbServer):
    run = a_run(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "logged\n"
    assert plan(run, where(tmp_path)).reason == "it is running"
    time.sleep(1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (file,) = run.path.glob("wandb/offline-run-*/*.wandb")
    assert len(read_offline(file).history) < 21  # else there is nothing to bring back
    (synced,) = sync([], where(tmp_path))
    assert (synced.done, synced.rows) == ("rebuilt", 21)
    steps = [row["train/global_step"] for row in server.runs[run.id].history if "train/loss" in row]
    assert steps == list(range(1, 22)) and server.runs[run.id].exit_code == 1


@pytest.mark.slow
def test_a_resumed_run_of_two_files_goes_up_as_one(tmp_path: Path, server: WandbServer):
    run = a_run(tmp_path)
    offline_file(run, rows=2, without="model")
    config = compose(Request(base=run.config, environ={})).config
    time.sleep(1)  # W&B names its folders by the second
    tracker = WandbTracker.open(Opening(run, config, resumed_at=2))
    tracker.log(2, {"eval/loss": float("nan"), "eval/rouge_combined_f1": 0.5})
    show(tracker, run)
    tracker.finish({}, failed=False)
    wandb.teardown()
    planned = plan(run, where(tmp_path))
    assert planned.action == "upload" and len(planned.files) == 2
    assert sync([], where(tmp_path))[0].done == "uploaded"
    names = [name for row in server.runs[run.id].history for name in row if name in ("train/loss", "eval/loss")]
    assert names == ["train/loss", "train/loss", "eval/loss"]
