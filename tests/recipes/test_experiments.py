"""Ten run folders of every kind are listed, shown, tagged and indexed; the folders stay the truth."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from dlgsum.config.request import Request
from dlgsum.config.schema import Config, General
from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.core.files import append_jsonl, read_json, read_jsonl, write_json
from dlgsum.recipes import resume
from dlgsum.recipes.experiments import (
    find_experiment,
    list_experiments,
    rebuild_index,
)
from dlgsum.recipes.experiments_edit import set_notes, set_tags
from dlgsum.recipes.experiments_show import show
from dlgsum.recipes.named import model_folder_named, run_named
from dlgsum.recipes.observers import observers_of
from dlgsum.recipes.processes import ALONE
from dlgsum.recipes.recorded import Job
from dlgsum.recipes.result import TrainingResult
from dlgsum.recipes.stored import Place, find_place
from dlgsum.tracking.registry import ModelRegistry
from dlgsum.tracking.run import RunFolder
from tests.recipes.made_up_runs import BEGAN, OTHER_SIGNATURE, gone_pid, make_run, make_ten


def at(outputs: Path) -> Place:
    return Place(outputs)


@pytest.fixture
def ten(tmp_path: Path) -> tuple[Place, dict[str, RunFolder]]:
    outputs = tmp_path / "결과"
    return at(outputs), make_ten(outputs)


def ids(runs: dict[str, RunFolder], *names: str) -> list[str]:
    return [runs[name].id for name in names]


def test_every_kind_of_folder_is_listed_and_what_is_none_is_not(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    listing = list_experiments(place)
    status = {record.id: record.status for record in listing.answer.records}
    assert set(status) == {run.id for run in runs.values()} and listing.total == 10
    expected = {"low": "completed", "failed": "failed", "interrupted": "interrupted", "killed": "lost",
                "running": "running"}  # fmt: skip
    assert {name: status[runs[name].id] for name in expected} == expected
    assert [it.name for it in listing.answer.columns] == [
        "id", "name", "status", "started", "seconds", "rouge_combined_f1", "test.rouge_combined_f1", "steps", "tags",
    ]  # fmt: skip


def test_filters_sort_and_warn_of_scales(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    by_score = list_experiments(place, ["rouge_combined_f1>0.22", "status=completed"], sort="-rouge_combined_f1")
    assert [it.id for it in by_score.answer.records] == ids(runs, "high", "other scale", "middle")
    assert set(by_score.answer.scales["validation"].letters.values()) == {"A", "B"}
    assert any("NaN" in note for note in by_score.answer.notes)
    rate = list_experiments(place, ["training.learning_rate>=2e-5"])
    assert [it.id for it in rate.answer.records] == ids(runs, "middle")
    assert rate.answer.columns[-1].name == "training.learning_rate", "what is asked for is shown"


def test_a_folder_that_goes_is_noticed_kept_and_dropped_by_reindex(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    gone = runs["high"]
    list_experiments(place)
    shutil.rmtree(gone.path)
    listing = list_experiments(place)
    assert any(gone.id in note for note in listing.notes) and listing.missing == {gone.id}
    assert [it.id for it in list_experiments(place, ["missing=true"]).answer.records] == [gone.id]
    details = show(gone.id[:14], place)
    assert details.found.run is None and "not here" in details.notes[0] and details.scores[0].best == 0.4
    assert not details.commands and not details.files
    with pytest.raises(UsageError, match="not here"):
        set_tags(gone.id, place, ["x"], [])
    rebuilt = rebuild_index(place)
    assert rebuilt.dropped == [gone.id] and len(list_experiments(place).answer.records) == 9


def test_the_index_can_be_lost_or_damaged(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    set_tags(runs["low"].id, place, ["keep"], [])
    before = list_experiments(place).answer.records
    database = runs["low"].path.parent.parent / "dlgsum.db"
    for path in database.parent.glob("dlgsum.db*"):
        path.unlink()
    assert list(map(repr, list_experiments(place).answer.records)) == list(map(repr, before)), "NaN is not itself"
    for path in database.parent.glob("dlgsum.db*"):
        path.unlink()
    database.write_bytes(b"no database at all" * 500)
    with pytest.raises(EnvironmentProblem):
        list_experiments(place)
    seen: list[tuple[int, int]] = []
    rebuilt = rebuild_index(place, progress=lambda done, total: seen.append((done, total)))
    assert sorted(rebuilt.added) == sorted(run.id for run in runs.values()) and seen[-1] == (10, 10)
    assert list(map(repr, list_experiments(place).answer.records)) == list(map(repr, before)), "NaN is not itself"


def test_nothing_is_made_where_there_is_nothing(tmp_path: Path):
    listing = list_experiments(at(tmp_path / "none"), ["anything>3"])
    assert listing.total == 0 and listing.answer.records == [] and not (tmp_path / "none").exists()


def test_a_run_is_found_by_what_people_call_it(ten: tuple[Place, dict[str, RunFolder]], tmp_path: Path):
    place, runs = ten
    for name in (runs["failed"].id, "20261121_05", "005bee", str(runs["failed"].path)):
        assert find_experiment(name, place).record.id == runs["failed"].id, name
    assert find_experiment("latest", place).record.id == runs["damaged"].id, "whatever it has"
    with pytest.raises(UsageError, match="fits 10 runs"):
        find_experiment("2026", place)
    with pytest.raises(UsageError, match="no run 'nosuch'"):
        find_experiment("nosuch", place)
    elsewhere = make_run(tmp_path / "elsewhere", 1, score=0.2)
    assert find_experiment(str(elsewhere.path), place).record.id == elsewhere.id


def test_tags_are_added_removed_and_found_again(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    found, absent = set_tags(runs["running"].id, place, ["새로운", "b", "b"], ["never"])
    assert found.record.tags == ["새로운", "b"] and absent == ["never"]
    found, absent = set_tags(runs["middle"].id, place, ["c"], ["baseline"])
    assert found.record.tags == ["c"] and absent == [], "the configuration's tags can be taken away as well"
    assert read_json(runs["middle"].path / "annotations.json")["tags"] == ["c"]
    assert [it.id for it in list_experiments(place, ["tag=c"]).answer.records] == ids(runs, "middle")
    for wrong in ("two words", "a,b", "", "a\tb", "a\x1b"):
        with pytest.raises(UsageError, match="cannot be a tag"):
            set_tags(runs["low"].id, place, [wrong], [])
    with pytest.raises(UsageError, match="both"):
        set_tags(runs["low"].id, place, ["a"], ["a"])


def test_tags_given_at_once_are_all_kept(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda tag: set_tags(runs["low"].id, place, [tag], []), "abcdefgh"))
    assert sorted(find_experiment(runs["low"].id, place).record.tags) == list("abcdefgh")


def test_notes_replace_and_append_and_leave_tags_alone(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    name = runs["middle"].id
    assert set_notes(name, place, "첫 줄", append=True).record.notes == "첫 줄"
    assert set_notes(name, place, "둘째 줄", append=True).record.notes == "첫 줄\n둘째 줄"
    assert set_notes(name, place, "").record.notes == ""
    assert find_experiment(name, place).record.tags == ["baseline"]


def test_a_tag_is_kept_although_the_index_cannot_be_reached(
    ten: tuple[Place, dict[str, RunFolder]], caplog: pytest.LogCaptureFixture
):
    place, runs = ten
    nobody = Place(place.output_dir, "postgresql://nobody:secret@127.0.0.1:9/none")
    found, _ = set_tags(runs["low"].id, nobody, ["kept"], [])
    assert found.record.tags == ["kept"] and "later" in caplog.text
    assert "secret" not in caplog.text
    assert "not known" in show(runs["low"].id, nobody).notes[0], "of its models"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    runs["low"].path.chmod(0o500)
    try:
        with pytest.raises(EnvironmentProblem, match="cannot be written"):
            set_tags(runs["low"].id, place, ["x"], [])
    finally:
        runs["low"].path.chmod(0o700)


def test_show_gathers_what_there_is(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    run = runs["low"]
    append_jsonl(run.alerts, {"severity": "warning", "kind": "loss_spike", "title": "t"})
    append_jsonl(run.alerts, {"row": "answer"})
    append_jsonl(run.metrics, {"step": 2, "metrics": {"train/runtime": 3.0, "train/loss": 99.0}})
    details = show("000bee", place)
    main = details.scores[0]
    assert (main.name, main.best, main.baseline) == ("rouge_combined_f1", 0.2, 0.1)
    assert main.test == pytest.approx(0.15) and main.test_baseline is None
    curves = {it.name: it for it in details.curves}
    assert curves["train/loss"].points == [3.0, 2.0] and curves["train/loss"].steps == (1, 2)
    assert curves["eval/rouge_combined_f1"].last == 0.2
    assert {it.key: (it.value, it.default) for it in details.changes}["training.learning_rate"] == (1e-5, 5e-5)
    assert [(it.which, it.id, it.score) for it in details.samples] == [("best", "dev_0", 0.9), ("worst", "dev_1", 0.0)]
    assert {it.name: it.count for it in details.files}["models/best_model/"] == 2
    assert details.alerts == {"warning": 1}
    assert details.commands[0].startswith("dlgsum predict ") and "rerun" in details.commands[-1]


def test_what_can_be_done_next_depends_on_how_a_run_ended(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    assert all("resume" not in line for line in show(runs["killed"].id, place).commands), "nothing was saved yet"
    (runs["killed"].checkpoints / "checkpoint-2").mkdir()
    assert show(runs["killed"].id, place).commands[0].startswith("dlgsum resume ")
    write_json(runs["running"].path / "status.json", {"status": "running", "pid": os.getpid()})
    assert find_experiment(runs["damaged"].id, place).record.status in ("completed", "running", "lost")


def test_nothing_that_is_torn_or_huge_stops_show(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    run = runs["low"]
    for value in (1e308, 1e308, "Infinity", "NaN", True, None, "3"):
        append_jsonl(run.metrics, {"step": 3, "metrics": {"train/loss": value}})
    for step in (None, "4", 5):
        append_jsonl(run.metrics, {"step": step, "metrics": []})
    (run.predictions / "eval-step-2.jsonl").write_bytes(b'{"fname": "a", "rouge_combined_f1": {}}\n{"fn\xff')
    (run.path / "data.json").write_text("{")
    assert show(run.id, place).samples == []
    assert show(runs["damaged"].id, place).found.record.id == runs["damaged"].id


def test_long_curves_are_means_and_nan_is_seen(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    run = runs["killed"]
    run.metrics.unlink()
    for step in range(64):
        append_jsonl(run.metrics, {"step": step, "metrics": {"train/loss": "NaN" if step == 63 else float(step)}})
    (curve,) = show(run.id, place).curves
    assert len(curve.points) == 32 and curve.points[:2] == [0.5, 2.5] and curve.points[-1] != curve.points[-1]


def test_samples_of_another_step_are_said_to_be(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    run = runs["low"]
    (run.predictions / "eval-step-2.jsonl").rename(run.predictions / "eval-step-1.jsonl")
    details = show(run.id, place)
    assert details.samples[0].step == 1 and any("step 1" in note for note in details.notes)


def test_dialogues_come_from_the_rows_that_were_scored(tmp_path: Path):
    from dlgsum.data.sources import load_file

    run = make_run(tmp_path, 1, score=0.3)
    file = tmp_path / "dev.csv"
    file.write_text("fname,dialogue,summary,topic\ndev_0,#Person1#: 안녕,인사,t\ndev_1,#Person1#: 네,대답,t\n")
    from dlgsum.config.compose import compose

    rows = load_file(file, compose(Request(environ={})).config.data, name="validation", need_summary=True)
    split = {"name": "validation", "source": str(file), "rows": 2, "fingerprint": rows.fingerprint}
    write_json(run.path / "data.json", {"splits": [split]})
    assert [it.dialogue for it in show(run.id, at(tmp_path)).samples] == ["#Person1#: 안녕", "#Person1#: 네"]
    file.write_text(file.read_text().replace("안녕", "다른 대화"))
    assert [it.dialogue for it in show(run.id, at(tmp_path)).samples] == [None, None], "the file has changed since"


def test_registered_models_come_with_the_aliases_that_mean_them_now(ten: tuple[Place, dict[str, RunFolder]]):
    place, runs = ten
    run, registry = runs["low"], ModelRegistry(place.output_dir)
    for run_id in (run.id, run.id, runs["high"].id):
        registry.register_model("kobart", "kobart", "", {}, {}, {}, run.best_model, experiment_id=run_id)
    for model, alias in (("kobart-v1", "champion"), ("kobart-v2", "champion"), ("kobart-v1", "old")):
        registry.promote(model, alias)
    registry.demote("old")
    expected = {"kobart-v1": [], "kobart-v2": ["champion"]}
    assert show(run.id, place).models == expected
    registry.shared.close()
    for path in place.output_dir.glob("dlgsum.db*"):
        path.unlink()
    assert show(run.id, place).models == expected, "the files tell, without any database"
    nobody = Place(place.output_dir, "postgresql://nobody:secret@127.0.0.1:9/none")
    assert show(run.id, nobody).models == expected


def test_a_shared_database_leads_to_the_runs_of_another_output_folder(tmp_path: Path):
    store = f"sqlite:///{tmp_path}/shared.db"
    there, here = Place(tmp_path / "there", store), Place(tmp_path / "here", store)
    run = make_run(there.output_dir, 1, score=0.3)
    write_json(run.best_model / "config.json", {})
    make_run(here.output_dir, 2, score=0.2)
    list_experiments(there)
    for name in (run.id, "001bee"):
        assert run_named(name, here).path == run.path
        assert model_folder_named(name, here) == (run.best_model, run.id)
        found = find_experiment(name, here)
        assert found.run is not None and found.run.path == run.path
    assert show(run.id, here).commands, "its folder is here"
    set_tags(run.id, here, ["elsewhere"], [])
    assert [it.id for it in list_experiments(here, ["tag=elsewhere"]).answer.records] == [run.id]
    empty = Place(tmp_path / "empty", store)
    assert find_experiment("latest", empty).record.id.endswith("002beef0")
    with pytest.raises(UsageError, match="no run"):
        run_named(run.id, Place(here.output_dir))
    shutil.rmtree(run.path)
    with pytest.raises(UsageError, match="no run"):
        run_named(run.id, here)
    with pytest.raises(UsageError, match="no run"):
        run_named("nosuch", Place(here.output_dir, "postgresql://nobody:secret@127.0.0.1:9/none"))


def test_a_run_goes_on_in_the_database_that_is_asked_for_now(tmp_path: Path):
    run = make_run(tmp_path, 1, status="interrupted", config={"model": {"checkpoint": "mini"}})
    (run.checkpoints / "checkpoint-2").mkdir()
    (run.checkpoints / "checkpoint-2" / "dlgsum.yaml").write_bytes(run.config.read_bytes())
    for environ in ({}, {"DLGSUM_STORE": "sqlite:///now.db"}):
        found = resume.find(str(run.path), Request(environ=environ))
        assert isinstance(found, resume.Resumable)
        assert found.settled.config.tracking.store == environ.get("DLGSUM_STORE")


def test_a_start_says_how_long_the_killed_part_before_lived(tmp_path: Path):
    run = make_run(tmp_path, 7, status="running", pid=gone_pid())
    began = BEGAN + 7 * 3600
    append_jsonl(run.metrics, {"step": 3, "time": began + 3600, "metrics": {"train/loss": 1.0}})
    config = Config(general=General(output_dir=str(tmp_path)))
    observers = observers_of(config, run, lambda alert: None, first=True)

    def work() -> TrainingResult:
        run.metrics.write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Job(run, ALONE, config, {}, observers, lambda: None).do(work)
    starts = [row for row in read_jsonl(run.events) if row["event"] == "start"]
    assert datetime.fromisoformat(starts[1]["last_alive"]).timestamp() == began + 3600
    assert 3600 <= (find_experiment(run.id, at(tmp_path)).record.seconds or 0) < 3700


def test_an_index_is_not_made_of_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(UsageError, match="There is no folder"):
        rebuild_index(at(tmp_path / "mistyped"))
    assert not (tmp_path / "mistyped").exists()


def test_notes_and_tags_hold_no_secrets(tmp_path: Path):
    run = make_run(tmp_path, 1, score=0.2)
    set_notes(run.id, at(tmp_path), "with token=s3cr3t")
    set_tags(run.id, at(tmp_path), ["password=s3cr3t"], [])
    assert "s3cr3t" not in (run.path / "annotations.json").read_text()
    assert find_experiment(run.id, at(tmp_path)).record.notes == "with token=***"


def test_best_refuses_to_compare_scales(ten: tuple[Place, dict[str, RunFolder]], tmp_path: Path):
    place, _ = ten
    with pytest.raises(UsageError, match="2 different ways"):
        find_experiment("best", place)
    make_run(tmp_path / "one", 1, score=0.2, signature=OTHER_SIGNATURE)
    best = make_run(tmp_path / "one", 2, score=0.3, signature=OTHER_SIGNATURE)
    assert find_experiment("best", at(tmp_path / "one")).record.id == best.id


def test_of_the_environment_only_what_says_where_plays_a_part(tmp_path: Path):
    environ = {"LEARNING_RATE": "nonsense", "OUTPUT_DIR": str(tmp_path), "DLGSUM_STORE": "sqlite:///here.db"}
    assert find_place(Request(environ=environ)) == Place(tmp_path, "sqlite:///here.db")
