"""Experiments of one's own code: recorded like every run, and found by the same commands."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlgsum.core.errors import UsageError
from dlgsum.core.files import read_json, read_jsonl
from dlgsum.tracking import experiment_tracker
from dlgsum.tracking.experiment_tracker import ExperimentTracker
from dlgsum.tracking.lock import RunLock
from dlgsum.tracking.run import Parent, RunFolder, find_run


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    yield
    for experiment in experiment_tracker._open.values():
        experiment._lock.__exit__(None, None, None)
    experiment_tracker._open.clear()


@pytest.fixture
def tracker(tmp_path: Path) -> ExperimentTracker:
    return ExperimentTracker(output_dir=tmp_path)


def folder(tracker: ExperimentTracker, experiment_id: str) -> RunFolder:
    return find_run(experiment_id, tracker.output_dir)


def logged(run: RunFolder) -> list[tuple[int, dict[str, Any]]]:
    return [(row["step"], row["metrics"]) for row in read_jsonl(run.metrics)]


# --- as documented ---


def test_an_experiment_from_start_to_end(tracker: ExperimentTracker):
    config = {"model": {"architecture": "kobart"}, "training": {"learning_rate": 5e-5}}
    experiment_id = tracker.start_experiment(
        name="bart_base_experiment",
        description="KoBART 기본 실험",
        config=config,
        model_type="kobart",
        dataset_info={"train_size": 1000, "val_size": 200},
        wandb_run_id="wandb_run_123",
    )
    tracker.update_experiment_status(experiment_id, "in_progress", "학습 진행 중")
    assert tracker.get_experiment(experiment_id)["status"] == "running"
    assert tracker.get_experiment(experiment_id)["notes"] == "학습 진행 중"
    tracker.log_metrics({"learning_rate": 5e-5, "batch_size": 16, "custom_metric": 0.85}, step=100)
    tracker.end_experiment(
        experiment_id=experiment_id,
        final_metrics={"loss": 1.23},
        best_metrics={"rouge_combined_f1": 0.47},
        status="completed",
        model_path="/models/best_model",
        notes="실험 완료, 좋은 성능",
    )
    found = tracker.get_experiment(experiment_id)
    started, ended = (datetime.fromisoformat(found[name]) for name in ("start_time", "end_time"))
    assert started.tzinfo is not None and ended >= started and found["end_time"].endswith("Z")
    assert found["config"]["training"] == {"learning_rate": 5e-5} and found["config"]["model"] == config["model"]
    expected = {
        "experiment_id": experiment_id, "name": "bart_base_experiment", "description": "KoBART 기본 실험",
        "status": "completed", "metrics": {"best_rouge_combined_f1": 0.47, "final_loss": 1.23},
        "model_info": {"model_id": None, "checkpoint_path": "/models/best_model"}, "wandb_run_id": "wandb_run_123",
        "notes": "실험 완료, 좋은 성능", "dataset_info": {"train_size": 1000, "val_size": 200},
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    json.dumps(found)
    run = folder(tracker, experiment_id)
    assert logged(run) == [(100, {"learning_rate": 5e-5, "batch_size": 16, "custom_metric": 0.85})]
    events = [(row["event"], row.get("status")) for row in read_jsonl(run.events)]
    assert events == [("start", None), ("status", "running"), ("end", "completed")]
    assert not (run.path / "lock.json").exists(), "the folder was let go"
    with RunLock(run.path):
        pass


def test_beside_a_trainer_its_configuration_is_kept(tracker: ExperimentTracker):
    from dlgsum import create_trainer

    trainer = create_trainer({"model": "kobart_mini", "data": "sample", "tracking": {"tags": ["baseline"]}})
    experiment_id = tracker.start_experiment(name="kobart_optimized_v1", config=trainer.config, model_type="kobart")
    found = tracker.get_experiment(experiment_id)
    assert found["name"] == "kobart_optimized_v1" and found["tags"] == ["baseline"]
    assert found["config"]["training"]["learning_rate"] == trainer.config.training.learning_rate
    assert found["config"]["model"]["architecture"] == trainer.config.model.architecture


@pytest.mark.slow
def test_the_result_of_a_training_becomes_that_of_an_experiment(tracker: ExperimentTracker, tmp_path: Path):
    from dlgsum import create_trainer

    trainer = create_trainer(
        {"model": "kobart_mini", "data": "sample", "general": {"output_dir": str(tmp_path), "device": "cpu"}},
        "training.max_steps=1", "data.max_train_samples=8", "data.max_eval_samples=2",
    )  # fmt: skip
    experiment_id = tracker.start_experiment(name="beside a run", config=trainer.config)
    datasets = trainer.prepare_data()
    result = trainer.train(datasets)
    tracker.end_experiment(
        best_metrics=result.best_metrics,
        final_metrics=result.final_metrics,
        model_path=result.model_path,
        signature=result.signature,
    )
    mine, its = (tracker.get_experiment(name) for name in (experiment_id, result.run_id))
    assert mine["signature"] == its["signature"] != ""
    assert mine["metrics"] == its["metrics"] and "best_rouge_combined_f1" in mine["metrics"]
    assert {it["experiment_id"] for it in tracker.list_experiments(status="completed")} == {
        experiment_id,
        result.run_id,
    }


# --- metrics ---


def test_scalars_of_any_kind_are_numbers_and_names_stay(tracker: ExperimentTracker):
    import torch

    experiment_id = tracker.start_experiment("수치")
    given = {
        "int": 3, "float": 0.5, "np32": np.float32(0.5), "np int": np.int64(7), "array": np.array([2.5]),
        "torch/값": torch.tensor(1.5, requires_grad=True), "bf16": torch.tensor(2.0, dtype=torch.bfloat16),
        "nan": math.nan, "inf": -math.inf,
    }  # fmt: skip
    tracker.log_metrics(given, step=np.int64(5))
    (step, row), *rest = logged(folder(tracker, experiment_id))
    assert step == 5 and not rest
    assert row == {
        "int": 3, "float": 0.5, "np32": 0.5, "np int": 7, "array": 2.5, "torch/값": 1.5, "bf16": 2.0,
        "nan": "NaN", "inf": "-Infinity",
    }  # fmt: skip


def test_what_is_no_number_with_a_name_is_refused_and_nothing_is_recorded(tracker: ExperimentTracker):
    run = folder(tracker, tracker.start_experiment("x"))
    wrong: list[Any] = [
        "0.5", None, True, np.bool_(True), [1.0], np.array([1.0, 2.0]), np.array([]), np.datetime64("2026-01-01"),
        1j, 10**400,
    ]  # fmt: skip
    for metrics in (*({"a": value} for value in wrong), {"": 1.0}, {7: 1.0}, [("a", 1.0)], None):
        with pytest.raises(UsageError):
            tracker.log_metrics({"fine": 1.0, **metrics} if isinstance(metrics, dict) else metrics)
    assert not run.metrics.exists()


def test_every_wrong_metric_is_named(tracker: ExperimentTracker):
    tracker.start_experiment("x")
    with pytest.raises(UsageError, match=r"'b': 'text', 'c': None"):
        tracker.log_metrics({"a": 1, "b": "text", "c": None})


def test_steps_go_on_from_the_highest(tracker: ExperimentTracker):
    experiment_id = tracker.start_experiment("x")
    for step in (None, 100, None, 50, None, 0):
        tracker.log_metrics({"a": 1.0}, step=step)
    tracker.log_metrics({})
    assert [step for step, _ in logged(folder(tracker, experiment_id))] == [1, 100, 101, 50, 102, 0]
    for wrong in (-1, 1.5, "3", True):
        with pytest.raises(UsageError, match="no step"):
            tracker.log_metrics({"a": 1.0}, step=wrong)  # type: ignore[arg-type]


def test_without_final_metrics_the_last_values_are_final(tracker: ExperimentTracker):
    experiment_id = tracker.start_experiment("x")
    tracker.log_metrics({"eval/loss": 3.0, "train/loss": 2.0})
    tracker.log_metrics({"eval/loss": 2.5})
    tracker.end_experiment(best_metrics={"eval_rouge1_f1": math.nan, "rouge2_f1": np.float32(0.5)})
    metrics = tracker.get_experiment(experiment_id)["metrics"]
    assert math.isnan(metrics.pop("best_rouge1_f1"))
    assert metrics == {"best_rouge2_f1": 0.5, "final_loss": 2.5, "final_train/loss": 2.0}


# --- status and end ---


def test_words_for_a_status(tracker: ExperimentTracker):
    for said, means in {"success": "completed", "finished": "completed", "error": "failed", "pruned": "pruned"}.items():
        experiment_id = tracker.start_experiment("x")
        tracker.end_experiment(status=said)
        assert tracker.get_experiment(experiment_id)["status"] == means
        assert experiment_id in [it["experiment_id"] for it in tracker.list_experiments(status=said)]


def test_an_unknown_status_says_what_is_allowed(tracker: ExperimentTracker):
    experiment_id = tracker.start_experiment("x")
    for wrong in ("done", "lost", ""):
        with pytest.raises(UsageError, match=r"Allowed: running, completed, failed, interrupted, pruned; also"):
            tracker.update_experiment_status(experiment_id, wrong)
    with pytest.raises(UsageError, match="does not end"):
        tracker.end_experiment(status="in_progress")
    with pytest.raises(UsageError, match="no status"):
        tracker.list_experiments(status="done")
    tracker.end_experiment()


def test_what_has_ended_or_was_never_there_takes_nothing(tracker: ExperimentTracker):
    experiment_id = tracker.start_experiment("x")
    tracker.end_experiment()
    with pytest.raises(UsageError, match=rf"{experiment_id} has ended \(completed\)"):
        tracker.end_experiment(experiment_id)
    with pytest.raises(UsageError, match="has ended"):
        tracker.log_metrics({"a": 1}, experiment_id=experiment_id)
    for call in (tracker.end_experiment, lambda: tracker.log_metrics({"a": 1})):
        with pytest.raises(UsageError, match="No experiment runs here"):
            call()
    for unknown in ("exp_1", "../elsewhere"):
        with pytest.raises(UsageError, match="no run"):
            tracker.get_experiment(unknown)
        with pytest.raises(UsageError, match="no run"):
            tracker.update_experiment_status(unknown, "failed")


def test_a_wrong_last_metric_does_not_end_the_experiment(tracker: ExperimentTracker):
    experiment_id = tracker.start_experiment("x")
    with pytest.raises(UsageError, match="'loss'"):
        tracker.end_experiment(final_metrics={"loss": "1.23"})
    tracker.end_experiment(final_metrics={"loss": 1.23})
    assert tracker.get_experiment(experiment_id)["metrics"] == {"final_loss": 1.23}


def test_a_block_ends_its_experiment(tracker: ExperimentTracker):
    ends: list[tuple[str, str]] = []
    for error in (None, ValueError("값이 틀렸다"), KeyboardInterrupt(), SystemExit(3)):
        try:
            with tracker.experiment("x", tags=["t"]) as experiment_id:
                if error is not None:
                    raise error
        except BaseException as raised:
            assert raised is error
        found = tracker.get_experiment(experiment_id)
        ends.append((found["status"], found["reason"]))
    assert ends == [
        ("completed", ""), ("failed", "ValueError: 값이 틀렸다"), ("interrupted", "KeyboardInterrupt"),
        ("interrupted", "SystemExit: 3"),
    ]  # fmt: skip
    with tracker.experiment("with metrics") as experiment_id:
        tracker.end_experiment(experiment_id, best_metrics={"score": 0.5}, status="pruned")
    assert tracker.get_experiment(experiment_id)["status"] == "pruned", "its own end stays"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_end_the_experiment_of_its_parent(tracker: ExperimentTracker):
    child, codes = 0, list[int]()
    try:
        with tracker.experiment("x") as experiment_id:
            child = os.fork()
            if not child:
                for call in (tracker.log_metrics, tracker.end_experiment):
                    with pytest.raises(UsageError):
                        call({"loss": 1.0}) if call == tracker.log_metrics else call(experiment_id)
                raise SystemExit(3)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            assert folder(tracker, experiment_id).state == "running"
            tracker.log_metrics({"loss": 1.0})
    except BaseException as error:
        if child:
            raise
        os._exit(3 if isinstance(error, SystemExit) else 4)
    assert codes == [3] and tracker.get_experiment(experiment_id)["status"] == "completed"


def test_a_folder_that_was_deleted_meanwhile_is_not_made_again(tracker: ExperimentTracker):
    run = folder(tracker, tracker.start_experiment("x"))
    shutil.rmtree(run.path)
    for call in (tracker.end_experiment, lambda: tracker.log_metrics({"a": 1}, experiment_id=run.id)):
        with pytest.raises(UsageError, match="is gone"):
            call()
    assert not run.path.exists()


# --- several at a time ---


def test_two_experiments_in_one_process(tracker: ExperimentTracker):
    first, second = tracker.start_experiment("a"), tracker.start_experiment("b")
    tracker.log_metrics({"m": 2})
    tracker.log_metrics({"m": 1}, experiment_id=first)
    tracker.end_experiment()
    tracker.log_metrics({"m": 3})
    tracker.end_experiment()
    assert [logged(folder(tracker, it)) for it in (first, second)] == [[(1, {"m": 1}), (2, {"m": 3})], [(1, {"m": 2})]]
    assert [it["name"] for it in tracker.list_experiments()] == ["b", "a"], "newest first"
    assert [it["name"] for it in tracker.list_experiments(name="a")] == ["a"]


def test_a_tracker_made_again_goes_on(tracker: ExperimentTracker):
    experiment_id = tracker.start_experiment("x")
    again = ExperimentTracker(str(tracker.output_dir))
    again.log_metrics({"a": 1}, experiment_id=experiment_id)
    again.end_experiment(experiment_id)
    with pytest.raises(UsageError, match="No experiment runs"):
        tracker.end_experiment()


_PROGRAM = """
import sys
from dlgsum.tracking.experiment_tracker import ExperimentTracker
tracker = ExperimentTracker(sys.argv[1])
experiment_id = tracker.start_experiment("other process")
assert "torch" not in sys.modules, "a listing needs no torch, nor does this"
print(experiment_id, flush=True)
for line in sys.stdin:
    tracker.log_metrics({"a": float(line)})
    print("logged", flush=True)
