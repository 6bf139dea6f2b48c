"""A run is followed by its files alone: what is new in them, silence, a process that is gone."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlgsum.config.compose import compose, to_yaml
from dlgsum.config.request import Request
from dlgsum.core.errors import ConfigError, UsageError
from dlgsum.core.files import append_jsonl, write_json
from dlgsum.core.log import logging_to
from dlgsum.recipes import watch_find
from dlgsum.recipes.watch import Silence, Watcher, exit_code
from dlgsum.recipes.watch_files import Tail, last_warnings
from dlgsum.recipes.watch_state import RunView
from dlgsum.tracking.liveness import Holder
from dlgsum.tracking.progress import ProgressFile
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.stream import MetricStream

CONFIG = compose(Request(environ={})).config


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Told:
    """Who is told; keeps what was said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str, str]] = []
        self.recorded = False

    def send(self, kind: str, severity: str, title: str, text: str, *, lifecycle: bool = False, **details: Any) -> None:
        json.dumps(details)
        assert lifecycle == (kind == "recovered"), "what is muted with the news of a run's course"
        self.said.append((kind, severity, title, text))

    def close(self) -> None:
        return

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, *_ in self.said]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a run of this process that has begun, but not reported yet."""
    run = RunFolder.create(tmp_path / "결과")
    run.write_config(to_yaml(CONFIG))
    run.status("running")
    return run


class Watched:
    """A watcher with a clock of its own."""

    def __init__(self, run: RunFolder, **settings: Any) -> None:
        self.clock, self.told = Clock(), Told()
        usual = {"timeout": 300, "start_timeout": 1800, "open_alerts": self.open, "clock": self.clock}
        self.watcher = Watcher(run, CONFIG, **{**usual, **settings})

    def open(self, recorded: bool) -> Told:
        """Return who is told; said again once the folder is gone, where nothing can be recorded."""
        self.told.recorded = recorded
        return self.told

    def look(self, seconds: float = 0.0) -> Any:
        """Look again and again for so long, and return the last state."""
        for _ in range(int(seconds / 2)):
            self.clock.now += 2
            self.watcher.look()
        return self.watcher.look()


def report(run: RunFolder, step: int, **metrics: float) -> None:
    MetricStream(run.metrics).log(step, step / 10, {"train/loss": 1 / step, **metrics})


AT = "2026-11-21 16:12:00,123"  # as the log has it

# --- reading ---


def test_rows_come_once_and_a_torn_one_waits_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    tail = Tail(path)
    assert list(tail.new_rows()) == []
    whole = json.dumps({"글": "안녕하세요"}, ensure_ascii=False).encode() + b"\n"
    path.write_bytes(whole + whole[:10])  # torn within a character
    assert list(tail.new_rows()) == [{"글": "안녕하세요"}]
    assert list(tail.new_rows()) == []
    with path.open("ab") as stream:
        stream.write(whole[10:] + b"nonsense\n[1]\n" + b"[" * 5000 + b'\n{"a": 1}\n')
    assert list(tail.new_rows()) == [{"글": "안녕하세요"}, {"a": 1}]


@pytest.mark.parametrize("lengthen", [False, True], ids=["shorter", "longer than before"])
def test_a_file_that_was_cut_is_read_again(tmp_path: Path, lengthen: bool) -> None:
    path, begun_again = tmp_path / "metrics.jsonl", []
    stream = MetricStream(path)
    for step in range(5):
        stream.log(step, None, {"m": step})
    tail = Tail(path)
    assert len(list(tail.new_rows())) == 5
    stream.restore({"rows": 3})
    for step in range(3, 10 if lengthen else 4):
        stream.log(step, None, {"m": -step})
    values = [row["metrics"]["m"] for row in tail.new_rows(lambda: begun_again.append(True))]
    assert values == [0, 1, 2, *(-step for step in range(3, 10 if lengthen else 4))]
    assert begun_again == [True]
    path.unlink()
    assert list(tail.new_rows(lambda: begun_again.append(True))) == [] and len(begun_again) == 2


def test_many_rows_and_a_line_without_end_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    row = (
        json.dumps(
            {"step": 1, "time": 1.0, "metrics": {"train/loss": 1.0, "layer_grad/x": 1.0}, "pad": "x" * 999}
        ).encode()
        + b"\n"
    )
    path.write_bytes(row * 5000 + b"x" * 8 * 2**20 + b"\n" + row)
    view, tail, count = RunView("loss", larger_wins=False), Tail(path), 0
    tracemalloc.start()
    try:
        for content in tail.new_rows():
            view.take_metrics(content)
            count += 1
        assert tracemalloc.get_traced_memory()[1] < 6 * 2**20 < path.stat().st_size
    finally:
        tracemalloc.stop()
    assert count == 5001
    assert len(view.state("", "", 0).points) == 60 and "layer_grad/x" not in view.state("", "", 0).latest


def test_the_scores_of_a_long_run_are_read_from_its_beginning(run: RunFolder) -> None:
    pad = {"pad": "x" * 100_000}
    for step in range(1, 121):
        metrics = {"train/loss": step} | ({"eval/rouge_combined_f1": 0.9} if step == 2 else {})
        append_jsonl(run.metrics, {"step": step, "metrics": metrics, **pad})
    state = Watched(run).look()
    assert (state.best.step, state.step, len(state.points)) == (2, 120, 60)
    every, fewer = (len(list(Tail(run.metrics, landmark=mark).new_rows())) for mark in (None, b'"eval/'))
    assert every == 120 and 80 < fewer < 100


def test_the_end_of_a_log_has_no_secrets(tmp_path: Path) -> None:
    log = tmp_path / "training.log"
    assert last_warnings(log, 3) == []
    # The look begins within the first secret, which is not known by its end.
    begin = "https://hooks.slack.com/services/" + "S" * 70_000
    lines = [begin, "", f"{AT} WARNING a.b: token=s3cr3t", f"{AT} ERROR c: 끝"]
    log.write_text("\n".join([*lines, ""]), encoding="utf-8")
    assert last_warnings(log, 3) == [f"{AT} WARNING a.b: token=***", f"{AT} ERROR c: 끝"]
    assert last_warnings(log, 1) == [f"{AT} ERROR c: 끝"]
    with logging_to(log):
        logging.getLogger("a").warning("seen\n    2 rows")
        logging.getLogger("a").info("WARNING a: not seen")
    assert [line.partition(" WARNING ")[2] for line in last_warnings(log, 1)] == ["a: seen"]


# --- the state ---


def test_a_run_from_its_beginning_to_its_end(run: RunFolder) -> None:
    watched = Watched(run)
    state = watched.look()
    assert (state.condition, state.step, state.ended, exit_code(state)) == ("preparing", None, False, 0)
    run.event("start", processes=2)
    ProgressFile(run.path).beat(1, 40, "training")
    for step in (1, 2, 3):
        append_jsonl(run.metrics, {"step": step, "epoch": 0.5, "time": 4e9 + 10 * step, "metrics": {
            "train/loss": "NaN" if step == 2 else 1.5, "train/grad_norm": 3, "gpu/memory_peak_gb": 2.0, "monitor/x": 1,
        }})  # fmt: skip
    state = watched.look()
    assert (state.condition, state.phase, state.step, state.total, state.epoch) == ("running", "training", 3, 40, 0.5)
    assert str([point.loss for point in state.points]) == "[1.5, nan, 1.5]"
    assert state.latest["train/grad_norm"] == 3 and "monitor/x" not in state.latest
    assert state.seconds_left == 37 * 10
    for step, score in ((3, 0.2), (6, 0.3), (9, float("nan")), (12, 0.1)):
        MetricStream(run.metrics).log(step, 1.0, {"eval/loss": 2.0, "eval/rouge_combined_f1": score})
        if step == 6:
            assert watched.look().evaluation.best
    state = watched.look()
    assert (state.best.score, state.best.step, state.evaluation.step, state.evaluation.best) == (0.3, 6, 12, False)
    assert state.evaluation.number == 4
    alert = {"row": "alert", "kind": "loss_spike", "severity": "warning", "title": "큰 손실", "step": 7}
    for row in (alert, {**alert, "row": "answer"}, {"other": 1}):
        append_jsonl(run.alerts, row)
    assert [(note.kind, note.title, note.step) for note in watched.look().notes] == [("loss_spike", "큰 손실", 7)]
    run.status("completed")
    state = watched.look(100)
    assert (state.condition, state.ended, exit_code(state), state.resume) == ("completed", True, 0, "")
    assert watched.told.said == []


def test_a_smaller_loss_is_the_better_one() -> None:
    view = RunView("loss", larger_wins=False)
    for step, loss in ((1, 3.0), (2, 2.0), (3, 2.5)):
        view.take_metrics({"step": step, "metrics": {"eval/loss": loss}})
    assert view.state("", "", 0.0).best.step == 2


def test_time_left_is_judged_by_the_steps_since_the_last_start() -> None:
    view = RunView("loss", larger_wins=False)
    view.take_status({"status": "running", "pid": 1})
    view.take_progress({"pid": 1, "step": 4, "total": 10})
    view.take_event({"event": "start", "time": "1970-01-02T00:00:00+00:00"})
    for step, time in ((1, 0.0), (2, 5.0), (3, 86400.0)):  # a night lies between
        view.take_metrics({"step": step, "time": time, "metrics": {"train/loss": 1.0}})
    assert view.state("", "", 0.0).seconds_left is None
    view.take_metrics({"step": 4, "time": 86407.0, "metrics": {"train/loss": 1.0}})
    assert view.state("", "", 86410.0).seconds_left == 6 * 7
    assert view.state("", "", 86410.0).seconds == 10


@pytest.mark.parametrize(("status", "code"), [("failed", 5), ("interrupted", 143)])
def test_a_run_that_stopped_says_how_it_goes_on(run: RunFolder, status: str, code: int) -> None:
    run.event("start", processes=2)
    write_json(run.path / "status.json", {"status": status, "reason": "token=s3cr3t"})  # by an older version
    assert Watched(run).look().reason == "token=***"
    run.status(status, reason="DataError: no rows")
    watched = Watched(run)
    state = watched.look()
    assert (state.reason, state.ended, exit_code(state)) == ("DataError: no rows", True, code)
    assert state.resume.startswith("dlgsum resume ") and state.resume.endswith("--nproc 2")
    assert watched.told.said == [], "the run itself tells of its end"


def test_a_resumed_run_does_not_show_what_is_undone(run: RunFolder) -> None:
    ProgressFile(run.path).beat(1, 40)
    stream = MetricStream(run.metrics)
    for step in range(1, 6):
        stream.log(step, None, {"eval/rouge_combined_f1": step / 10})
    watched = Watched(run)
    assert watched.look().best.step == 5
    write_json(run.path / "status.json", {"status": "running", "pid": 1, "time": 0})
    stream.restore({"rows": 2})
    state = watched.look()
    assert (state.best.step, state.step, state.condition) == (2, 2, "preparing")


WRONG = [
    {"step": "1"}, {"step": 1, "metrics": [1]}, {"step": True, "metrics": {}},
    {"step": None, "metrics": {"train/loss": 1}},
    {"step": 1, "metrics": {"train/loss": None, "train/grad_norm": "big", "train/x": [1], "train/y": 10**400}},
    {"step": 1, "metrics": {"train/z": True}},
]  # fmt: skip


def test_rows_of_another_shape_change_nothing() -> None:
    view = RunView("loss", larger_wins=False)
    for content in ({}, {"status": 3, "pid": "x", "time": []}, {"status": "running", "time": "yesterday"}):
        view.take_status(content)
        view.take_progress({**content, "step": 2.5, "total": "many"})
        view.state("", "", 0.0)
    for row in WRONG:
        view.take_metrics(row)
        view.take_event({**row, "event": "start", "processes": "two"})
        view.take_alert(row)
    state = view.state("", "", 0.0)
    assert (state.points, state.latest, state.evaluation, state.notes, state.processes) == ((), {}, None, (), 1)


# --- silence ---


def test_silence_is_told_once_and_its_end_once(run: RunFolder) -> None:
    watched, beat = Watched(run), ProgressFile(run.path)
    beat.beat(4, 40)
    report(run, 4)
    sample = "  dialogue: #Person1#: ERROR: 비밀\n  prediction: WARNING x: 비밀"
    lines = [f"{AT} WARNING a: token=s3cr3t 경고", f"{AT} INFO dlgsum.b: 비밀", f"{AT} INFO dlgsum.b: step 4\n{sample}"]
    run.log.write_text("\n".join(lines), encoding="utf-8")
    assert watched.look(298).condition == "running"
    state = watched.look(4)
    assert (state.condition, state.ended) == ("silent", False)
    assert watched.look(600).condition == "silent"
    [(kind, severity, title, text)] = watched.told.said
    assert (kind, severity, watched.told.recorded) == ("silent", "error", True)
    assert "for 300 s" in title
    assert "비밀" not in text, "the data of the user goes to nobody"
    for part in ("step 4 of 40", "0.25", str(run.log), "token=*** 경고", str(os.getpid()), state.resume):
        assert part in text
    report(run, 5)
    assert watched.look().condition == "running"
    assert watched.look(100).silence == 100
    assert watched.told.kinds == ["silent", "recovered"]
    assert watched.look(300).condition == "silent"
    assert watched.told.kinds == ["silent", "recovered", "silent"]


def test_evaluations_and_saves_are_signs_of_life_but_a_log_is_not(run: RunFolder) -> None:
    watched = Watched(run)
    write_json(run.path / "progress.json", {"beat": 0, "step": 4, "pid": os.getpid()})
    for beat in range(10):
        write_json(run.path / "progress.json", {"beat": beat, "step": 4, "pid": os.getpid()})
        assert watched.look(100).condition == "running"
    for _ in range(4):
        with run.log.open("a") as log:
            log.write("still waiting for the other ranks\n")
        (run.path / "status.json").touch()
        state = watched.look(100)
    assert state.condition == "silent"


def test_before_the_first_step_a_log_is_a_sign_of_life(run: RunFolder) -> None:
    watched = Watched(run)
    for _ in range(10):
        with run.log.open("a") as log:
            log.write("tokenizing\n")
        assert watched.look(200).condition == "preparing"
    assert watched.look(1590).condition == "preparing"
    state = watched.look(20)
    assert state.condition == "silent" and "no step is done yet" in state.reason


def test_a_watcher_that_was_stopped_does_not_blame_the_run(run: RunFolder) -> None:
    watched = Watched(run)
    watched.look()
    watched.clock.now += 36_000
    assert watched.look().condition == "preparing"
    clock = Clock()
    silence = Silence(clock)
    clock.now += 3
    assert silence.look(False) == 3 and silence.look(True) == 0


def test_file_dates_have_no_say(run: RunFolder) -> None:
    watched = Watched(run)
    report(run, 1)
    ProgressFile(run.path).beat(1)
    for path in (run.metrics, run.path / "progress.json", run.path / "status.json"):
        os.utime(path, (0, 0))
    assert watched.look(290).condition == "running"
    for second in range(6):
        os.utime(run.metrics, (4e9 + second, 4e9 + second))
        state = watched.look(2)
    assert state.condition == "silent"


# --- lost ---

HOLDING = """
import sys, time
from pathlib import Path
from dlgsum.tracking.lock import RunLock
from dlgsum.tracking.run import RunFolder
run = RunFolder(Path(sys.argv[1]))
with RunLock(run.path):
    run.status("running")
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holding(run: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """Return a process that holds the run's folder."""
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(run.path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_killed_process_is_lost(run: RunFolder, holding: subprocess.Popen[str]) -> None:
    watched = Watched(run)
    assert watched.look(20).condition == "preparing"
    holding.kill()
    os.waitid(os.P_PID, holding.pid, os.WEXITED | os.WNOWAIT)  # dead, and a zombie until it is asked for
    report(run, 3)  # its last word
    assert watched.look().condition != "lost", "what it had written is still coming in"
    state = watched.look(6)
    assert (state.condition, state.ended, exit_code(state)) == ("lost", True, 5)
    assert watched.told.kinds == ["lost"] and f"Go on with: {state.resume}" in watched.told.said[0][3]
    # A look without patience, and the choice of a run, see it too.
    assert Watched(run, grace=0.0, open_alerts=None).look().condition == "lost"
    holding.wait()
    older = run
    newer = RunFolder.create(older.path.parent.parent)
    newer.write_config("")
    newer.status("completed")
    request = Request(overrides=[f"general.output_dir={older.path.parent.parent}"], environ={})
    assert watch_find.find("latest", request).id == newer.id


def test_a_process_that_ends_in_order_between_two_looks_is_not_lost(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(run)
    watched.look(20)

    def gone(*arguments: Any, **named: Any) -> bool:
        run.status("completed")  # after the status was read
        return True

    monkeypatch.setattr(Holder, "gone", gone)
    assert watched.look().condition == "preparing"
    assert watched.look().condition == "completed" and watched.told.said == []


def test_the_newest_that_runs_is_found(run: RunFolder, holding: subprocess.Popen[str]) -> None:
    newer = RunFolder.create(run.path.parent.parent)
    newer.write_config("")
    newer.status("failed")
    request = Request(overrides=[f"general.output_dir={run.path.parent.parent}"], environ={})
    assert watch_find.find("latest", request).id == run.id
    assert watch_find.wait_for(request).id == run.id
    assert watch_find.find(newer.id, request).id == newer.id


def test_a_run_left_by_another_machine_does_not_hide_a_newer_one(run: RunFolder) -> None:
    write_json(run.path / "lock.json", {"pid": 1, "host": "another", "started": ""})
    request = Request(overrides=[f"general.output_dir={run.path.parent.parent}"], environ={})
    assert watch_find.wait_for(request).id == run.id, "the newest"
    newer = RunFolder.create(run.path.parent.parent)
    newer.write_config("")
    newer.status("completed")
    assert watch_find.find("latest", request).id == newer.id
    ProgressFile(run.path).beat(1)
    assert watch_find.find("latest", request).id == run.id
    os.utime(run.path / "progress.json", (0, 0))
    assert watch_find.find("latest", request).id == newer.id


def test_a_status_has_no_secrets(run: RunFolder) -> None:
    run.status("failed", reason="ValueError: token=s3cr3t")
    assert json.loads((run.path / "status.json").read_text())["reason"] == "ValueError: token=***"


@pytest.mark.parametrize("kind", ["lost", "gone"])
def test_a_rule_for_the_end_of_a_process_holds(run: RunFolder, kind: str) -> None:
    def rows(*overrides: str) -> list[tuple[str, str, str]]:
        settings = compose(Request(overrides=["monitoring.alerts.lifecycle=false", *overrides], environ={})).config
        run.alerts.unlink(missing_ok=True)
        watched = Watched(run, grace=0.0, open_alerts=lambda _: watch_find.open_alerts(run, settings))
        watched.watcher._judge = lambda *_: (kind, "reason")  # type: ignore[method-assign]
        watched.look(4)
        watched.watcher.close()
        return [(row["kind"], row["severity"], row["sent"]) for row in Tail(run.alerts).new_rows()]

    assert rows() == [(kind, "error", "no target")]
    assert rows("monitoring.alerts.rules.failed=off") == [(kind, "error", "no target")]
    assert rows(f"monitoring.alerts.rules.{kind}=off") == [(kind, "error", "off")]


def test_a_process_that_cannot_be_asked_for_is_not_lost(run: RunFolder) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    write_json(run.path / "status.json", {"status": "running", "pid": dead.pid})
    assert not Holder(run).gone(dead.pid), "nothing says on which machine"
    write_json(run.path / "lock.json", {"pid": dead.pid, "host": "another", "started": ""})
    assert not Holder(run).gone(dead.pid)
    for held in ({"pid": -1, "host": socket.gethostname()}, {"pid": 2**70, "host": socket.gethostname()}, {"pid": "x"}):
        write_json(run.path / "lock.json", held)
        Holder(run).gone(None)  # raises nothing
    write_json(run.path / "lock.json", {"pid": dead.pid, "host": socket.gethostname(), "started": ""})
    holder = Holder(run)
    assert holder.gone(dead.pid)
    # The supervisor holds the folder; the process of the status may be one that it starts again.
    write_json(run.path / "lock.json", {"pid": os.getpid(), "host": socket.gethostname(), "started": ""})
    assert not Holder(run).gone(dead.pid)


def test_a_run_in_a_container_reports_although_its_process_is_not_here(run: RunFolder) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    write_json(run.path / "status.json", {"status": "running", "pid": dead.pid})
    write_json(run.path / "lock.json", {"pid": dead.pid, "host": socket.gethostname(), "started": ""})
    watched = Watched(run)
    for step in range(1, 5):
        report(run, step)
        watched.look()
    assert watched.look(20).condition == "preparing"


def test_a_folder_that_is_removed(run: RunFolder) -> None:
    watched = Watched(run)
    ProgressFile(run.path).beat(1)
    watched.look()
    shutil.rmtree(run.path)
    assert watched.look().condition == "running"
    state = watched.look(8)
    assert (state.condition, state.ended, exit_code(state)) == ("gone", True, 4)
    assert watched.told.kinds == ["gone"] and not watched.told.recorded and not run.path.exists()


def test_files_that_cannot_be_read_now_do_not_matter(run: RunFolder) -> None:
    watched = Watched(run)
    ProgressFile(run.path).beat(7, 9)
    assert watched.look().step == 7
    content = (run.path / "progress.json").read_bytes()
    (run.path / "progress.json").write_bytes(b'{"beat": 3, "st\xec')
    assert watched.look(10).silence == 10
    (run.path / "progress.json").write_bytes(content)
    assert watched.look(10).silence == 20, "what was there before is no sign of life"
    run.metrics.mkdir()
    state = watched.look(10)
    assert (state.step, state.condition) == (7, "running")


# --- settings ---

SLACK = "https://hooks.slack.com/services/T0000/B0000/abcdefghijklmnop"


def test_the_settings_are_those_of_the_run_with_what_is_said_now(run: RunFolder) -> None:
    saved = compose(Request(overrides=["monitoring.alerts.urls=[json://a]", "metrics.best=loss"], environ={})).config
    run.write_config(to_yaml(saved))
    environ = {"LEARNING_RATE": "bad", "DLGSUM__MONITORING__ALERTS__URLS": "[json://b]", "SLACK_WEBHOOK_URL": SLACK}
    assert watch_find.read_config(run, Request(environ={}, secrets={})).monitoring.alerts.addresses == []
    config = watch_find.read_config(run, Request(environ=environ, secrets={}))
    assert config.monitoring.alerts.addresses == [SLACK, "json://b"]
    said = Request(environ=environ, overrides=["monitoring.alerts.urls=[json://c]"])
    config = watch_find.read_config(run, said)
    assert (config.monitoring.alerts.urls, config.metrics.best) == (["json://c"], "loss")
    with pytest.raises(ConfigError):
        watch_find.read_config(run, Request(overrides=["monitoring.alerts.uls=[]"], environ={}))


def test_a_configuration_that_cannot_be_read_hides_nothing(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    run.write_config("training: {learning_rate: much, nosuch: 1}")
    said = Request(overrides=["monitoring.alerts.urls=[json://c]"], environ={})
    assert watch_find.read_config(run, said).monitoring.alerts.urls == ["json://c"]
    assert "the defaults take its place" in caplog.text


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no runs"):
        watch_find.find("latest", Request(overrides=[f"general.output_dir={tmp_path}"], environ={}))
