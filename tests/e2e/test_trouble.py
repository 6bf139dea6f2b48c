"""Trouble in real runs: who learns of it, and what is left for the morning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.e2e.conftest import TINY
from tests.e2e.survival import finish, run_of, start
from tests.monitoring.alert_endpoint import SECRET, Endpoint, endpoint

FEW = [
    *TINY, "data=sample", "data.max_train_samples=320", "data.max_eval_samples=8", "monitoring.samples=0",
    "training.num_train_epochs=1", "training.save_strategy=no", "monitoring.detectors.loss_spike.history=10",
]  # fmt: skip


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint() as it:
        yield it


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def holds_secret(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
def test_a_spike_is_told_while_training_goes_on(tmp_path: Path, server: Endpoint) -> None:
    training = start(
        tmp_path, "train", *FEW, f"monitoring.alerts.urls=[{server.url('ok')}]",
        fault={"where": "step", "at": 20, "do": "spike"},
    )  # fmt: skip
    code, out, err = finish(training)
    assert code == 0, err
    run = run_of(tmp_path)
    titles = [title for title in server.titles() if "epoch" not in title]
    assert titles[0] == "started" and titles[-1].startswith("complete, rouge_combined_f1")
    assert titles[1:3] == ["loss spike at step 20", "loss spike has passed at step 40"]
    [spike] = [body for _, body in server.arrived if "loss spike at" in body["title"]]
    assert "Setting: training.learning_rate" in spike["message"] and str(run) in spike["message"]
    assert "step 20: The loss jumped" in err
    findings = [row["finding"] for row in rows(run / "events.jsonl") if row["event"] == "finding"]
    assert [(finding["kind"], finding["step"]) for finding in findings] == [("loss_spike", 20)]
    metrics = [(row["step"], row["metrics"]) for row in rows(run / "metrics.jsonl")]
    assert next(row for step, row in metrics if step == 20 and "monitor/loss_spike" in row)["monitor/loss_spike"] == 1
    assert next(row for step, row in metrics if step == 10 and "monitor/loss_spike" in row)["monitor/loss_spike"] == 0
    assert not holds_secret(tmp_path) and SECRET not in out + err


def test_a_weight_that_becomes_nan_is_named(tmp_path: Path, server: Endpoint) -> None:
    from transformers import AutoModelForSeq2SeqLM

    training = start(
        tmp_path, "train", *FEW, f"monitoring.alerts.urls=[{server.url('ok')}]", "training.max_skipped_steps=2",
        fault={"where": "step", "at": 7, "do": "bad_weight"},
    )  # fmt: skip
    code, out, err = finish(training)
    assert code == 5, err
    run = run_of(tmp_path)
    folder = run / "nan_reports" / "step-7"
    place = str(folder.relative_to(tmp_path))
    assert "model.decoder.layers.0.fc1" in err and place in err and "dlgsum debug-nan" in err
    batch = torch.load(folder / "batch.pt", weights_only=True)
    fnames = [row["fname"] for row in rows(folder / "rows.jsonl")]
    assert len(fnames) == 8 and all(name.startswith("train_") for name in fnames) and batch
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert all(name in text for name in fnames) and "fc1.weight" in text
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert int(torch.isnan(model.model.decoder.layers[0].fc1.weight).sum()) == 1, "as they were, not yet touched"
    assert len(list((run / "nan_reports").iterdir())) == 1, "the first one says it"
    titles = server.titles()
    assert titles[-1] == "failed at step 6", "the seventh was not done, and none after it: they could mend nothing"
    assert place in server.arrived[-1][1]["message"]
    dialogue = rows(folder / "rows.jsonl")[0]["dialogue"].splitlines()[0]
    assert not any(dialogue in body["message"] for _, body in server.arrived), "texts of rows stay at home"

    again = start(tmp_path, "debug-nan", "latest", "--json")
    code, out, err = finish(again)
    assert code == 0, err
    assert "fc1" in out
    assert not holds_secret(tmp_path)


@pytest.mark.slow
def test_a_dead_endpoint_costs_the_run_nothing(tmp_path: Path) -> None:
    with endpoint() as gone:
        address = gone.url("ok")
    arguments = [*FEW, "data.max_train_samples=32", f"monitoring.alerts.urls=[{address}]"]
    code, _, err = finish(start(tmp_path, "train", *arguments))
    assert code == 0
    assert err.count("an alert did not reach") == 1 and SECRET not in err
    kinds = [row["kind"] for row in rows(run_of(tmp_path) / "alerts.jsonl") if row["row"] == "alert"]
    assert kinds == ["start", "complete"]


@pytest.mark.slow
def test_overfitting_is_told_early(tmp_path: Path, server: Endpoint) -> None:
    training = start(
        tmp_path, "train", "data=sample", "data.max_train_samples=60", "training.num_train_epochs=25",
        "model=kobart_mini", "data.max_eval_samples=20", "metrics=char", "monitoring.samples=0",
        f"monitoring.alerts.urls=[{server.url('ok')}]",
    )  # fmt: skip
    code, _, err = finish(training, 280)
    assert code == 0, err
    told = [row for row in rows(run_of(tmp_path) / "alerts.jsonl") if row.get("kind") == "overfitting"]
    assert told and told[0]["sent"] == "queued"
    last = max(row["step"] for row in rows(run_of(tmp_path) / "metrics.jsonl"))
    assert told[0]["step"] < 0.7 * last
    assert any(title.startswith("overfitting at step") for title in server.titles())


@pytest.mark.slow
def test_several_processes_measure_together(tmp_path: Path, server: Endpoint) -> None:
    """Rank 0 alone tells, of all rows; a process that dies and is replaced is told by whoever watches over them."""
    once = tmp_path / "died"
    training = start(
        tmp_path, "train", *FEW, "--nproc", "2", "training.save_strategy=steps", "training.save_steps=5",
        "training.eval_strategy=steps", "training.eval_steps=5", "monitoring.layers_every=5",
        "training.logging_steps=5",
        f"monitoring.alerts.urls=[{server.url('ok')}]",
        fault={"where": "step", "at": 8, "do": "kill", "rank": 1, "once": str(once)},
    )  # fmt: skip
    code, _, err = finish(training, 280)
    assert code == 0, err
    run = run_of(tmp_path)
    metrics = [(row["step"], row["metrics"]) for row in rows(run / "metrics.jsonl")]
    named = [(step, name) for step, row in metrics for name in row]
    assert len(named) == len(set(named)) and [step for step, _ in named] == sorted(step for step, _ in named)
    assert any(name.startswith("layer_grad/dec.L0") for step, name in named if step == 5)
    data = json.loads((run / "data.json").read_text())["splits"]
    tokens = [row["throughput/total_tokens"] for _, row in metrics if "throughput/total_tokens" in row][-1]
    assert data[0]["rows"] == 320 and tokens > 320 * 20, "both processes' rows are counted"
    titles = server.titles()
    assert titles.count("started") == 1 and any(title.startswith("processes started again") for title in titles)
    assert titles[-1].startswith("complete")
    assert not holds_secret(tmp_path)


@pytest.mark.slow
def test_histograms_go_to_tensorboard_on_request(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    arguments = [
        *FEW,
        "tracking.trackers=[tensorboard]",
        "monitoring.histograms_every=10",
        "data.max_train_samples=160",
    ]
    code, _, err = finish(start(tmp_path, "train", *arguments))
    assert code == 0, err
    events = EventAccumulator(str(run_of(tmp_path) / "tensorboard"), size_guidance={"histograms": 0, "scalars": 0})
    events.Reload()
    name = "gradients/model.decoder.layers.0.fc1.weight"
    assert [point.step for point in events.Histograms(name)] == [10, 20]
    assert "parameters/model.shared.weight" in events.Tags()["histograms"]
    assert [point.step for point in events.Scalars("train/loss")] == [10, 20]