tracker.end_experiment(best_metrics={"a": 1})
"""


def _process(output_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(output_dir)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "logged\n"


def test_several_processes_one_of_them_killed(tracker: ExperimentTracker):
    processes = [_process(tracker.output_dir) for _ in range(2)]
    try:
        ids = [process.stdout.readline().strip() for process in processes if process.stdout]
        for process in processes:
            _say(process, "1.5")
        for call in (
            lambda: tracker.update_experiment_status(ids[0], "failed"),
            lambda: tracker.log_metrics({"a": 1}, experiment_id=ids[0]),
            lambda: tracker.end_experiment(ids[0]),
        ):
            with pytest.raises(UsageError, match=f"in use by process {processes[0].pid}"):
                call()
        assert [it["status"] for it in tracker.list_experiments()] == ["running"] * 2
        os.kill(processes[0].pid, signal.SIGKILL)
        processes[0].communicate()
        processes[1].communicate(timeout=60)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert {it["experiment_id"]: it["status"] for it in tracker.list_experiments()} == dict(
        zip(ids, ["lost", "completed"], strict=True)
    )
    assert [it["experiment_id"] for it in tracker.list_experiments(status="lost")] == [ids[0]]
    with pytest.raises(UsageError, match="without having ended it"):
        tracker.log_metrics({"a": 1}, experiment_id=ids[0])
    with pytest.raises(UsageError, match="No process runs"):
        tracker.update_experiment_status(ids[0], "running")
    tracker.update_experiment_status(ids[0], "failed", "커널이 죽었다")
    found = tracker.get_experiment(ids[0])
    assert (found["status"], found["notes"]) == ("failed", "커널이 죽었다")


def test_a_run_of_the_command_line_takes_notes_but_no_metrics(tracker: ExperimentTracker):
    run = RunFolder.create(tracker.output_dir)
    run.write_config("meta:\n  experiment_name: trained\n")
    run.status("completed")
    tracker.update_experiment_status(run.id[:-3], "pruned", "a second look")
    found = tracker.get_experiment(run.id)
    assert (found["name"], found["status"], found["notes"]) == ("trained", "pruned", "a second look")
    with pytest.raises(UsageError, match=r"has ended \(pruned\)"):
        tracker.log_metrics({"a": 1}, experiment_id=run.id)


# --- the configuration ---


def test_no_secret_is_saved(tracker: ExperimentTracker):
    config = {
        "api_key": "s3cret-1", "wandb": {"token": "s3cret-2"}, "note": "password=s3cret-3",
        "tracking": {"store": "postgresql://u:s3cret-4@host/db"},
        "monitoring": {"alerts": {"slack_webhook_url": "https://hooks.slack.com/services/s3cret-5"}},
    }  # fmt: skip
    experiment_id = tracker.start_experiment("x", config=config, dataset_info={"secret": "s3cret-6", "rows": 3})
    tracker.end_experiment(notes="token=s3cret-7")
    run = folder(tracker, experiment_id)
    saved = "".join(path.read_text(encoding="utf-8") for path in run.path.rglob("*") if path.is_file())
    database = b"".join(path.read_bytes() for path in tracker.output_dir.glob("dlgsum.db*"))
    assert "s3cret" not in saved and b"s3cret" not in database and database
    assert read_json(run.path / "data.json")["dataset_info"] == {"secret": "***", "rows": 3}


def test_any_nested_settings_are_a_configuration(tracker: ExperimentTracker):
    from omegaconf import OmegaConf

    @dataclass
    class Settings:
        rate: float = 1e-5
        layers: tuple[int, ...] = (1, 2)

    hydra = OmegaConf.create({"a": {"b": [1, "${c}"]}, "c": "값"})
    expected: list[tuple[dict[str, Any], Any]] = [
        ({}, None),
        ({"rate": 1e-5, "layers": [1, 2]}, Settings()),
        ({"a": {"b": [1, "값"]}, "c": "값"}, hydra),
    ]
    for wanted, config in [
        *expected,
        ({"path": "/data", "half": 0.5}, {"path": Path("/data"), "half": np.float64(0.5)}),
    ]:
        experiment_id = tracker.start_experiment("이름", config=config, tags="하나", notes="메모", model_type="kobart")
        found = tracker.get_experiment(experiment_id)
        assert (found["name"], found["tags"], found["notes"]) == ("이름", ["하나"], "메모")
        rest = {key: value for key, value in found["config"].items() if key not in ("meta", "tracking", "model")}
        assert rest == wanted and found["config"]["model"] == {"architecture": "kobart"}


def test_what_cannot_be_a_configuration_is_refused_and_leaves_no_folder(tracker: ExperimentTracker):
    for call in (
        lambda: tracker.start_experiment(""),
        lambda: tracker.start_experiment("x", config="config.yaml"),
        lambda: tracker.start_experiment("x", config=[1]),
        lambda: tracker.start_experiment("x", config={"meta": "x"}),
        lambda: tracker.start_experiment("x", parent="20261121_101010_abcdef12"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError):
            call()
    assert not (tracker.output_dir / "experiments").exists()


def test_a_parent_is_kept(tracker: ExperimentTracker):
    parent = tracker.start_experiment("first")
    child = tracker.start_experiment("second", parent=Parent("rerun", parent))
    assert folder(tracker, child).parent == Parent("rerun", parent)


# --- the index ---


def test_without_its_index_everything_works_and_one_warning_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    tracker = ExperimentTracker(tmp_path / "out", store=f"sqlite:///{tmp_path}/file/x.db")
    with tracker.experiment("x") as experiment_id:
        tracker.log_metrics({"a": 1})
    assert tracker.get_experiment(experiment_id)["status"] == "completed"
    assert [it["experiment_id"] for it in tracker.list_experiments()] == [experiment_id]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1 and "the run folders are complete" in warnings[0].getMessage()


def test_the_store_of_the_configuration_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DLGSUM_STORE", f"sqlite:///{tmp_path}/shared.db")
    here, there = ExperimentTracker(tmp_path / "a"), ExperimentTracker(tmp_path / "b")
    experiment_id = here.start_experiment("x")
    here.end_experiment()
    assert (tmp_path / "shared.db").is_file() and not (tmp_path / "a" / "dlgsum.db").exists()
    assert there.get_experiment(experiment_id)["status"] == "completed", "known by the index alone"
