"""What every detector must keep, whoever wrote it: all plugins of the seam, found by discovery."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from dlgsum.config.schema import detectors as schema
from dlgsum.core import plugins
from dlgsum.monitoring.advice import advice_for
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import SEVERITIES, Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading

NAMES = plugins.names("detectors")
every_detector = pytest.mark.parametrize("name", NAMES)

# Windows so short that every rule is reached within a few dozen readings.
SHORT: dict[str, Any] = {
    "loss_spike": {"history": 3},
    "loss_plateau": {"window": 5, "patience": 2, "beta": 0.5},
    "divergence": {"history": 3, "patience": 2},
    "grad_explosion": {"history": 3},
    "grad_vanishing": {"window": 5},
    "clip_ratio": {"window": 5},
    "memory_leak": {"block": 2, "blocks": 3, "megabytes": 1},
    "throughput_drop": {"window": 6, "history": 3, "patience": 2, "least_steps": 1},
    "learning_rate": {"patience": 2},
}


PLUGINS = {name: plugins.load("detectors", name) for name in NAMES}
OPTIONS = {name: type(getattr(schema.Detectors(), name))(**SHORT.get(name, {})) for name in NAMES}


def fresh(name: str) -> Detector:
    made: Detector = PLUGINS[name](OPTIONS[name])
    return made


ODD = [None, 0.0, -0.0, 1e-300, 1e-9, 1e12, 1e300, -1.0, math.nan, math.inf, -math.inf]
USUAL = {
    "loss": 2.0,
    "grad_norm": 3.0,
    "learning_rate": 1e-4,
    "expected_learning_rate": 1e-4,
    "learning_rate_share": 0.5,
    "tokens_per_sec": 1e4,
    "device_bytes": 2e9,
    "host_bytes": 3e9,
}
TEXTS = ["", " ", "가", "내일 만나기로 합니다.", "4시 " * 30, "\x00", "\ud83d"]


Reading = StepReading | EvaluationReading


def history(seed: int, length: int = 60) -> list[Any]:
    """Return readings of a run that goes through quiet times, slow drifts, jumps and broken measurements."""
    dice = random.Random(seed)
    odd = dice.choice([0.0, 0.03, 0.3])
    level = dict.fromkeys(USUAL, 1.0)
    drift = dict.fromkeys(USUAL, 1.0)
    loss = 3.0
    readings: list[Any] = []
    for step in range(1, length + 1):
        for name in USUAL:
            if dice.random() < 0.05:
                level[name] = dice.choice([1.0, 1.0, 1.3, 0.3, 30.0, 1e-9])
                drift[name] = dice.choice([1.0, 1.0, 1.05, 0.5])
            level[name] = min(level[name] * drift[name], 1e6)
        values = {
            name: dice.choice(ODD)
            if dice.random() < odd
            else usual * level[name] * (1.0 if drift[name] == 1.0 else dice.uniform(0.99, 1.01))
            for name, usual in USUAL.items()
        }
        clip = dice.choice([0.0, 1e-3, 1.0, 1.0, 1.0, 1.0])
        readings.append(StepReading(step=step, max_grad_norm=clip, skipped=dice.random() < odd / 10, **values))
        if dice.random() < 0.2:
            loss *= dice.choice([0.9, 1.1])
            broken = dice.random() < odd
            readings.append(
                EvaluationReading(
                    step=step,
                    train_loss=dice.choice(ODD) if broken else 3 * 0.9 ** (step / 5),
                    eval_loss=dice.choice(ODD) if broken else loss,
                    score=dice.choice(ODD) if broken else dice.choice([0.1, 0.4, 0.5]),
                    greater_is_better=dice.random() < 0.8,
                    predictions=dice.choice([None, [], [dice.choice(TEXTS)] * 6, dice.choices(TEXTS, k=6)]),
                )
            )
    return readings


HISTORIES = [history(seed) for seed in range(25)]


def seen(detector: Detector, readings: list[Any]) -> list[tuple[Finding | None, dict[str, float]]]:
    return [
        (detector.step(it) if isinstance(it, StepReading) else detector.evaluation(it), detector.metrics())
        for it in readings
    ]


def test_the_detectors_of_the_schema_are_those_in_the_folder():
    assert {*NAMES, "extra"} == set(schema.Detectors.__dataclass_fields__)
    assert len(NAMES) == 12


@every_detector
def test_names_and_words(name: str):
    plugin = PLUGINS[name]
    assert plugin.name == name
    assert "None" in plugin.__doc__, "what it does where nothing was measured"
    assert "NaN" in plugin.__doc__ or "finite" in plugin.__doc__, "what it does with numbers that are not finite"
    assert getattr(schema.Detectors(), name).enabled is True
    known = advice_for(name)
    assert known is not None and known.causes and known.advice and known.key


@every_detector
def test_the_histories_hold_what_is_looked_for(name: str):
    """Without this, the tests below could pass because nothing ever happens."""
    found = [sum(finding is not None for finding, _ in seen(fresh(name), readings)) for readings in HISTORIES]
    assert sum(count > 0 for count in found) >= 5
    assert any(count < len(readings) / 2 for count, readings in zip(found, HISTORIES, strict=True))


@every_detector
def test_nothing_raises_and_every_number_is_finite(name: str):
    for readings in HISTORIES:
        for finding, metrics in seen(fresh(name), readings):
            assert all(key.startswith("monitor/") for key in metrics)
            assert all(math.isfinite(value) for value in metrics.values()), metrics
            if finding is not None:
                assert finding.kind == name
                assert finding.severity in SEVERITIES
                assert all(math.isfinite(value) for value in finding.numbers.values()), finding
                assert finding.message and finding.causes and finding.advice and finding.key


@every_detector
def test_a_finding_comes_only_from_a_reading_that_is_judged(name: str):
    for readings in HISTORIES:
        detector = fresh(name)
        for reading in readings:
            judged = detector.judges(reading)
            [(finding, _)] = seen(detector, [reading])
            assert judged or finding is None


@every_detector
def test_a_cut_changes_nothing(name: str):
    for readings in HISTORIES:
        whole = seen(fresh(name), readings)
        for cut in range(0, len(readings) + 1, 7):
            first, second = fresh(name), fresh(name)
            seen(first, readings[:cut])
            second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
            assert second.metrics() == first.metrics()
            assert seen(second, readings[cut:]) == whole[cut:]


@every_detector
def test_what_was_not_measured_changes_nothing(name: str):
    for readings in HISTORIES:
        detector = fresh(name)
        seen(detector, readings)
        before = detector.state(), detector.metrics()
        nothing: list[Any] = [StepReading(step=99), EvaluationReading(step=99)]
        assert all(finding is None for finding, _ in seen(detector, nothing))
        assert not any(map(detector.judges, nothing))
        assert (detector.state(), detector.metrics()) == before


@pytest.mark.parametrize("name", [name for name in NAMES if name != "non_finite"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_enters_nothing(name: str, bad: float):
    broken: list[Any] = [
        StepReading(step=99, max_grad_norm=1.0, skipped=True, **dict.fromkeys(USUAL, bad)),
        EvaluationReading(step=99, train_loss=bad, eval_loss=bad, score=bad),
    ]
    for readings in HISTORIES:
        detector = fresh(name)
        seen(detector, readings)
        before = detector.state(), detector.metrics()
        assert all(finding is None for finding, _ in seen(detector, broken))
        assert (detector.state(), detector.metrics()) == before


@every_detector
def test_windows_that_change_between_the_parts_of_a_run(name: str):
    """A restored state fits other options too: shorter and longer windows than it was saved with."""
    plugin = PLUGINS[name]
    usual = plugin(getattr(schema.Detectors(), name))
    for readings in HISTORIES[:5]:
        short = fresh(name)
        seen(short, readings)
        usual.restore(short.state())
        seen(usual, readings)
        short.restore(usual.state())
        seen(short, readings)


@every_detector
def test_a_class_is_a_detector(name: str):
    assert issubclass(PLUGINS[name], Detector)
