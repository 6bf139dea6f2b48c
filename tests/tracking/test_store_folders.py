"""The index follows the run folders: it is rebuilt from them, and no bad folder stops it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dlgsum.core.files import write_json
from dlgsum.tracking.record import ExperimentRecord
from dlgsum.tracking.run import Parent, RunFolder
from dlgsum.tracking.store import folders, rows
from dlgsum.tracking.store.folders import Synced
from dlgsum.tracking.store.store import Store
from tests.tracking.postgres import postgres_url

__all__ = ["postgres_url"]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def store(outputs: Path) -> Iterator[Store]:
    opened = Store.open(None, outputs)
    yield opened
    opened.close()


def make(outputs: Path, *, status: str = "completed", name: str = "a") -> RunFolder:
    run = RunFolder.create(outputs)
    run.write_config(f"meta: {{experiment_name: {name}}}\n")
    run.status(status)  # type: ignore[arg-type]
    (run.best_model).mkdir()
    return run


def later(path: Path) -> None:
    """Let a file be newer than whatever is there."""
    newest = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(newest, newest))


def test_a_deleted_database_is_rebuilt_by_the_next_look(outputs: Path, store: Store):
    runs = [make(outputs), make(outputs)]
    assert store.sync() == Synced(added=[run.id for run in runs])
    before = store.records()
    assert [record.id for record in before] == [run.id for run in runs] and before[0].name == "a"
    store.close()
    for path in outputs.glob("dlgsum.db*"):
        path.unlink()
    again = Store.open(None, outputs)
    assert again.sync().added == [run.id for run in runs] and again.records() == before
    again.close()


@pytest.mark.parametrize("file", ["status", "results", "annotations", "parent", "config", "best"])
def test_what_changed_is_read_again_and_nothing_else(
    outputs: Path, store: Store, file: str, monkeypatch: pytest.MonkeyPatch
):
    run, other = make(outputs), make(outputs)
    store.sync()
    read: list[str] = []
    reader = folders.read_record
    monkeypatch.setattr(folders, "read_record", lambda run: read.append(run.id) or reader(run))
    assert store.sync() == Synced() and read == []
    if file == "status":
        run.status("failed", reason="disk")
    elif file == "results":
        write_json(run.results, {"best_metrics": {"loss": 1.0}})
    elif file == "annotations":
        run.annotate(tags=["x"])
    elif file == "parent":
        run.write_parent(Parent("rerun", other.id))
    elif file == "config":
        run.write_config("meta: {experiment_name: b}\n")
    else:
        write_json(run.best_model / "metrics.json", {"metrics": {"loss": 1.0}})
    assert store.sync() == Synced(updated=[run.id]) and read == [run.id]
    found = store.get(run.id)
    assert found is not None and found != store.get(other.id)


def test_a_run_that_runs_is_read_each_time(outputs: Path, store: Store):
    run = make(outputs, status="running")
    store.sync()
    write_json(run.path / "progress.json", {"step": 7, "total": 9})
    assert store.sync().updated == [run.id]
    found = store.get(run.id)
    assert found is not None and (found.steps, found.total_steps, found.status) == (7, 9, "running")


def test_a_run_that_only_fell_silent_is_found_running_again(outputs: Path, store: Store):
    run = make(outputs, status="running")
    write_json(run.path / "status.json", {"status": "running", "pid": 1, "host": "another"})
    os.utime(run.path / "status.json", (0, 0))
    store.sync()
    found = store.get(run.id)
    assert found is not None and found.status == "lost" and "silent" in found.reason
    write_json(run.path / "progress.json", {"step": 7})
    assert store.sync().updated == [run.id]
    found = store.get(run.id)
    assert found is not None and (found.status, found.reason) == ("running", "")


def test_a_folder_that_is_gone_is_marked_and_found_again(outputs: Path, store: Store, tmp_path: Path):
    run, other = make(outputs), make(outputs)
    store.sync()
    shutil.move(run.path, tmp_path / "aside")
    assert store.sync() == Synced(missing=[run.id]) and store.sync() == Synced()
    assert [record.missing for record in store.records()] == [True, False]
    shutil.move(tmp_path / "aside", run.path)
    assert store.sync() == Synced(updated=[run.id])
    found = store.get(run.id)
    assert found is not None and not found.missing
    shutil.rmtree(run.path)
    assert store.reindex() == Synced(updated=[other.id], missing=[run.id])
    assert [record.id for record in store.records()] == [other.id]


def test_rows_of_others_are_not_touched(outputs: Path, store: Store, monkeypatch: pytest.MonkeyPatch):
    there = {"output_dir": "/elsewhere", "folder": "/elsewhere/experiments/other", "status": "running"}
    elsewhere = ExperimentRecord(id="other", **there)  # type: ignore[arg-type]
    store.put(elsewhere)
    mine = ExperimentRecord(id="on-another", folder=str(outputs / "experiments/on-another"), output_dir=str(outputs))
    monkeypatch.setattr(rows.socket, "gethostname", lambda: "another")
    store.put(mine)
    monkeypatch.undo()
    make(outputs)
    for change in (store.sync, store.reindex):
        assert change().missing == []
        assert store.get("other") == elsewhere and store.get("on-another") == mine


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_outputs_that_were_moved_are_found(
    kind: str, outputs: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    url = None if kind == "sqlite" else str(request.getfixturevalue("postgres_url"))
    store, run = Store.open(url, outputs), make(outputs)
    store.sync()
    store.close()
    moved = tmp_path / "moved"
    shutil.move(outputs, moved)
    store = Store.open(url, moved)
    found = store.get(run.id)
    assert found is not None and found.folder == str(moved / "experiments" / run.id), "before any sync"
    assert found.model_path == f"{found.folder}/models/best_model" and found.output_dir == str(moved)
    assert store.records() == [found]
    assert store.sync() == Synced()  # not read again: it is the same folder
    with store.session(write=False) as session:
        assert rows.records(session) == [found]
    shutil.rmtree(moved / "experiments" / run.id)
    assert store.sync().missing == [run.id]
    store.close()


def test_an_older_copy_does_not_replace_what_is_known(outputs: Path, tmp_path: Path, postgres_url: str):
    run = make(outputs, status="running")
    shutil.copytree(run.path, tmp_path / "copy" / "experiments" / run.id)  # with its dates
    run.status("completed")
    later(run.path / "status.json")
    first, second = Store.open(postgres_url, outputs), Store.open(postgres_url, tmp_path / "copy")
    first.sync()
    assert second.sync() == Synced()
    found, copy = first.get(run.id), second.get(run.id)
    assert found is not None and found.status == "completed" and found.folder == str(run.path)
    assert copy is not None and copy.status == "completed" and copy.folder.startswith(str(tmp_path / "copy"))
    shutil.rmtree(tmp_path / "copy")
    assert second.sync() == Synced() and first.sync() == Synced()
    first.close()
    second.close()


def test_no_bad_folder_stops_it(outputs: Path, store: Store, monkeypatch: pytest.MonkeyPatch):
    good, bad, odd = make(outputs), make(outputs), make(outputs)
    (outputs / "experiments" / "empty").mkdir()
    (outputs / "experiments" / "file").write_text("x")
    (outputs / "experiments" / ".hidden.tmp").mkdir()
    (outputs / "experiments" / ".hidden.tmp" / "config.yaml").write_text("")
    (outputs / "experiments" / "loop").symlink_to(outputs / "experiments" / "loop")
    (outputs / "experiments" / "odd\udcff").mkdir()
    (outputs / "experiments" / "odd\udcff" / "config.yaml").write_bytes(b"\xff\0: [")
    # Deeper than Python's own recursion goes, but not json's.
    (odd.path / "environment.json").write_text('{"gpus": ' + "[" * 800 + "]" * 800 + ', "host": "a\\u0000b"}')
    reader = folders.read_record

    def read(run: RunFolder) -> ExperimentRecord:
        if run.id == bad.id:
            raise ZeroDivisionError("token=s3cr3t")
        return reader(run)

    monkeypatch.setattr(folders, "read_record", read)
    done = store.sync()
    assert good.id in done.added and bad.id not in done.added and len(done.added) >= 2
    assert any(bad.id in note and "s3cr3t" not in note for note in done.notes)
    assert store.get(good.id) is not None
    assert {record.id for record in store.records()} == set(done.added)
    assert odd.id in done.added or any(odd.id in note for note in done.notes)


def test_a_row_that_the_database_refuses_is_a_note(outputs: Path, store: Store, monkeypatch: pytest.MonkeyPatch):
    good, bad = make(outputs), make(outputs)
    reader = folders.read_record
    impossible = {"seed": 2**70}
    monkeypatch.setattr(
        folders, "read_record", lambda run: replace(reader(run), **(impossible if run.id == bad.id else {}))
    )
    done = store.sync()
    assert done.added == [good.id] and len(done.notes) == 1 and bad.id in done.notes[0]


def test_progress_is_told(outputs: Path, store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folders, "_BATCH", 2)
    runs = [make(outputs) for _ in range(5)]
    told: list[tuple[int, int]] = []
    assert len(store.reindex(lambda *at: told.append(at)).added) == 5
    assert told == [(number, 5) for number in range(1, 6)]
    assert [record.id for record in store.records()] == [run.id for run in runs]


def test_one_row_is_brought_up_to_date(outputs: Path, store: Store):
    run = make(outputs)
    assert store.update(run) == store.get(run.id)
    assert store.sync() == Synced()
    run.annotate(notes="word")
    assert store.update(run).notes == "word" and store.sync() == Synced()
    store.remove(run.id)
    assert store.sync() == Synced(added=[run.id])


def test_links_to_the_outputs_are_the_same_outputs(outputs: Path, store: Store, tmp_path: Path):
    run = make(outputs)
    store.sync()
    (tmp_path / "link").symlink_to(outputs)
    linked = Store.open(None, tmp_path / "link")
    assert linked.sync() == Synced()
    shutil.rmtree(run.path)
    assert linked.sync().missing == [run.id]
    linked.close()
