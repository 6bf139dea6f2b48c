"""Episodes: trouble is told when it begins, when it gets worse and when it has passed, over a resume as well."""

from __future__ import annotations

import json
import logging
import random
from functools import cache
from typing import Any

import pytest

from dlgsum.config.schema.detectors import Detectors
from dlgsum.monitoring.detector import Detector, build_detectors
from dlgsum.monitoring.finding import Finding, Recovery, Severity
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.watch import Watch


class High(Detector):
    """Finds a loss above 1, an error above 10; raises at 666."""

    name = "high"
    quiet = 3

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        return isinstance(reading, StepReading) and reading.loss is not None

    def step(self, reading: StepReading) -> Finding | None:
        if reading.loss == 666:
            raise RuntimeError("not my day")
        if reading.loss is None or reading.loss <= 1:
            return None
        severity: Severity = "error" if reading.loss > 10 else "warning"
        return self.finding(reading, severity, f"The loss is {reading.loss}", loss=reading.loss)

    def metrics(self) -> dict[str, float]:
        if self.options.get("metrics") == "broken":
            raise ValueError("no metrics today")
        return {"monitor/high": 1.0}

    def state(self) -> dict[str, Any]:
        return {"version": 1}

    def restore(self, state: dict[str, Any]) -> None:
        assert state["version"] == 1


class Poor(High):
    """Finds an evaluation with a loss above 1."""

    name = "poor"
    quiet = 1

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        return isinstance(reading, EvaluationReading) and reading.eval_loss is not None

    def step(self, reading: StepReading) -> Finding | None:
        return None

    def evaluation(self, reading: EvaluationReading) -> Finding | None:
        bad = reading.eval_loss is not None and reading.eval_loss > 1
        return self.finding(reading, "warning", "poor") if bad else None


class Told(list[Any]):
    """Everything a watch told."""

    def watch(self, *detectors: Detector) -> Watch:
        return Watch(detectors, on_finding=self.append, on_recovery=self.append)

    def brief(self) -> list[tuple[str, int]]:
        return [(it.severity if isinstance(it, Finding) else "passed", it.step) for it in self]


def give(watch: Watch, losses: list[float | None], start: int = 1) -> None:
    for step, loss in enumerate(losses, start):
        watch.step(StepReading(step=step, loss=loss))


def test_an_episode_is_told_once_and_its_end_with_the_count():
    told = Told()
    watch = told.watch(High({}))
    give(watch, [1, 5, 5, 1, 5, 1, 1, 1, 1, 1, 5])
    assert told.brief() == [("warning", 2), ("passed", 8), ("warning", 11)]
    assert told[1] == Recovery(kind="high", step=8, first_step=2, last_step=5, count=3)
    assert watch.counts == {"high": 4} and watch.episodes == {"high": 2}
    assert watch.metrics() == {"monitor/high": 1.0, "monitor/total_anomalies": 4.0}


def test_trouble_that_gets_worse_is_told_again_but_not_when_it_gets_better():
    told = Told()
    give(told.watch(High({})), [5, 5, 50, 50, 5, 50])
    assert told.brief() == [("warning", 1), ("error", 3)]


def test_a_reading_without_the_number_ends_nothing():
    told = Told()
    give(told.watch(High({})), [5, 1, 1, None, None, None, 5, 1, 1, 1])
    assert told.brief() == [("warning", 1), ("passed", 10)]
    assert told[1].count == 2


def test_steps_say_nothing_about_trouble_of_evaluations():
    told = Told()
    watch = told.watch(Poor({}))
    watch.evaluation(EvaluationReading(step=10, eval_loss=2.0))
    give(watch, [1.0] * 50, start=11)
    assert told.brief() == [("warning", 10)]
    watch.evaluation(EvaluationReading(step=60, eval_loss=None))
    watch.evaluation(EvaluationReading(step=70, eval_loss=0.5))
    assert told.brief() == [("warning", 10), ("passed", 70)]


def test_a_detector_that_raises_is_left_out_with_one_warning(caplog: pytest.LogCaptureFixture):
    told = Told()
    watch = told.watch(High({}), Poor({}))
    with caplog.at_level(logging.WARNING):
        give(watch, [5, 666, 666, 1, 1, 1, 1, 5])
        watch.evaluation(EvaluationReading(step=9, eval_loss=2.0))
    assert [record.getMessage() for record in caplog.records] == [
        "The detector high failed and watches no longer: RuntimeError('not my day')"
    ]
    assert told.brief() == [("warning", 1), ("warning", 9)]  # the others go on
    assert watch.metrics() == {"monitor/high": 1.0, "monitor/total_anomalies": 2.0}
    assert set(watch.state()["detectors"]) == {"poor"}


def test_metrics_that_raise_cost_the_detector_and_nothing_else(caplog: pytest.LogCaptureFixture):
    watch = Told().watch(High({"metrics": "broken"}), Poor({}))
    assert watch.metrics() == {"monitor/high": 1.0, "monitor/total_anomalies": 0.0}
    assert len(caplog.records) == 1 and "no metrics today" in caplog.text


