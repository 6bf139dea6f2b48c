"""Each detector on series made by hand: what it finds, what it leaves alone, and what cannot blind it."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from dlgsum.config.schema import detectors as schema
from dlgsum.core import plugins
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.series import Level

NAN, INF = math.nan, math.inf
BAD = [None, NAN, INF, -INF]
GB = 2.0**30


PLUGINS = {name: plugins.load("detectors", name) for name in plugins.names("detectors")}


def make(name: str, **changes: Any) -> Detector:
    kind = type(getattr(schema.Detectors(), name))
    made: Detector = PLUGINS[name](kind(**changes))
    return made


def run(detector: Detector, **columns: Iterable[Any]) -> list[Finding | None]:
    """Give one step for each row of the columns; the findings, one for each step."""
    names = list(columns)
    return [
        detector.step(StepReading(step=step, **dict(zip(names, row, strict=True))))
        for step, row in enumerate(zip(*columns.values(), strict=True), 1)
    ]


def where(findings: Sequence[Finding | None]) -> list[int]:
    """Return the steps, from 1, at which something was found."""
    return [step for step, finding in enumerate(findings, 1) if finding is not None]


def wave(count: int, level: float = 2.0, swing: float = 0.2) -> list[float]:
    """Return a noisy series without randomness."""
    return [level * (1 + swing * math.sin(2.4 * step)) for step in range(count)]


# --- the guarded average ---


def test_the_average_is_the_bias_corrected_one_where_nothing_stands_out():
    level, beta, m = Level(0.9, limit=10, history=5), 0.9, 0.0
    for t, value in enumerate(wave(50), 1):
        m = beta * m + (1 - beta) * value
        assert level.add(value) == pytest.approx(m / (1 - beta**t), rel=1e-12)


@pytest.mark.parametrize("place", [0, 1, 5, 100])
def test_one_outlier_does_not_move_the_average(place: int):
    values = wave(160)
    level = Level(0.99, limit=2, history=20)
    for step, value in enumerate(values):
        level.add(1e9 if step == place else value)
    assert level.value == pytest.approx(2.0, rel=0.1)


def test_the_average_follows_a_lasting_rise():
    level = Level(0.9, limit=2, history=5)
    for value in [1.0] * 30 + [50.0] * 100:
        level.add(value)
    assert level.value == pytest.approx(50, rel=0.05)


# --- loss_spike ---


def test_loss_spike_at_its_step_only_and_against_the_average_before_it():
    losses = [*wave(50, 2.0, 0.05), 4.2, *wave(50, 2.0, 0.05)]
    detector = make("loss_spike")
    findings = run(detector, loss=losses)
    assert where(findings) == [51]
    found = findings[50]
    assert found is not None and found.severity == "warning" and found.key == "training.learning_rate"
    # Had the spike entered first, 4.2 would be less than twice the average.
    assert found.numbers["average"] == pytest.approx(2.0, rel=0.01)
    assert "4.2" in found.message and "2.1 times" in found.message
    metrics = detector.metrics()
    assert metrics["monitor/loss_spike"] == 0 and metrics["monitor/loss_raw"] == losses[-1]
    assert metrics["monitor/loss_ema"] == pytest.approx(2.0, rel=0.05)


def test_loss_spike_metric_is_one_at_the_spike():
    detector = make("loss_spike")
    run(detector, loss=[*wave(30), 9.0])
    assert detector.metrics()["monitor/loss_spike"] == 1


@pytest.mark.parametrize("losses", [[*wave(10, 2), 9.0], [9 * 0.99**n for n in range(500)], [0.01, 0.03] * 50])
def test_loss_spike_is_silent_on_short_history_a_falling_loss_and_tiny_ones(losses: list[float]):
    assert where(run(make("loss_spike"), loss=losses)) == []


@pytest.mark.parametrize("bad", [*BAD, 1e30])
def test_loss_spike_is_not_blinded(bad: float | None):
    losses = [*wave(40), bad, *wave(10), 9.0]
    expected = [41, 52] if bad == 1e30 else [52]
    assert where(run(make("loss_spike"), loss=losses)) == expected


# --- loss_plateau ---


def noisy(count: int, level: float, fall: float, noise: float = 0.05, seed: int = 0) -> list[float]:
    """Return random losses that fall by the share ``fall`` in 200 steps."""
    dice = random.Random(seed)
    return [level * (1 - fall) ** (step / 200) * (1 + dice.gauss(0, noise)) for step in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_loss_plateau_of_a_flat_noisy_loss_and_not_of_one_that_falls_slowly(seed: int):
    falling = noisy(600, 5.0, 0.3, seed=seed)
    flat = noisy(3000, 1.7, 0.0, seed=seed)
    found = where(run(make("loss_plateau"), loss=[*falling, *flat]))
    assert found and found[0] > 800
    assert where(run(make("loss_plateau"), loss=noisy(4000, 5.0, 0.01, seed=seed))) == []


def test_loss_plateau_lasts_until_the_loss_moves_on():
    losses = [*noisy(3000, 1.7, 0.0), *noisy(600, 1.7, 0.3)]
    found = where(run(make("loss_plateau"), loss=losses))
    assert found == list(range(found[0], found[-1] + 1))
    assert 3000 < found[-1] < 3200


def test_loss_plateau_metrics():
    detector = make("loss_plateau")
    run(detector, loss=[2.0] * 399)
    assert detector.metrics() == {"monitor/loss_change_rate": 0.0, "monitor/plateau_count": 100.0}


def test_loss_plateau_needs_a_window_and_patience():
    # The average has settled at step 100, so that 300 is the first with one 200 steps before it, and 304 the fifth.
    assert where(run(make("loss_plateau"), loss=[2.0] * 306)) == [304, 305, 306]


def test_loss_plateau_is_no_trouble_where_the_schedule_ends():
    shares = [1.0] * 100 + [0.05] * 400
    assert where(run(make("loss_plateau"), loss=[2.0] * 500, learning_rate_share=shares)) == []
    assert where(run(make("loss_plateau"), loss=[2.0] * 500, learning_rate_share=[None] * 500))


@pytest.mark.parametrize("bad", [*BAD, 1e30])
def test_loss_plateau_is_not_blinded(bad: float | None):
    found = where(run(make("loss_plateau", window=50), loss=[2.0] * 70 + [bad] + [2.0] * 700))
    assert found[0] < (400 if bad == 1e30 else 156) and found[-1] == 771


# --- divergence ---


def test_divergence_of_a_loss_that_stays_up():
    losses = [5 * 0.99**n for n in range(100)] + [1.85 * 1.02**n for n in range(100)]
    findings = run(make("divergence"), loss=losses)
    first = where(findings)[0]
    assert 130 < first < 175
    assert findings[first - 1].severity == "error"  # type: ignore[union-attr]
    assert where(findings) == list(range(first, 201))


@pytest.mark.parametrize("losses", [wave(400), [*wave(50), 500.0, *wave(50)], [5 * 0.99**n for n in range(400)]])
def test_divergence_is_silent_on_noise_a_single_spike_and_a_falling_loss(losses: list[float]):
    assert where(run(make("divergence"), loss=losses)) == []


@pytest.mark.parametrize("bad", BAD)
def test_divergence_is_not_blinded(bad: float | None):
    losses = wave(50) + [bad if step % 7 == 0 else 9.0 for step in range(80)]
    found = where(run(make("divergence"), loss=losses))
    assert found and found[-1] == 130


def test_divergence_passes_when_the_loss_comes_back():
    found = where(run(make("divergence"), loss=wave(50) + [9.0] * 60 + wave(200)))
    assert found[0] < 110 < found[-1] < 200


# --- grad_explosion ---


def test_grad_explosion_absolute_is_an_error_from_the_first_step():
    findings = run(make("grad_explosion"), grad_norm=[101.0, 2.0])
    assert where(findings) == [1]
    assert findings[0].severity == "error"  # type: ignore[union-attr]


def test_grad_explosion_relative_is_a_warning():
    detector = make("grad_explosion")
    findings = run(detector, grad_norm=[*wave(30), 25.0])
    assert where(findings) == [31]
    assert findings[30].severity == "warning"  # type: ignore[union-attr]
    assert detector.metrics()["monitor/grad_explosion"] == 1
    assert detector.metrics()["monitor/grad_norm_raw"] == 25.0
    assert detector.metrics()["monitor/grad_norm_ema"] < 3


def test_grad_explosion_leaves_small_norms_and_a_short_history_alone():
    assert where(run(make("grad_explosion"), grad_norm=[*wave(30, 0.02), 0.9])) == []
    assert where(run(make("grad_explosion"), grad_norm=[*wave(10), 50.0])) == []


@pytest.mark.parametrize("bad", [*BAD, 1e30])
def test_grad_explosion_is_not_blinded(bad: float | None):
    found = where(run(make("grad_explosion"), grad_norm=[*wave(40), bad, *wave(5), 60.0]))
    assert found == ([41, 47] if bad == 1e30 else [47])


# --- grad_vanishing ---


def test_grad_vanishing_absolute():
    detector = make("grad_vanishing")
    assert where(run(detector, grad_norm=[2.0, 5e-8, 0.0, 2.0])) == [2, 3]
    assert detector.metrics() == {"monitor/grad_vanishing": 0.0}


def test_grad_vanishing_against_earlier_norms():
    norms = [2.0] * 120 + [0.001] * 100
    findings = run(make("grad_vanishing"), grad_norm=norms, loss=[3.0] * 220)
    assert 150 < where(findings)[0] < 180
    assert where(run(make("grad_vanishing"), grad_norm=norms, loss=[None] * 220)) == where(findings)


def test_grad_vanishing_is_silent_where_the_loss_went_as_well_and_after_one_large_norm():
    norms = [2.0] * 120 + [0.001] * 100
    assert where(run(make("grad_vanishing"), grad_norm=norms, loss=[3.0] * 120 + [0.01] * 100)) == []
    assert where(run(make("grad_vanishing"), grad_norm=[*wave(50), 1e6, *wave(200)])) == []


@pytest.mark.parametrize("bad", BAD)
def test_grad_vanishing_is_not_blinded(bad: float | None):
    norms = [bad if step % 9 == 0 else 2.0 for step in range(150)] + [0.001] * 100
    assert where(run(make("grad_vanishing"), grad_norm=norms))


# --- clip_ratio ---


def clip(detector: Detector, norms: Sequence[float | None], limit: float = 1.0) -> list[int]:
    return where(run(detector, grad_norm=norms, max_grad_norm=[limit] * len(norms)))


def test_clip_ratio_counts_every_clipped_step_and_finds_hard_ones():
    healthy = make("clip_ratio")
    assert clip(healthy, wave(300, 2.0, 0.9)) == []
    assert 0.5 < healthy.metrics()["monitor/clip_ratio"] < 1
    assert clip(make("clip_ratio"), [8.0] * 51 + [0.5] * 48 + [0.5, 0.5]) == [100]
    assert clip(make("clip_ratio"), [8.0] * 50 + [0.5] * 70) == []
    assert clip(make("clip_ratio", excess=1), [2.0] * 100) == [100]


def test_clip_ratio_is_silent_without_clipping():
    detector = make("clip_ratio")
    assert clip(detector, [8.0] * 300, limit=0.0) == []
    assert detector.metrics() == {}


@pytest.mark.parametrize("bad", BAD)
def test_clip_ratio_is_not_blinded(bad: float | None):
    detector = make("clip_ratio")
    assert clip(detector, [8.0] * 60 + [bad] * 5 + [8.0] * 40) == [105]
    assert detector.metrics() == {"monitor/clip_ratio": 1.0}


# --- non_finite ---


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("column", ["loss", "grad_norm"])
def test_non_finite_from_the_first_step_on(column: str, bad: float):
    findings = run(make("non_finite"), **{column: [bad, 1.0, bad, bad, None, bad]})
    assert where(findings) == [1, 3, 4, 6]
    assert [found.numbers["in_a_row"] for found in findings if found] == [1, 1, 2, 3]
    assert findings[0].severity == "error" and str(bad) in findings[0].message  # type: ignore[union-attr]


def test_non_finite_skipped_step():
    findings = run(make("non_finite"), loss=[2.0, 2.0], grad_norm=[None, 1.0], skipped=[True, False])
    assert where(findings) == [1]
    assert "skipped" in findings[0].message  # type: ignore[union-attr]


# --- overfitting ---


def evaluate(detector: Detector, readings: Iterable[dict[str, Any]]) -> list[int]:
    """Return which evaluations, from 1, found something."""
    findings = [detector.evaluation(EvaluationReading(step=100 * n, **it)) for n, it in enumerate(readings, 1)]
    return where(findings)


def losses(evals: Sequence[Any], trains: Sequence[Any] | None = None) -> list[dict[str, Any]]:
    trains = trains or [3 * 0.6**n for n in range(len(evals))]
    return [{"eval_loss": loss, "train_loss": train} for loss, train in zip(evals, trains, strict=True)]


def test_overfitting_of_a_rising_validation_loss():
    assert evaluate(make("overfitting"), losses([3.0, 2.0, 1.5, 1.6, 1.7, 1.8])) == [5, 6]


@pytest.mark.parametrize(
    "evals",
    [
        [3.8784, 2.3206, 1.6828, 1.4428, 1.3516, 1.3535],  # a real, healthy run
        [3.0, 2.0, 1.5, 1.502, 1.504, 1.506, 1.508],  # too little to speak of
        [3.0, 2.0, 2.2, 1.9, 2.1, 1.8, 2.0, 1.7],  # noise
        [3.0],
    ],
)
def test_overfitting_is_silent_on_healthy_losses(evals: list[float]):
    assert evaluate(make("overfitting"), losses(evals)) == []


def test_overfitting_is_silent_where_training_loss_rises_as_well():
    assert evaluate(make("overfitting"), losses([2.0, 1.5, 1.6, 1.7, 1.8], [2.0, 1.5, 1.7, 1.9, 2.1])) == []


def test_overfitting_lasts_until_the_loss_is_back():
    evals, trains = [2.0, 1.5, 1.6, 1.7, 1.65, 1.6, 1.5], [2.0, 1.0, 0.8, 0.6, 0.6, 0.6, 0.6]
    assert evaluate(make("overfitting"), losses(evals, trains)) == [4, 5, 6]


@pytest.mark.parametrize("bad", BAD)
def test_overfitting_is_not_blinded(bad: float | None):
    assert evaluate(make("overfitting"), losses([3.0, 1.5, bad, 1.6, bad, 1.7])) == [6]
    trains = [2.0, 1.0, bad, 0.8, bad, 0.6]
    assert evaluate(make("overfitting"), losses([3.0, 1.5, 9.0, 1.6, 9.0, 1.7], trains)) == [6]


# --- memory_leak ---


def leak(count: int, start: float = 4.0, per_step: float = 0.01) -> list[float]:
    """Return bytes that grow a little with each step and swing a lot."""
    return [(start + per_step * step + (step % 5) * 0.3) * GB for step in range(count)]


@pytest.mark.parametrize("column", ["device_bytes", "host_bytes"])
def test_memory_leak_of_steady_growth(column: str):
    findings = run(make("memory_leak"), **{column: leak(200)})
    assert where(findings) == list(range(120, 201))  # one block is left out, five are needed
    assert column.partition("_")[0] in findings[150].message  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "values",
    [
        leak(119),
        leak(400, per_step=0.0),
        [(4 - 3 * 0.97**step) * GB for step in range(400)],  # fills up and settles
        [(2.0 + (step > 150)) * GB for step in range(400)],  # one jump, such as a first evaluation
        [(2.0 + step * 1e-4) * GB for step in range(400)],  # too little in all
    ],
)
def test_memory_leak_is_silent_on_normal_use(values: list[float]):
    assert where(run(make("memory_leak"), host_bytes=values)) == []


@pytest.mark.parametrize("bad", BAD)
def test_memory_leak_is_not_blinded_and_passes(bad: float | None):
    values: list[Any] = [it for pair in zip(leak(200), itertools.repeat(bad)) for it in pair]
    found = where(run(make("memory_leak"), host_bytes=values + [6 * GB] * 100))
    assert found[0] == 239 and 400 < found[-1] < 450


# --- throughput_drop ---


def test_throughput_drop_that_lasts():
    detector = make("throughput_drop", least_steps=4)
    assert where(run(detector, tokens_per_sec=wave(40, 1e4) + [4e3] * 100)) == list(range(45, 141))


def test_throughput_drop_must_span_steps_as_well():
    assert where(run(make("throughput_drop"), tokens_per_sec=wave(40, 1e4) + [4e3] * 60)) == list(range(91, 101))
    recorded = [value for speed in [*wave(40, 1e4), *[4e3] * 10] for value in [*[None] * 9, speed]]
    assert where(run(make("throughput_drop"), tokens_per_sec=recorded)) == [460, 470, 480, 490, 500]


@pytest.mark.parametrize(
    "speeds", [[*wave(5, 1e4), *[4e3] * 4], wave(300, 1e4, 0.4), [*wave(60, 1e4), *([4e3] * 4 + [1e4]) * 20]]
)
def test_throughput_drop_is_silent_on_short_history_noise_and_hiccups(speeds: list[float]):
    assert where(run(make("throughput_drop", least_steps=0), tokens_per_sec=speeds)) == []


@pytest.mark.parametrize("bad", BAD)
def test_throughput_drop_is_not_blinded(bad: float | None):
    speeds = [*wave(40, 1e4), bad, 4e3, 4e3, bad, 4e3, 4e3, 4e3, bad, 1e4]
    assert where(run(make("throughput_drop", least_steps=0), tokens_per_sec=speeds)) == [47]


def test_the_median_of_the_window_is_the_median():
    detector = make("throughput_drop", window=7, history=1, factor=0.01)
    values = wave(60, 1e4, 0.7)
    for step in range(len(values)):
        run(detector, tokens_per_sec=[values[step]])
        window = sorted(values[max(0, step - 6) : step + 1])
        middle = (window[(len(window) - 1) // 2] + window[len(window) // 2]) / 2
        assert detector._median() == middle  # type: ignore[attr-defined]


# --- learning_rate ---


def test_learning_rate_off_its_schedule():
    detector = make("learning_rate")
    expected = [1e-4 * (1 - step / 100) for step in range(20)]
    rates = expected[:10] + [rate * 1.02 for rate in expected[10:]]
    assert where(run(detector, learning_rate=rates, expected_learning_rate=expected)) == list(range(15, 21))
    assert detector.metrics() == {"monitor/learning_rate": rates[-1]}


@pytest.mark.parametrize("expected", [[None] * 20, [1e-4] * 20, [1.005e-4] * 20])
def test_learning_rate_is_silent_without_a_schedule_and_on_it(expected: list[float | None]):
    assert where(run(make("learning_rate"), learning_rate=[1e-4] * 20, expected_learning_rate=expected)) == []


def test_learning_rate_at_zero():
    assert where(run(make("learning_rate"), learning_rate=[0.0] * 9, expected_learning_rate=[0.0] * 9)) == []
    # The end of a cosine is 0 only up to rounding.
    assert where(run(make("learning_rate"), learning_rate=[1e-21] * 9, expected_learning_rate=[0.0] * 9)) == []
    assert where(run(make("learning_rate"), learning_rate=[1e-5] * 9, expected_learning_rate=[0.0] * 9))


@pytest.mark.parametrize("bad", BAD)
def test_learning_rate_is_not_blinded(bad: float | None):
    rates = [2e-4, 2e-4, bad, 2e-4, 2e-4, 2e-4, 1e-4]
    assert where(run(make("learning_rate"), learning_rate=rates, expected_learning_rate=[1e-4] * 7)) == [6]
    assert (
        where(run(make("learning_rate"), learning_rate=[2e-4] * 7, expected_learning_rate=[1e-4] * 2 + [bad] * 5)) == []
    )


# --- rouge_collapse ---

GOOD = [f"#Person1#은 {n}시에 #Person2#를 만나 {n * 3}만 원을 냅니다." for n in range(10)]
EMPTY = ["", " "] * 5
SAME = ["#Person1#은 #Person2#를 만납니다."] * 10
LOOPS = [f"{n}시 " + "오후 " * 40 for n in range(10)]


def predictions(*batches: Sequence[str] | None) -> list[dict[str, Any]]:
    return [{"predictions": batch} for batch in batches]


@pytest.mark.parametrize(("bad", "word"), [(EMPTY, "empty"), (SAME, "the same"), (LOOPS, "repeat themselves")])
def test_rouge_collapse_after_a_good_evaluation(bad: list[str], word: str):
    detector = make("rouge_collapse")
    assert detector.evaluation(EvaluationReading(step=1, predictions=GOOD)) is None
    found = detector.evaluation(EvaluationReading(step=2, predictions=bad))
    assert found is not None and found.severity == "error" and word in found.message
    assert detector.evaluation(EvaluationReading(step=3, predictions=GOOD)) is None


@pytest.mark.parametrize("bad", [EMPTY, SAME, LOOPS])
def test_rouge_collapse_at_the_start_is_how_training_begins(bad: list[str]):
    assert evaluate(make("rouge_collapse"), predictions(bad, bad, GOOD, GOOD)) == []
    assert evaluate(make("rouge_collapse"), predictions(bad, bad, bad, bad, GOOD)) == [3, 4]


def test_rouge_collapse_leaves_half_of_the_predictions_alone():
    for bad in (EMPTY, SAME, LOOPS):
        assert evaluate(make("rouge_collapse"), predictions(GOOD, bad[:5] + GOOD[:5])) == []
    assert evaluate(make("rouge_collapse"), predictions(GOOD, SAME[:4])) == []


def test_rouge_collapse_of_the_score():
    scores = [{"score": score} for score in [0.1, 0.4, 0.21, 0.19, 0.5]]
    assert evaluate(make("rouge_collapse"), scores) == [4]
    falling = [{"score": score, "greater_is_better": False} for score in [3.0, 2.0, 0.5]]
    assert evaluate(make("rouge_collapse"), falling) == []


@pytest.mark.parametrize("bad", BAD)
def test_rouge_collapse_is_not_blinded(bad: float | None):
    scores = [{"score": score, "predictions": GOOD} for score in [0.4, bad, 0.19]]
    assert evaluate(make("rouge_collapse"), scores) == [3]
    assert evaluate(make("rouge_collapse"), predictions(GOOD, None, [], EMPTY)) == [4]
