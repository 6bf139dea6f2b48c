"""Throughput on a clock of the test's own."""

from __future__ import annotations

import json
import math

import pytest

from dlgsum.monitoring.probes.throughput import Counts, Throughput


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def counts(samples: int, source: int, target: int) -> Counts:
    return Counts(samples=samples, source_tokens=source, target_tokens=target)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_every_rate_is_of_its_own_interval_and_the_totals_run_on(clock: Clock) -> None:
    probe = Throughput(clock)
    probe.begin(0, Counts())
    clock.now += 4
    probe.waited(0.5)
    probe.waited(0.5)
    assert probe.report(10, counts(80, 8000, 1600)) == {
        "throughput/tokens_per_sec": 2400.0,
        "throughput/source_tokens_per_sec": 2000.0,
        "throughput/target_tokens_per_sec": 400.0,
        "throughput/samples_per_sec": 20.0,
        "throughput/steps_per_sec": 2.5,
        "throughput/step_time_ms": 400.0,
        "throughput/data_loading_share": 0.25,
        "throughput/total_tokens": 9600.0,
        "throughput/total_time_min": pytest.approx(4 / 60),
    }
    clock.now += 2
    second = probe.report(20, counts(100, 9000, 1800))
    assert second["throughput/tokens_per_sec"] == 600.0
    assert second["throughput/samples_per_sec"] == 10.0
    assert second["throughput/data_loading_share"] == 0.0
    assert second["throughput/total_tokens"] == 10_800.0
    assert second["throughput/total_time_min"] == pytest.approx(6 / 60)


def test_time_that_is_not_training_is_not_counted(clock: Clock) -> None:
    probe = Throughput(clock)
    probe.begin(0, Counts())
    clock.now += 0.5
    probe.resume()  # runs already
    clock.now += 0.5
    probe.pause()
    clock.now += 100
    probe.pause()  # stopped already
    clock.now += 100
    probe.resume()
    clock.now += 1
    probe.pause()
    clock.now += 50
    rates = probe.report(2, counts(2, 100, 100))  # while paused
    assert rates["throughput/tokens_per_sec"] == 100.0
    assert rates["throughput/total_time_min"] == pytest.approx(2 / 60)
    clock.now += 50
    probe.resume()
    clock.now += 2
    assert probe.report(3, counts(2, 100, 100))["throughput/step_time_ms"] == 2000.0


def test_an_interval_without_steps_or_without_time_goes_on(clock: Clock) -> None:
    probe = Throughput(clock)
    probe.begin(5, Counts())
    assert probe.report(6, counts(1, 10, 0)) == {}  # no time
    clock.now += 1
    assert probe.report(5, counts(0, 0, 0)) == {}  # no step
    clock.now += 1
    rates = probe.report(7, counts(4, 40, 0))
    assert rates["throughput/step_time_ms"] == 1000.0
    assert rates["throughput/tokens_per_sec"] == 20.0
    assert probe.report(7, counts(4, 40, 0)) == {}


@pytest.mark.parametrize(
    ("step", "now"),
    [(3, counts(50, 500, 50)), (12, counts(9, 500, 50)), (12, counts(50, 90, 50)), (12, counts(50, 500, 9))],
)
def test_counts_that_go_back_begin_anew_and_are_never_negative(clock: Clock, step: int, now: Counts) -> None:
    probe = Throughput(clock)
    probe.begin(0, Counts())
    clock.now += 1
    probe.report(10, counts(10, 100, 10))
    clock.now += 1
    assert probe.report(step, now) == {}
    clock.now += 1
    rates = probe.report(step + 1, counts(now.samples + 1, now.source_tokens + 20, now.target_tokens + 5))
    assert rates["throughput/tokens_per_sec"] == 25.0
    assert rates["throughput/total_tokens"] == 110 + 25


def test_without_a_beginning_the_first_report_is_one(clock: Clock) -> None:
    probe = Throughput(clock)
    clock.now += 1
    assert probe.report(1, counts(1, 1, 1)) == {}
    probe.resume()
    clock.now += 1
    assert probe.report(2, counts(2, 2, 2))["throughput/samples_per_sec"] == 1.0


def test_waiting_is_never_more_than_everything(clock: Clock) -> None:
    probe = Throughput(clock)
    probe.begin(0, Counts())
    clock.now += 1
    probe.waited(1.5)
    assert probe.report(1, Counts())["throughput/data_loading_share"] == 1.0


def test_totals_go_on_in_another_process_whose_counts_begin_at_zero(clock: Clock) -> None:
    first = Throughput(clock)
    first.begin(0, Counts())
    clock.now += 30
    first.report(10, counts(10, 900, 100))
    clock.now += 6
    state = json.loads(json.dumps(first.state()))
    other = Clock(5.0)
    second = Throughput(other)
    second.begin(3, Counts())  # a clock that runs already
    second.restore(state)
    other.now += 500  # loading the model
    second.begin(10, Counts())
    other.now += 4
    rates = second.report(12, counts(2, 40, 10))
    assert rates["throughput/tokens_per_sec"] == 12.5
    assert rates["throughput/total_tokens"] == 1050.0
    assert rates["throughput/total_time_min"] == pytest.approx(40 / 60)


def test_an_evaluation_is_reported_apart() -> None:
    assert Throughput.evaluated(4.0, 100) == {
        "throughput/eval_time_s": 4.0,
        "throughput/eval_samples_per_sec": 25.0,
    }
    assert Throughput.evaluated(4.0, 0)["throughput/eval_samples_per_sec"] == 0.0
    for seconds in (0.0, -1.0, math.nan, math.inf):
        assert Throughput.evaluated(seconds, 10) == {}
