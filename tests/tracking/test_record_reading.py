"""What is read from a run folder, whole or damaged."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dlgsum.config.compose import compose, to_yaml
from dlgsum.config.request import Request
from dlgsum.core.files import append_jsonl, write_json
from dlgsum.tracking.lock import RunLock
from dlgsum.tracking.record import ExperimentRecord, read_record
from dlgsum.tracking.record_parts import config_hash, read_config
from dlgsum.tracking.run import Parent, RunFolder
from dlgsum.tracking.timeline import last_alive

BEGIN = 1_795_258_443.0  # 2026-11-21 10:54:03 UTC


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(BEGIN + seconds, UTC).isoformat()


@cache
def saved_config() -> str:
    asked = Request(overrides=["tracking.tags=[a,b]", "tracking.notes=note", "meta.experiment_name=대화"], environ={})
    return to_yaml(compose(asked).config)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a run that is complete, as a job writes it."""
    run = RunFolder.create(tmp_path / "outputs")
    run.write_config(saved_config())
    write_json(
        run.path / "environment.json",
        {
            "dlgsum": "0.1.0", "python": "3.11.7", "platform": "Linux", "host": "vm", "cpu_count": 2, "gpus": ["H200"],
            "packages": {"torch": "2.13.0", "wandb": None}, "git": {"commit": "1135e27", "dirty": True},
            "command": "dlgsum train",
        },
    )  # fmt: skip
    splits = [
        {"name": "train", "rows": 14, "fingerprint": "ea"},
        {"name": "validation", "rows": 3, "fingerprint": "36"},
    ]
    write_json(run.path / "data.json", {"splits": splits})
    events(run, (0, "start", {}), (5, "new_best", {"step": 10}), (20, "end", {"status": "completed"}))
    for step in (10, 20):
        append_jsonl(run.metrics, {"step": step, "time": BEGIN + step / 2, "metrics": {"train/loss": 1.0}})
    append_jsonl(run.metrics, {"step": 20, "time": BEGIN + 11, "metrics": {"eval/loss": 2.0, "eval/bleu": math.nan}})
    run.best_model.mkdir()
    scores = {"rouge_combined_f1": 0.5, "loss": math.nan}
    write_json(run.best_model / "metrics.json", {"step": 10, "signature": "s", "metrics": scores})
    write_json(
        run.results,
        {
            "best_metrics": scores, "best_step": 10, "signature": "s", "validation_fingerprint": "36",
            "test_metrics": {"bleu": math.inf}, "test_signature": "t", "final_metrics": {"eval_bleu": 3.0}, "steps": 20,
        },
    )  # fmt: skip
    say(run, "completed", 20)
    return run


def events(run: RunFolder, *rows: tuple[float, str, dict[str, Any]]) -> None:
    for seconds, kind, more in rows:
        append_jsonl(run.events, {"time": stamp(seconds), "level": "info", "event": kind, **more})


def say(run: RunFolder, status: str, seconds: float, **more: Any) -> None:
    known = {"pid": os.getpid(), "host": socket.gethostname(), "started": BEGIN}
    write_json(run.path / "status.json", {**known, "status": status, "time": BEGIN + seconds, **more})


def held_by(pid: int, *, ago: float = 0.0) -> dict[str, Any]:
    """Return what a holder writes into lock.json."""
    return {"pid": pid, "host": socket.gethostname(), "started": datetime.fromtimestamp(time.time() - ago).isoformat()}


def silent(run: RunFolder, seconds: float) -> None:
    """Let nothing of a run have changed for so long."""
    then = time.time() - seconds
    for path in run.path.glob("*.json*"):
        os.utime(path, (then, then))