def test_an_episode_goes_on_over_a_resume():
    first, second = Told(), Told()
    watch = first.watch(High({}))
    give(watch, [5, 5, 1, 1])
    resumed = second.watch(High({}))
    resumed.restore(json.loads(json.dumps(watch.state(), allow_nan=False)))
    give(resumed, [5, 1, 1, 1], start=5)
    assert first.brief() == [("warning", 1)]
    assert second == [Recovery(kind="high", step=8, first_step=1, last_step=5, count=3)]
    assert resumed.counts == {"high": 3} and resumed.episodes == {"high": 1}


def test_detectors_may_come_and_go_between_the_parts_of_a_run():
    watch = Told().watch(High({}))
    give(watch, [5])
    told = Told()
    other = told.watch(Poor({}))
    other.restore(watch.state())
    give(other, [1.0] * 10)
    other.evaluation(EvaluationReading(step=11, eval_loss=2.0))
    assert told.brief() == [("warning", 11)]
    assert other.counts == {"high": 1, "poor": 1}


def test_a_state_that_cannot_be_read_starts_the_detector_anew(caplog: pytest.LogCaptureFixture):
    told = Told()
    watch = told.watch(High({}))
    watch.restore({"detectors": {"high": {"version": 0}}, "open": {}, "counts": {}, "episodes": {}})
    assert "high starts anew" in caplog.text
    give(watch, [5])
    assert told.brief() == [("warning", 1)]


# --- all detectors together ---


def troubled_run() -> list[StepReading | EvaluationReading]:
    """Return a run in which every detector finds something, in turn."""
    dice = random.Random(7)
    readings: list[StepReading | EvaluationReading] = []
    for step in range(1, 1001):
        noise = dice.uniform(0.95, 1.05)
        loss = 3.0 * noise if step < 100 else 3.0 if step < 700 else 9.0 * noise
        norm = 2.0 * noise
        if step in (120, 121):
            loss *= 4
        if step == 130:
            norm = 400.0
        if 200 < step < 310:
            norm = 8.0
        if step == 320:
            loss, norm = float("nan"), float("inf")
        if step > 850:
            norm = 1e-4
        readings.append(
            StepReading(
                step=step, epoch=step / 100, loss=loss, grad_norm=norm, max_grad_norm=1.0, skipped=step == 320,
                learning_rate=1e-3 if 400 < step < 420 else 1e-4, expected_learning_rate=1e-4, learning_rate_share=0.5,
                tokens_per_sec=(3e3 if 300 < step < 400 else 1e4) * noise if step % 5 == 0 else None,
                host_bytes=4e9 + 1e7 * step if step % 5 == 0 else None,
            )
        )  # fmt: skip
        if step % 100 == 0:
            n = step // 100
            texts = [f"{n}번째 요약 {row}입니다." for row in range(8)] if n != 7 else [""] * 8
            readings.append(
                EvaluationReading(
                    step=step, epoch=float(n), train_loss=3 / n, eval_loss=2 + 0.1 * n, score=0.3, predictions=texts
                )
            )
    return readings


@cache
def found_once() -> list[Detector]:
    return build_detectors(Detectors())  # looks through all installed packages: 0.1 s


def all_detectors() -> list[Detector]:
    return [type(it)(it.options) for it in found_once()]


def watched(readings: list[StepReading | EvaluationReading], cuts: tuple[int, ...] = ()) -> tuple[Told, list[Any]]:
    told, metrics = Told(), []
    watch = told.watch(*all_detectors())
    for place, reading in enumerate(readings):
        if place in cuts:
            saved = json.dumps(watch.state(), allow_nan=False)
            watch = told.watch(*all_detectors())
            watch.restore(json.loads(saved))
        (watch.step if isinstance(reading, StepReading) else watch.evaluation)(reading)  # type: ignore[operator]
        metrics.append(watch.metrics())
    return told, metrics


def test_a_run_that_was_cut_tells_the_same_as_one_that_was_not():
    readings = troubled_run()
    told, metrics = watched(readings)
    assert {it.kind for it in told if isinstance(it, Finding)} == {it.name for it in all_detectors()}
    assert any(isinstance(it, Recovery) for it in told)
    for first in range(1, len(readings), 101):
        assert watched(readings, (first, first + 7, first + 50)) == (told, metrics), first


def test_the_metrics_have_their_names():
    _, metrics = watched(troubled_run())
    assert set(metrics[-1]) == {
        f"monitor/{name}"
        for name in (
            "loss_raw", "loss_ema", "loss_spike", "loss_change_rate", "plateau_count", "grad_norm_raw", "grad_norm_ema",
            "grad_explosion", "grad_vanishing", "clip_ratio", "learning_rate", "total_anomalies",
        )
    }  # fmt: skip
    assert metrics[120]["monitor/loss_spike"] == 1 and metrics[110]["monitor/loss_spike"] == 0
