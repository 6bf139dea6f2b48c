"""Real runs: healthy ones raise nothing, bad ones raise the right thing in time. See recorded/README.md."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dlgsum.config.schema.detectors import Detectors
from dlgsum.monitoring.detector import Detector, build_detectors
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.watch import Watch

RECORDED = Path(__file__).parent / "recorded"
HEALTHY = ["default", "tokens", "small_lr", "few", "constant"]
NOT_CLIPPED = ["diverge"]


@cache
def recording(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(gzip.decompress((RECORDED / f"{name}.json.gz").read_bytes()))
    return content


@cache
def found_once() -> list[Detector]:
    return build_detectors(Detectors())  # looks through all installed packages: 0.1 s


def all_detectors() -> list[Detector]:
    return [type(it)(it.options) for it in found_once()]


def watched(name: str, every: int = 1) -> tuple[list[Finding], Watch]:
    """Give a recorded run to all detectors at their defaults.

    Args:
        every: steps between measurements of the throughput.
    """
    run = recording(name)
    evaluations = {it["step"]: it for it in run["evaluations"]}
    columns = run["steps"]
    peak = max(columns["learning_rate"])
    found: list[Finding] = []
    watch = Watch(all_detectors(), on_finding=found.append, on_recovery=lambda _: None)
    since = 0
    for step, (loss, norm, rate, speed) in enumerate(zip(*columns.values(), strict=True), 1):
        watch.step(
            StepReading(
                step=step, loss=loss, grad_norm=norm, max_grad_norm=0.0 if name in NOT_CLIPPED else 1.0,
                learning_rate=rate, expected_learning_rate=rate, learning_rate_share=rate / peak,
                tokens_per_sec=speed if step % every == 0 else None,
            )
        )  # fmt: skip
        if step in evaluations:
            it = evaluations[step]
            losses = columns["loss"][since:step]
            since = step
            watch.evaluation(
                EvaluationReading(
                    step=step, train_loss=sum(losses) / len(losses), eval_loss=it["eval_loss"], score=it["score"],
                    predictions=it["predictions"],
                )
            )  # fmt: skip
    return found, watch


@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_raises_nothing(name: str, every: int):
    found, watch = watched(name, every)
    assert [(it.kind, it.step, it.message) for it in found] == []
    assert len(recording(name)["steps"]["loss"]) > 100 and len(recording(name)["evaluations"]) >= 6
    assert watch.metrics()["monitor/total_anomalies"] == 0


def test_the_memory_of_a_healthy_run_raises_nothing():
    found: list[Finding] = []
    watch = Watch(all_detectors(), on_finding=found.append, on_recovery=lambda _: None)
    sizes = recording("memory")["host_mib"]
    assert len(sizes) > 2000 and max(sizes) > 1.05 * sizes[0], "it does grow a little"
    for step, mib in enumerate(sizes, 1):
        watch.step(StepReading(step=step, host_bytes=mib * 2**20))
    assert found == []


def kinds(found: list[Finding]) -> dict[str, int]:
    """Return each kind with the step at which it was told first."""
    first: dict[str, int] = {}
    for it in found:
        first.setdefault(it.kind, it.step)
    return first


def test_a_run_that_learns_its_rows_by_heart():
    found, _ = watched("overfit")
    assert set(kinds(found)) == {"overfitting"}
    # Validation loss is lowest at step 56 of 200, and 2 % above it at step 72.
    assert kinds(found)["overfitting"] == 72


def test_a_run_with_far_too_high_a_learning_rate():
    found, _ = watched("hot")
    assert set(kinds(found)) == {"grad_explosion", "rouge_collapse"}
    assert kinds(found)["grad_explosion"] < 50  # during the warm-up
    assert kinds(found)["rouge_collapse"] == 525  # the third evaluation in a row with nothing to say


def test_a_run_that_diverges():
    found, _ = watched("diverge")
    assert kinds(found)["loss_spike"] < 40
    assert kinds(found)["divergence"] < 60
    assert not {"loss_plateau", "overfitting", "grad_vanishing", "non_finite"} & set(kinds(found))


def test_a_run_with_far_too_low_a_learning_rate():
    found, _ = watched("still")
    assert set(kinds(found)) == {"loss_plateau"}
    assert 200 < kinds(found)["loss_plateau"] < 320