def dead() -> int:
    """Return the number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_a_whole_run(run: RunFolder):
    found = read_record(run)
    plain = {
        name: value for name, value in vars(found).items() if name not in ("config", "config_hash", "best_metrics")
    }
    assert plain == {
        "id": run.id, "folder": str(run.path), "output_dir": str(run.path.parent.parent), "name": "대화",
        "description": "", "status": "completed", "reason": "", "started": datetime.fromtimestamp(BEGIN, UTC),
        "ended": datetime.fromtimestamp(BEGIN + 20, UTC), "seconds": 20.0, "seed": 42, "git_commit": "1135e27",
        "git_dirty": True, "command": "dlgsum train", "host": "vm",
        "hardware": {"gpus": ["H200"], "cpu_count": 2, "platform": "Linux"},
        "versions": {"dlgsum": "0.1.0", "python": "3.11.7", "torch": "2.13.0"},
        "data": {"train": "ea", "validation": "36"}, "rows": {"train": 14, "validation": 3},
        "parent": None, "parent_kind": "", "tags": ["a", "b"], "notes": "note", "final_metrics": {"bleu": 3.0},
        "test_metrics": {"bleu": math.inf}, "signature": "s", "test_signature": "t", "validation_fingerprint": "36",
        "best_step": 10, "steps": 20, "total_steps": None, "model_path": str(run.best_model), "wandb_run_id": None,
        "missing": False,
    }  # fmt: skip
    assert found.best_metrics["rouge_combined_f1"] == 0.5 and math.isnan(found.best_metrics["loss"])
    assert found.config["training"]["learning_rate"] > 0


def test_a_running_run(run: RunFolder):
    run.results.unlink()
    say(run, "running", 0)
    run.events.unlink()
    events(run, (0, "start", {}), (5, "new_best", {}))
    write_json(run.path / "progress.json", {"step": 23, "total": 99, "pid": os.getpid()})
    write_json(run.path / "lock.json", held_by(os.getpid()))
    found = read_record(run)
    assert (found.status, found.ended, found.steps, found.total_steps) == ("running", None, 23, 99)
    assert found.seconds == 11.0, "until the last row of metrics; the date of progress.json is one of a copy"
    assert found.best_metrics["rouge_combined_f1"] == 0.5 and found.signature == "s" and found.best_step == 10
    assert found.final_metrics["loss"] == 2.0 and math.isnan(found.final_metrics["bleu"])
    assert found.validation_fingerprint == "36"


def test_results_of_an_earlier_part_do_not_stand_for_a_run_that_goes_on(run: RunFolder):
    say(run, "running", 30)
    write_json(run.best_model / "metrics.json", {"step": 30, "signature": "s2", "metrics": {"rouge_combined_f1": 0.7}})
    found = read_record(run)
    assert (found.best_metrics, found.best_step, found.signature) == ({"rouge_combined_f1": 0.7}, 30, "s2")
    assert found.test_metrics == {} and found.final_metrics["loss"] == 2.0


# --- status ---


def test_a_run_whose_process_is_gone_is_lost(run: RunFolder):
    run.events.unlink()
    events(run, (0, "start", {}), (5, "new_best", {}))
    say(run, "running", 0, pid=dead())
    found = read_record(run)
    assert (found.status, found.seconds) == ("lost", 11.0)
    assert found.ended == datetime.fromtimestamp(BEGIN + 11, UTC)
    for elsewhere in ("another", None, 3):
        say(run, "running", 0, pid=dead(), host=elsewhere)
        assert read_record(run).status == "running", "nobody can tell"
    write_json(run.path / "lock.json", {"pid": dead(), "host": socket.gethostname(), "started": ""})
    assert read_record(run).status == "lost"


def test_a_run_that_ends_while_it_is_looked_at_is_not_lost(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    say(run, "running", 0, pid=dead())

    def gone(*_: Any) -> bool:
        say(run, "failed", 3, reason="why")
        return False

    monkeypatch.setattr("dlgsum.tracking.record.Holder.alive", gone)
    found = read_record(run)
    assert (found.status, found.reason) == ("failed", "why")


def test_another_process_under_the_number_of_a_dead_one_is_not_the_run(run: RunFolder):
    long_ago = 30 * 86400.0
    say(run, "running", time.time() - BEGIN - long_ago)
    assert read_record(run).status == "lost", "this process is younger than what it is said to have written"
    write_json(run.path / "lock.json", held_by(os.getpid(), ago=long_ago))
    assert read_record(run).status == "lost"
    with RunLock(run.path):
        write_json(run.path / "lock.json", held_by(os.getpid(), ago=long_ago))
        assert read_record(run).status == "running", "the lock is held: the clock was set"
    write_json(run.path / "lock.json", held_by(os.getpid()))
    assert read_record(run).status == "running"


def test_a_run_elsewhere_is_lost_when_nobody_holds_it_or_after_a_day_of_silence(run: RunFolder):
    say(run, "running", 0, host="gpu7", pid=1)
    for seconds, status in ((7200, "running"), (3 * 86400, "lost")):
        silent(run, seconds)
        assert read_record(run).status == status
    found = read_record(run)
    assert (found.reason, found.ended) == ("silent for 3 days on gpu7", datetime.fromtimestamp(BEGIN + 20, UTC))
    assert not (run.path / ".lock").exists()
    with RunLock(run.path):
        (run.path / "lock.json").unlink()
        silent(run, 3 * 86400)
        assert read_record(run).status == "running", "somebody holds it"
    for seconds, status in ((1800, "running"), (7200, "lost")):
        silent(run, seconds)
        assert read_record(run).status == status, "nobody holds it"
    assert read_record(run).reason == "silent for 2 h 0 min on gpu7"
    write_json(run.path / "progress.json", {"step": 3})
    assert (read_record(run).status, read_record(run).reason) == ("running", "")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "completed"), ("", "completed"), ('{"status": "weird"}', "completed"), ("[]", "completed"),
     ('{"status": "pruned", "time": "x", "started": {}}', "pruned")],
)  # fmt: skip
def test_a_status_that_is_no_status(run: RunFolder, content: str | None, expected: str):
    path = run.path / "status.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    found = read_record(run)
    assert found.status == expected
    assert found.started == datetime.fromtimestamp(BEGIN, UTC) and found.ended == datetime.fromtimestamp(
        BEGIN + 20, UTC
    )


def test_a_folder_without_any_status_counts_by_its_age(tmp_path: Path):
    path = tmp_path / "experiments" / "20261121_105402_4d8848c3"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("")
    found = read_record(RunFolder(path))
    assert found.status == "running"
    assert found.started == datetime(2026, 11, 21, 10, 54, 2).astimezone(UTC), "its name, in local time"
    os.utime(path, (0, 0))
    assert read_record(RunFolder(path)).status == "lost"


# --- times ---


def test_the_parts_of_a_run_add_up(run: RunFolder):
    run.events.unlink()
    events(
        run, (0, "start", {}), (7, "log", {"message": 'not "event": "end"'}), (100, "start", {}),
        (110, "end", {"status": "interrupted"}), (111, "log", {}), (200, "start", {}), (230, "end", {}),
    )  # fmt: skip
    with run.events.open("ab") as stream:
        stream.write(b'{"time": "torn')
    assert read_record(run).seconds == 7 + 10 + 30


def test_a_killed_part_lasted_until_its_last_sign_of_life(run: RunFolder):
    hour = 3600
    assert last_alive(run) == "", "it ended"
    run.events.unlink()
    run.metrics.unlink()
    events(run, (0, "start", {}), (5, "evaluation", {}))
    append_jsonl(run.metrics, {"step": 9, "time": BEGIN + 3 * hour, "metrics": {"train/loss": 1.0}})
    say(run, "running", 0, pid=dead())
    assert read_record(run).seconds == 3 * hour
    events(run, (40 * hour, "status", {"status": "failed"}))
    assert read_record(run).seconds == 3 * hour, "somebody said later how it had gone"
    before = last_alive(run)
    run.metrics.write_text("")  # as it goes on from a checkpoint
    events(run, (50 * hour - 1, "log", {}), (50 * hour, "start", {"last_alive": before}), (51 * hour, "end", {}))
    assert read_record(run).seconds == 4 * hour


def test_a_clock_that_was_set_back_takes_nothing_away(run: RunFolder):
    run.events.unlink()
    events(run, (100, "start", {}), (50, "end", {}), (60, "start", {}), (70, "end", {}))
    assert read_record(run).seconds == 10


def test_the_last_sign_of_life_is_that_of_progress(run: RunFolder):
    run.metrics.unlink()
    run.events.unlink()
    events(run, (0, "start", {}))
    say(run, "running", 0, pid=dead())
    os.utime(run.path / "status.json", (BEGIN, BEGIN))
    write_json(run.path / "progress.json", {"step": 3})
    os.utime(run.path / "progress.json", (BEGIN + 9, BEGIN + 9))
    assert read_record(run).seconds == 9
    os.utime(run.path / "status.json")  # as in a copy
    assert read_record(run).seconds == 0


# --- configuration ---


def test_the_hash_is_that_of_what_is_learned(run: RunFolder):
    config = read_record(run).config

    def changed(section: str, key: str, value: Any) -> str:
        return config_hash({**config, section: {**config[section], key: value}})

    plain = config_hash(config)
    assert len(plain) == 64 and plain == read_record(run).config_hash
    for section, key in (
        ("meta", "experiment_name"), ("general", "output_dir"), ("tracking", "tags"), ("wandb", "project"),
        ("monitoring", "samples"),
    ):  # fmt: skip
        assert changed(section, key, "another") == plain
    others = [("general", "seed", 1), ("training", "learning_rate", 1e-3), ("data", "max_train_samples", 3)]
    assert len({plain, *(changed(*other) for other in others)}) == 4
    assert config_hash(dict(reversed(config.items()))) == plain
    assert config_hash({}) == "" != config_hash({"general": 3})


def test_secrets_of_a_foreign_configuration_are_hidden(run: RunFolder):
    run.write_config(
        "tracking: {store: 'postgresql://u:geheim@h/n', tags: [x, 3]}\nmonitoring: {alerts: {urls: [geheim]}}"
    )
    found = read_record(run)
    assert "geheim" not in repr(found) and found.tags == ["x"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\0", b"- a\n- b", b"a: [", b"a: !!python/object:os.system {}", b"x" * 2_000_000, b"meta: 3",
     b"meta: {experiment_name: [3]}\ngeneral: {seed: x}\ntracking: {tags: 3, notes: 4}\nwandb: []", b"a: &a [*a]",
     b"1: {2: 2024-01-01}\n? [a]\n: b", b"a: &a [x,x]\nb: &b [" + b"*a," * 500 + b"]\nc: &c [" + b"*b," * 500 + b"]"],
)  # fmt: skip
def test_no_configuration_is_too_foreign(run: RunFolder, content: bytes):
    run.config.write_bytes(content)
    found = read_record(run)
    assert isinstance(found.config, dict) and found.seed is None and found.name == "" and found.tags == []
    assert json.dumps(found.config)
    assert found.best_step == 10


def test_annotations_go_before_the_configuration(run: RunFolder):
    run.annotate(tags=[])
    assert (read_record(run).tags, read_record(run).notes) == ([], "note")
    run.annotate(notes="later", tags=["c"])
    assert (read_record(run).tags, read_record(run).notes) == (["c"], "later")
    write_json(run.path / "annotations.json", {"tags": "x", "notes": 3})
    assert (read_record(run).tags, read_record(run).notes) == (["a", "b"], "note")


def test_parents_and_mirrors(run: RunFolder):
    run.write_parent(Parent("sweep", "lr"))
    found = read_record(run)
    assert (found.parent, found.parent_kind, found.wandb_run_id) == ("lr", "sweep", None)
    run.write_config("wandb: {mode: offline}")
    assert read_record(run).wandb_run_id == run.id
    write_json(run.path / "wandb.json", {"run_id": "w"})
    assert read_record(run).wandb_run_id == "w"


# --- damage ---

FILES = (
    "config.yaml", "environment.json", "data.json", "status.json", "parent.json", "annotations.json", "progress.json",
    "lock.json", "events.jsonl", "metrics.jsonl", "training_results.json", "models/best_model/metrics.json",
    "wandb.json",
)  # fmt: skip
DAMAGES = (
    None, b"", b"{", b"[]", b"null", b"\xff" * 100, b"[" * 100_000, b"- " * 100_000,
    b'{"status": {}, "pid": [], "time": "2026", "step": 1e400}',
    b'{"splits": [3, {"name": 3}, {"name": "train", "rows": 1e3}], "git": [], "packages": 3, "metrics": []}\n',
    b'{"started": 1e300, "time": -1e300, "status": "completed", "metrics": {"eval/a": "x", "eval/b": true}}\n',
    b'{"event": "start", "time": 1e300}\n{"event": "end"}\n{"event": "start", "time": null}\n{"event": "end"}',
    b'{"splits": {}, "best_metrics": [], "best_step": 1180591620717411303424, "id": 3, "pid": 99999999999999999999}',
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_no_damage_stops_the_reading(run: RunFolder, name: str):
    for damage in DAMAGES:
        (run.path / name).unlink(missing_ok=True)
        if damage is not None:
            (run.path / name).write_bytes(damage)
        assert isinstance(read_record(run), ExperimentRecord)
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).mkdir()
    assert isinstance(read_record(run), ExperimentRecord)


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_of_all_files_stops_the_reading(run: RunFolder, damage: bytes | None):
    for name in FILES:
        (run.path / name).unlink(missing_ok=True)
        if damage is not None:
            (run.path / name).write_bytes(damage)
    assert read_record(run).id == run.id


def test_a_folder_that_is_not_there(tmp_path: Path):
    found = read_record(RunFolder(tmp_path / "x"))
    assert (found.id, found.output_dir, found.model_path, found.status) == ("x", "", None, "lost")
    assert read_record(RunFolder(Path("/proc/1/nothing"))).id == "nothing"


def test_a_copied_folder_tells_of_its_new_place(run: RunFolder, tmp_path: Path):
    shutil.copytree(run.path, tmp_path / "copy")
    found, copy = read_record(run), read_record(RunFolder(tmp_path / "copy"))
    assert (copy.id, copy.output_dir, copy.folder) == ("copy", "", str(tmp_path / "copy"))
    assert copy.model_path == str(tmp_path / "copy" / "models" / "best_model")
    assert (copy.started, copy.seconds, copy.config_hash) == (found.started, found.seconds, found.config_hash)


def test_many_events_are_passed_over(run: RunFolder):
    row = json.dumps({"time": stamp(15), "event": "log", "message": "x" * 100}) + "\n"
    text = run.events.read_text().splitlines(keepends=True)
    run.events.write_text("".join([text[0], *[row] * 20_000, "x" * 3_000_000 + "\n", *text[1:]]))
    assert read_record(run).seconds == 20


def test_a_configuration_that_is_a_pipe_or_missing(tmp_path: Path):
    assert read_config(tmp_path / "none.yaml") == {} == read_config(tmp_path)
