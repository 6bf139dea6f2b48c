"""A run folder explains its run, and a run is found by what people call it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from dlgsum.core.errors import UsageError
from dlgsum.core.files import read_json, read_jsonl, write_json
from dlgsum.tracking.environment import describe_environment
from dlgsum.tracking.run import RunFolder, find_run, list_runs

SIGNATURE = "scorer:kiwi|refs:mean"


def make_run(outputs: Path, name: str, *, score: object = None, signature: str = SIGNATURE, model: bool = True) -> Path:
    path = outputs / "experiments" / name
    (path / "models").mkdir(parents=True)
    (path / "config.yaml").write_text("general: {seed: 1}\n")
    if model:
        (path / "models" / "best_model").mkdir()
    if score is not None:
        write_json(
            path / "training_results.json", {"best_metrics": {"rouge_combined_f1": score}, "signature": signature}
        )
    return path


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "outputs", "20260101_000000_aaaa1111", score=0.3)
    make_run(tmp_path / "outputs", "20260102_000000_abcd2222", score=0.5)
    make_run(tmp_path / "outputs", "20260103_000000_cccc3333", score=0.4)
    return tmp_path / "outputs"


# --- the folder ---


def test_a_new_run_has_its_folders(tmp_path: Path):
    run = RunFolder.create(tmp_path / "내 결과")
    assert run.path.parent == tmp_path / "내 결과" / "experiments"
    assert re.fullmatch(r"\d{8}_\d{6}_[0-9a-f]{8}", run.id)
    for folder in (run.checkpoints, run.models, run.predictions):
        assert folder.is_dir() and folder.parent == run.path
    assert run.best_model.parent == run.models
    assert RunFolder.create(tmp_path / "내 결과").id != run.id


def test_a_run_counts_once_its_configuration_is_written(tmp_path: Path):
    run = RunFolder.create(tmp_path)
    assert list_runs(tmp_path) == []
    run.write_config("general:\n  seed: 3\n")
    assert list_runs(tmp_path) == [run]
    assert run.config.read_text() == "general:\n  seed: 3\n"
    assert list_runs(tmp_path / "none") == []


def test_events_and_status(tmp_path: Path):
    run = RunFolder.create(tmp_path)
    run.event("start", epochs=3)
    run.event("new_best", score=float("nan"), 이름="가")
    first, second = read_jsonl(run.path / "events.jsonl")
    assert (first["event"], first["epochs"]) == ("start", 3)
    assert (second["event"], second["score"], second["이름"]) == ("new_best", "NaN", "가")
    assert first["time"].endswith("+00:00") and first["time"] <= second["time"]
    run.status("running")
    run.status("failed", reason="NaN")
    status = read_json(run.path / "status.json")
    assert (status["status"], status["reason"], status["pid"]) == ("failed", "NaN", os.getpid())
    assert status["schema_version"] == 1


@pytest.mark.parametrize("content", [None, "", "[1]", "{", '{"a": 1'])
def test_results_that_cannot_be_read_are_none(tmp_path: Path, content: str | None):
    run = RunFolder.create(tmp_path)
    if content is not None:
        run.results.write_text(content)
    assert run.read_results() is None
    write_json(run.results, {"a": 1})
    assert run.read_results() == {"schema_version": 1, "a": 1}


# --- finding one ---


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20260101_000000_aaaa1111", "aaaa1111"),
        ("20260102", "abcd2222"),
        ("cccc", "cccc3333"),
        ("aaaa1111", "aaaa1111"),
        ("000000_abcd", "abcd2222"),
        ("ab", "abcd2222"),
        ("latest", "cccc3333"),
        ("best", "abcd2222"),
        ("outputs/experiments/20260101_000000_aaaa1111", "aaaa1111"),
    ],
)
def test_a_run_is_found(outputs: Path, name: str, expected: str):
    assert find_run(name, outputs).id.endswith(expected)


def test_a_run_folder_anywhere_is_found(outputs: Path, tmp_path: Path):
    moved = tmp_path / "보낸 것"
    (outputs / "experiments" / "20260101_000000_aaaa1111").rename(moved)
    assert find_run(str(moved), outputs).path == moved
    assert find_run(str(moved), tmp_path / "none").path == moved


def test_an_exact_id_wins_over_longer_ones(tmp_path: Path):
    make_run(tmp_path, "run")
    make_run(tmp_path, "run2")
    assert find_run("run", tmp_path).id == "run"


def test_an_ambiguous_prefix_lists_what_fits(outputs: Path):
    with pytest.raises(UsageError) as raised:
        find_run("a", outputs)
    assert "fits 2 runs" in raised.value.message and "aaaa1111" in raised.value.message
    assert "abcd2222" in raised.value.message and "cccc3333" not in raised.value.message


def test_an_unknown_name_suggests_the_nearest_or_lists_the_newest(outputs: Path):
    with pytest.raises(UsageError) as raised:
        find_run("20260101_000000_aaaa1112", outputs)
    assert raised.value.hint == "Did you mean 20260101_000000_aaaa1111?"
    with pytest.raises(UsageError) as raised:
        find_run("zzz", outputs)
    assert "The newest runs: " in raised.value.hint and "cccc3333" in raised.value.hint


def test_no_runs_at_all(tmp_path: Path):
    with pytest.raises(UsageError, match="There are no runs") as raised:
        find_run("latest", tmp_path)
    assert "dlgsum train" in raised.value.hint


def test_latest_passes_over_runs_without_a_model(outputs: Path):
    make_run(outputs, "20260104_000000_dddd4444", model=False)
    assert find_run("latest", outputs).id.endswith("cccc3333")


def test_latest_with_no_model_anywhere(tmp_path: Path):
    make_run(tmp_path, "20260104_000000_dddd4444", model=False)
    with pytest.raises(UsageError, match="None of the 1 runs"):
        find_run("latest", tmp_path)


def test_best_refuses_to_compare_scores_of_different_kinds(outputs: Path):
    make_run(outputs, "20260104_000000_dddd4444", score=0.9, signature="scorer:char|refs:mean")
    with pytest.raises(UsageError) as raised:
        find_run("best", outputs)
    assert "2 different ways" in raised.value.message
    assert SIGNATURE in raised.value.message and "scorer:char" in raised.value.message
    assert "by its id" in raised.value.hint


@pytest.mark.parametrize("score", ["NaN", None, "0.9", [1]])
def test_best_passes_over_runs_without_a_number(outputs: Path, score: object):
    path = make_run(outputs, "20260104_000000_dddd4444")
    write_json(path / "training_results.json", {"best_metrics": {"rouge_combined_f1": score}, "signature": "other"})
    assert find_run("best", outputs).id.endswith("abcd2222")


@pytest.mark.parametrize("results", [{}, {"best_metrics": None}, {"best_metrics": [1]}])
def test_best_passes_over_strange_results(outputs: Path, results: dict[str, object]):
    path = make_run(outputs, "20260104_000000_dddd4444")
    write_json(path / "training_results.json", results)
    assert find_run("best", outputs).id.endswith("abcd2222")


def test_best_needs_a_model(outputs: Path):
    make_run(outputs, "20260104_000000_dddd4444", score=0.9, model=False)
    assert find_run("best", outputs).id.endswith("abcd2222")


def test_best_of_runs_without_scores(tmp_path: Path):
    make_run(tmp_path, "a")
    with pytest.raises(UsageError, match="has a score yet"):
        find_run("best", tmp_path)


def test_equal_scores_go_to_the_older_run(outputs: Path):
    make_run(outputs, "20260104_000000_dddd4444", score=0.5)
    assert find_run("best", outputs).id.endswith("abcd2222")


# --- the environment ---


def test_the_environment_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.chdir(tmp_path)
    found = describe_environment()
    assert found["packages"]["torch"] == torch.__version__ or found["packages"]["torch"] in torch.__version__
    assert found["dlgsum"] and all(found["packages"].values())
    assert found["working_directory"] == str(tmp_path)
    assert found["git"] is None, "not inside a repository"
    write_json(tmp_path / "environment.json", found)


def test_the_commit_is_recorded(monkeypatch: pytest.MonkeyPatch):
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    monkeypatch.chdir(root)
    git = describe_environment()["git"]
    assert git is None or (re.fullmatch(r"[0-9a-f]{40}", git["commit"]) and isinstance(git["dirty"], bool))


def test_no_secret_of_the_process_is_described(monkeypatch: pytest.MonkeyPatch):
    import sys

    secrets = {name: f"s3cr3t-{name}" for name in ("WANDB_API_KEY", "HF_TOKEN", "SLACK_WEBHOOK_URL", "AWS_SECRET_KEY")}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    line = [
        "dlgsum",
        "train",
        "--token",
        "s3cr3t-a",
        "wandb.api_key=s3cr3t-b",
        "https://u:s3cr3t-c@host/x",
        "general.seed=7",
    ]
    monkeypatch.setattr(sys, "argv", line)
    found = describe_environment()
    assert "s3cr3t" not in str(found)
    assert "general.seed=7" in found["command"]


def test_a_machine_without_git(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert describe_environment()["git"] is None
