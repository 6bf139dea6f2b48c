"""TensorBoard mirrors a run: what was written is read back with TensorBoard's own reader."""

from __future__ import annotations

import html
import io
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from matplotlib.image import imread, imsave
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html

from dlgsum.tracking.stream import MetricStream
from dlgsum.tracking.tracker import Sample
from dlgsum.tracking.trackers.tensorboard import TensorboardTracker


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0, "images": 0})
    events.Reload()
    return events


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(name)]


def test_metrics_come_back_as_they_were(tmp_path: Path) -> None:
    folder = tmp_path / "실험" / "tensorboard"
    mirror = TensorboardTracker(folder)
    stream = MetricStream(tmp_path / "metrics.jsonl", [mirror])
    for step in (1, 2, 3):
        stream.log(step, 0.1 * step, {"train/loss": 1.0 / 2**step, "layer_grad/enc.L0": float(step)})
    stream.log(3, 0.3, {"eval/loss": 0.5})
    stream.finish({"best": 1})
    assert points(folder, "train/loss") == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert points(folder, "layer_grad/enc.L0") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert points(folder, "eval/loss") == [(3, 0.5)]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_values_that_are_not_finite_break_nothing(tmp_path: Path) -> None:
    mirror = TensorboardTracker(tmp_path)
    for step, value in enumerate((math.nan, math.inf, -math.inf, 1.0)):
        mirror.log(step, {"train/loss": value})
    mirror.histogram(1, "gradients/a", torch.tensor([math.nan, 1.0, math.inf, 2.0]))
    mirror.histogram(1, "gradients/b", torch.tensor([math.nan]))
    mirror.histogram(1, "gradients/c", torch.empty(0))
    mirror.finish({}, failed=True)
    values = dict(points(tmp_path, "train/loss"))
    assert math.isnan(values[0]) and (values[1], values[2], values[3]) == (math.inf, -math.inf, 1.0)
    events = read(tmp_path)
    assert events.Tags()["histograms"] == ["gradients/a"]
    (histogram,) = events.Histograms("gradients/a")
    assert (histogram.histogram_value.num, histogram.histogram_value.min, histogram.histogram_value.max) == (2, 1, 2)


def test_histograms_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    values = torch.randn(10, 100)
    mirror = TensorboardTracker(tmp_path)
    mirror.histogram(7, "parameters/model.shared.weight", values)
    mirror.histogram(8, "parameters/model.shared.weight", values.bfloat16().requires_grad_())
    mirror.finish({}, failed=False)
    first, second = read(tmp_path).Histograms("parameters/model.shared.weight")
    assert (first.step, second.step) == (7, 8)
    assert first.histogram_value.num == second.histogram_value.num == 1000
    assert first.histogram_value.sum == pytest.approx(float(values.sum()), rel=1e-4)
    assert sum(first.histogram_value.bucket) == 1000


def test_a_resumed_run_shows_no_step_twice(tmp_path: Path) -> None:
    first = TensorboardTracker(tmp_path)
    for step in range(1, 8):
        first.log(step, {"train/loss": 1.0, "eval/loss": 3.0})
        first.histogram(step, "gradients/a", torch.ones(3))
    first.finish({}, failed=True)
    second = TensorboardTracker(tmp_path, resumed_at=4)
    for step in range(5, 7):
        second.log(step, {"train/loss": 2.0})
        second.histogram(step, "gradients/a", torch.ones(3))
    second.finish({}, failed=False)
    assert points(tmp_path, "train/loss") == [(step, 1.0) for step in range(1, 5)] + [(5, 2.0), (6, 2.0)]
    assert points(tmp_path, "eval/loss") == [(step, 3.0) for step in range(1, 5)]
    assert [event.step for event in read(tmp_path).Histograms("gradients/a")] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_begins_again_shows_nothing_of_before(tmp_path: Path) -> None:
    first = TensorboardTracker(tmp_path)
    first.log(0, {"eval/loss": 1.0})
    first.log(2, {"train/loss": 1.0})
    first.finish({}, failed=True)
    second = TensorboardTracker(tmp_path, resumed_at=-1)
    second.log(1, {"train/loss": 2.0})
    second.finish({}, failed=False)
    assert points(tmp_path, "train/loss") == [(1, 2.0)]
    assert points(tmp_path, "eval/loss") == []


WITHOUT = """
import sys
from pathlib import Path
sys.modules["tensorboard"] = None  # as if it were not installed
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.tracking.trackers.tensorboard import TensorboardTracker
assert "torch" not in sys.modules
try:
    TensorboardTracker(Path(sys.argv[1]))
except EnvironmentProblem as error:
    print(error)
"""


def test_a_missing_package_is_named_with_its_cure(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT, str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "tracking.trackers=[tensorboard]" in done.stdout and "dlgsum[tensorboard]" in done.stdout
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        TensorboardTracker(tmp_path / "file" / "tensorboard")


def texts(folder: Path, tag: str) -> list[tuple[int, str]]:
    events = [event.tensor_proto for event in read(folder).Tensors(f"{tag}/text_summary")]
    steps = [event.step for event in read(folder).Tensors(f"{tag}/text_summary")]
    return [(step, tensor.string_val[0].decode()) for step, tensor in zip(steps, events, strict=True)]


def test_samples_show_as_they_are(tmp_path: Path) -> None:
    """TensorBoard renders Markdown: what it makes of a text is that text, letter by letter."""
    dialogue = "#Person1#: <script>x</script> **굵게**\n\n# 제목\n~~~\n~~~~\n```\n| a |\n    끝 & <b>"
    mirror = TensorboardTracker(tmp_path)
    row = Sample("dev_0", dialogue, "*요약* <img src=x>", ("정답 1", "정답 2"), {"rouge1": 0.25, "bad": math.nan})
    mirror.samples(5, "eval", [row, Sample("dev_1", "b", "c")])
    mirror.finish({}, failed=False)
    ((step, text),) = texts(tmp_path, "samples/eval/0")
    assert step == 5
    shown = markdown_to_safe_html(text)
    assert "<script" not in shown and "<img" not in shown and "<strong" not in shown and "<h1" not in shown
    blocks = [html.unescape(block) for block in re.findall("<pre><code>(.*?)\n?</code></pre>", shown, re.DOTALL)]
    assert blocks == [
        "[dev_0] rouge1 0.25, bad nan",
        f"[dialogue]\n{dialogue}",
        "[prediction]\n*요약* <img src=x>",
        "[reference 1]\n정답 1",
        "[reference 2]\n정답 2",
    ]
    assert "dev_1" in texts(tmp_path, "samples/eval/1")[0][1]


def test_charts_come_back(tmp_path: Path) -> None:
    picture = numpy.zeros((4, 6, 3))
    picture[1, 2] = (1, 0.5, 0)
    imsave(tmp_path / "loss.png", picture)
    mirror = TensorboardTracker(tmp_path / "events")
    mirror.image(9, "charts/loss", tmp_path / "loss.png")
    mirror.finish({}, failed=False)
    (event,) = read(tmp_path / "events").Images("charts/loss")
    assert (event.step, event.width, event.height) == (9, 6, 4)
    again = imread(io.BytesIO(event.encoded_image_string))
    assert numpy.allclose(again[1, 2, :3], (1, 0.5, 0), atol=0.01) and not again[0, 0, :3].any()
