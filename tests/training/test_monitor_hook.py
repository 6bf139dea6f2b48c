"""What is measured while training: right, once a step, and without any influence on what is learned."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Tiny = Callable[..., Any]
LAYERS = {"shared", "enc.embed", "enc.L0", "dec.embed", "dec.L0"}


def metrics_of(trainer: Any) -> list[tuple[int, dict[str, float]]]:
    lines = (trainer.output_dir / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["metrics"]) for row in map(json.loads, lines)]


def weights_of(trainer: Any) -> str:
    state = trainer.trainer.model.state_dict()
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values())).hexdigest()


def test_monitoring_changes_no_weight(tiny: Tiny) -> None:
    everything = {"layers_every": 1, "log_level": "debug"}
    runs = []
    for monitoring in ({"enabled": False}, {"enabled": True, **everything}):
        trainer = tiny(monitoring=monitoring, training={"max_grad_norm": 0.5})
        trainer.train()
        runs.append(weights_of(trainer))
    assert runs[0] == runs[1]


def test_the_norm_and_the_clipping_are_those_of_torch(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Seq2SeqTrainer

    from dlgsum.training.trainer import SummarizationTrainer

    ours = tiny(training={"max_grad_norm": 0.5, "max_steps": 4})
    ours.train()
    norms = [row["train/grad_norm"] for _, row in metrics_of(ours) if "train/grad_norm" in row]
    monkeypatch.setattr(SummarizationTrainer, "_clip_grad_norm", Seq2SeqTrainer._clip_grad_norm)
    theirs = tiny(training={"max_grad_norm": 0.5, "max_steps": 4}, monitoring={"enabled": False})
    theirs.train()
    assert [row["train/grad_norm"] for _, row in metrics_of(theirs) if "train/grad_norm" in row] == norms
    assert weights_of(ours) == weights_of(theirs)


def test_every_metric_once_a_step_and_steps_in_order(tiny: Tiny) -> None:
    trainer = tiny(
        monitoring={"layers_every": 4}, training={"logging_steps": 3, "eval_strategy": "steps", "eval_steps": 3}
    )
    trainer.train()
    rows = metrics_of(trainer)
    steps = [step for step, _ in rows]
    assert steps == sorted(steps)
    named = [(step, name) for step, row in rows for name in row]
    assert len(named) == len(set(named))
    at = {step: {name for other, row in rows if other == step for name in row} for step in steps}
    assert {"train/loss", "monitor/loss_ema", "throughput/tokens_per_sec", "host/rss_gb"} <= at[3]
    assert {"eval/loss", "throughput/eval_time_s"} <= at[3]
    layers = {name.removeprefix("layer_grad/") for name in at[4] if name.startswith("layer_grad/")}
    assert layers == LAYERS, "at a step whose loss is not recorded"
    assert {f"layer_ratio/{layer}" for layer in LAYERS} <= at[4]
    assert "train/loss" not in at[4] and not any(name.startswith("layer_grad") for name in at[3])


def test_the_layers_add_up_to_the_norm_before_clipping(tiny: Tiny) -> None:
    trainer = tiny(monitoring={"layers_every": 1}, training={"max_grad_norm": 0.1})
    trainer.train()
    seen = 0
    for _, row in metrics_of(trainer):
        layers = [value for name, value in row.items() if name.startswith("layer_grad/")]
        if layers:
            seen += 1
            assert math.hypot(*layers) == pytest.approx(row["train/grad_norm"], rel=1e-4) and row["train/grad_norm"] > 1
            assert all(0 < value < 1 for name, value in row.items() if name.startswith("layer_ratio/")) or seen == 1
    assert seen == 6


def test_real_tokens_are_counted_over_accumulated_batches(tiny: Tiny) -> None:
    trainer = tiny(training={"gradient_accumulation_steps": 3, "logging_steps": 2})
    trainer.train()
    split = trainer.datasets["train"]
    last = [row for _, row in metrics_of(trainer) if "throughput/total_tokens" in row][-1]
    assert last["throughput/total_tokens"] == int(split.source_lengths.sum() + split.target_lengths.sum())
    share = last["throughput/data_loading_share"]
    assert 0 <= share <= 1 and last["throughput/step_time_ms"] > 0


def test_the_loss_that_detectors_see_is_the_steps_own(tiny: Tiny) -> None:
    """Not the mean since the last record: a spike of one step must not drown in ten."""
    trainer = tiny(training={"logging_steps": 3, "gradient_accumulation_steps": 2})
    seen = []
    watch = trainer.hooks.watch
    step = watch.step
    watch.step = lambda reading: (seen.append(reading), step(reading))
    trainer.train()
    assert [reading.step for reading in seen] == [1, 2, 3]
    logged = next(row["train/loss"] for _, row in metrics_of(trainer) if "train/loss" in row)
    assert sum(reading.loss for reading in seen) / 3 == pytest.approx(logged, rel=1e-5)
    assert all(reading.learning_rate == pytest.approx(reading.expected_learning_rate) for reading in seen)
    assert [reading.tokens_per_sec is not None for reading in seen] == [False, False, True]


def test_a_broken_probe_of_memory_is_no_reason_to_stop(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    def broken(*arguments: Any, **named: Any) -> Any:
        raise psutil.AccessDenied

    trainer = tiny()
    trainer.prepare_data()
    monkeypatch.setattr(psutil.Process, "memory_info", broken)
    trainer.train()
    assert not any("host/rss_gb" in row for _, row in metrics_of(trainer))


def test_rows_of_the_batch_are_known(tiny: Tiny) -> None:
    from dlgsum.training.this_step import rows_of

    trainer = tiny(training={"max_steps": 1, "gradient_accumulation_steps": 2})
    trainer.train()
    seen = trainer.trainer.this_step.seen
    assert len(seen) == 2
    split = trainer.datasets["train"]
    for batch in seen:
        for row, tokens in zip(rows_of(split, batch.places), batch.inputs["input_ids"], strict=True):
            place = next(i for i, other in enumerate(split.rows) if other.id == row["fname"])
            real = tokens[: int(split.source_lengths[place])]
            assert real.tolist() == list(split[place]["input_ids"])
    assert torch.equal(seen[0].rng["cpu"], seen[0].rng["cpu"]) and seen[0].rng["cpu"].dtype == torch.uint8


def test_a_schedule_that_is_not_followed_is_found(tiny: Tiny) -> None:
    from transformers import TrainerCallback

    class Meddler(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            for group in kwargs["optimizer"].param_groups:
                group["lr"] = 1e-4
            kwargs["lr_scheduler"].base_lrs = [1e-4, 1e-4]  # weights with decay, and without

    trainer = tiny(training={"max_steps": 20}, monitoring={"detectors": {"learning_rate": {"enabled": True}}})
    trainer.trainer.add_callback(Meddler())
    trainer.train()
    assert trainer.hooks.watch.episodes["learning_rate"] == 1
    events = [json.loads(line) for line in (trainer.output_dir / "events.jsonl").read_text().splitlines()]
    [finding] = [row["finding"] for row in events if row.get("event") == "finding"]
    assert finding["kind"] == "learning_rate" and "training." in finding["key"]


def test_the_first_process_alone_has_detectors(tmp_path: Path) -> None:
    from dlgsum.config.schema import Config
    from dlgsum.monitoring.alerts import Alerts
    from dlgsum.recipes.watching import build_watch
    from dlgsum.tracking.run import RunFolder

    config = Config()
    alerts = Alerts(config.monitoring.alerts, record=None, source="test")
    run = RunFolder.create(tmp_path)
    assert build_watch(config, run, alerts, first=True).metrics()
    assert not [name for name in build_watch(config, run, alerts, first=False).metrics() if "loss" in name]
    alerts.close()
