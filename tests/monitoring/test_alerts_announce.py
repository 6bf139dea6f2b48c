"""What a run says of itself, and the way to W&B."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dlgsum.config.schema import Alerts as Settings
from dlgsum.config.schema import Config
from dlgsum.core.errors import EnvironmentProblem, Interrupted
from dlgsum.monitoring.alerts import Alerts
from dlgsum.recipes import announce
from dlgsum.recipes.result import TrainingResult
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.stream import MetricStream

RESULT = TrainingResult(
    run_id="r", run_dir="d", model_path="/out/best_model", best_metrics={"rouge_combined_f1": 0.41234, "loss": 2.5},
    best_step=2400, signature="s", validation_fingerprint="f", baseline_metrics={"rouge_combined_f1": 0.3},
    test_metrics={"rouge_combined_f1": 0.4}, test_baseline_metrics={}, test_signature="", final_metrics={}, steps=3000,
    epochs=10.0, seconds=12000.0, stopped_early=True,
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path)


def told(run: RunFolder, say: Any) -> dict[str, Any]:
    """Return the row of the one alert that ``say`` sends."""
    alerts = Alerts(Settings(), record=run.path / "alerts.jsonl", source=announce.source_of(Config(), run))
    say(alerts)
    alerts.close()
    [line] = (run.path / "alerts.jsonl").read_text(encoding="utf-8").splitlines()
    row: dict[str, Any] = json.loads(line)
    assert row["lifecycle"] is True
    assert row["title"].startswith(f"[{row['severity']}] dialogue_summarization {run.id}: ")
    assert row["text"].endswith(str(run.path))
    return {**row, "title": row["title"].partition(": ")[2]}


def test_the_start(run: RunFolder):
    row = told(run, lambda it: announce.started(it, run, Config(), model="kobart", rows="train 12457", processes=2))
    assert (row["kind"], row["severity"], row["title"]) == ("start", "info", "started")
    assert row["text"].splitlines()[:4] == [
        "Model: kobart", "Data: train 12457", "Best model by: rouge_combined_f1", "Processes: 2",
    ]  # fmt: skip
    assert f"dlgsum watch {run.id}" in row["text"]


def test_going_on(run: RunFolder):
    row = told(run, lambda it: announce.started(it, run, Config(), model="m", rows="r", step=120))
    assert (row["title"], row["step"]) == ("goes on after step 120", 120)


def test_the_end_with_scores_and_what_was_found(run: RunFolder):
    row = told(run, lambda it: announce.completed(it, run, RESULT, {"loss_spike": 3, "overfitting": 0}))
    assert (row["kind"], row["title"], row["step"]) == ("complete", "complete, rouge_combined_f1 0.4123", 3000)
    assert row["text"].splitlines()[:5] == [
        "3,000 steps, 10 epochs in 3 h 20 min, stopped early",
        "Validation, step 2400: rouge_combined_f1 0.4123 (lead baseline 0.3000), loss 2.5000",
        "Test: rouge_combined_f1 0.4000", "Found on the way: loss spike (3)", "Model: /out/best_model",
    ]  # fmt: skip
    assert row["numbers"]["loss"] == 2.5 and row["numbers"]["seconds"] == 12000


@pytest.mark.parametrize("error", [
    (Interrupted(signal.SIGTERM, "Stopped at step 30 of 60 (SIGTERM)."), "interrupted", "Stopped at step 30 of 60"),
    (KeyboardInterrupt(signal.SIGTERM), "interrupted", "Interrupted (SIGTERM)."),
    (KeyboardInterrupt(), "interrupted", "Interrupted (SIGINT)."),
    (EnvironmentProblem("The disk is full: 대화.csv."), "failed", "The disk is full: 대화.csv."),
    (ValueError("api_key=abcdef"), "failed", "ValueError: api_key=***"),
], ids=lambda it: type(it[0]).__name__)  # fmt: skip
def test_an_end_that_nobody_wanted_says_how_to_go_on(run: RunFolder, error: tuple[BaseException, str, str]):
    raised, kind, reason = error
    (run.checkpoints / "checkpoint-30").mkdir()
    row = told(run, lambda it: announce.ended(it, run, raised, seconds=60, step=30, best={"loss": 1.0}, processes=2))
    assert (row["kind"], row["severity"]) == (kind, "warning" if kind == "interrupted" else "error")
    first, took, best, command, log, _ = row["text"].splitlines()
    assert first.startswith(reason) and took == "It ran for 60 s." and best == "Best model so far: loss 1.0000"
    assert command.startswith("Go on with: dlgsum resume ") and command.endswith(" --nproc 2")
    assert log == f"Log: {run.log}"


def test_without_a_checkpoint_no_command_is_promised(run: RunFolder):
    row = told(run, lambda it: announce.ended(it, run, ValueError("x")))
    assert "resume" not in row["text"] and "Nothing was saved to go on from." in row["text"]


def test_another_start_of_all_processes(run: RunFolder):
    say = {"attempt": 2, "reason": "rank 1 ended with exit code 17.", "pause": 4.0, "processes": 2}
    row = told(run, lambda it: announce.relaunched(it, run, **say))
    assert (row["kind"], row["title"]) == ("relaunched", "processes started again (attempt 2)")
    assert row["text"].startswith("rank 1 ended with exit code 17. All 2 processes are started again in 4 s")


def test_a_tracker_that_takes_no_alert_is_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    def broken(*arguments: str) -> None:
        raise OSError("gone")

    stream = MetricStream(tmp_path / "m.jsonl", [SimpleNamespace(title="W&B", alert=broken)])  # type: ignore[list-item]
    stream.alert("t", "t", "info")
    assert "W&B did not take an alert (gone)" in caplog.text
