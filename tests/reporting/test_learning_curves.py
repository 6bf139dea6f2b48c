"""The learning curves: the numbers first, then what is drawn of them."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from dlgsum.reporting.charts.training import LearningRow, learning_curves, learning_rows, save_learning_curves
from dlgsum.tracking import inline_plot
from dlgsum.tracking.run import RunFolder

PNG = b"\x89PNG\r\n\x1a\n"


def row(step: Any, **metrics: Any) -> dict[str, Any]:
    names = {name.replace("_", "/", 1): value for name, value in metrics.items()}
    return {"step": step, "epoch": None, "time": 1.0, "metrics": names}


def plain(rows: list[LearningRow]) -> list[tuple[str, int, float]]:
    return [(it.metric, it.step, it.value) for it in rows]


def lines(figure: Any, panel: int) -> dict[str, Any]:
    return {line.get_label(): line for line in figure.axes[panel].get_lines()}


# --- rows ---


def test_rows_are_those_of_the_curves_in_the_order_of_their_steps():
    rows = [
        row(20, train_loss=2.0, train_grad_norm=9.0),
        row(10, train_loss=3.0),
        row(20, eval_loss=2.5, eval_rouge_combined_f1=0.25, eval_bleu=1.0),
        row(20, test_rouge_combined_f1=0.9),
    ]
    assert plain(learning_rows(rows)) == [
        ("train/loss", 10, 3.0),
        ("train/loss", 20, 2.0),
        ("eval/loss", 20, 2.5),
        ("eval/rouge_combined_f1", 20, 0.25),
    ]
    assert plain(learning_rows(rows, "bleu"))[-1] == ("eval/bleu", 20, 1.0)
    assert [it.metric for it in learning_rows(rows, "loss")] == ["train/loss", "train/loss", "eval/loss"], "not twice"
    assert learning_rows([]) == []


def test_of_a_step_that_comes_twice_the_later_row_counts():
    assert plain(learning_rows([row(5, train_loss=3.0), row(6, train_loss=1.0), row(5, train_loss=2.0)])) == [
        ("train/loss", 5, 2.0),
        ("train/loss", 6, 1.0),
    ]


def test_what_is_not_finite_is_a_gap_and_what_is_no_number_is_left_out():
    rows = [
        row(1, train_loss="NaN"), row(2, train_loss="-Infinity"), row(3, train_loss=math.inf), row(4, train_loss=1),
        row(5, train_loss="1.0"), row(6, train_loss=None), row(7, train_loss=True), row("8", train_loss=1.0),
        {"step": 9}, {"metrics": {"train/loss": 1.0}}, {"step": 10, "metrics": [1.0]},
    ]  # fmt: skip
    found = learning_rows(rows)
    assert [it.step for it in found] == [1, 2, 3, 4]
    assert all(math.isnan(it.value) for it in found[:3]) and found[3].value == 1.0


def test_a_long_series_is_thinned_and_keeps_its_spikes_and_its_gaps():
    spike, dip, gap = 70_001, 12_345, 50_000
    values = dict.fromkeys(range(100_000), 1.0) | {spike: 900.0, dip: 0.01, gap: math.nan}
    found = learning_rows(row(step, train_loss=value) for step, value in values.items())
    kept = {it.step: it.value for it in found}
    assert 1000 <= len(found) <= 2001
    assert kept[spike] == 900.0 and kept[dip] == 0.01 and math.isnan(kept[gap])
    assert [it.step for it in found] == sorted(kept)
    assert len(learning_rows([row(step, train_loss=1.0 + step) for step in range(20)], points=4)) == 4


# --- the figure ---


def test_losses_and_score_are_drawn_in_two_panels_with_the_best_step():
    rows = learning_rows(
        [row(step, train_loss=4.0 / step) for step in range(1, 9)]
        + [row(4, eval_loss=1.5, eval_rouge_combined_f1=0.2), row(8, eval_loss=1.2, eval_rouge_combined_f1=0.3)]
    )
    figure = learning_curves(rows, best_step=8, title="a $5 run")
    assert figure is not None and len(figure.axes) == 2
    losses, score = lines(figure, 0), lines(figure, 1)
    assert list(losses["train/loss"].get_xdata()) == list(range(1, 9))
    assert list(losses["eval/loss"].get_ydata()) == [1.5, 1.2]
    assert list(score["eval/rouge_combined_f1"].get_ydata()) == [0.2, 0.3]
    assert list(score["best model: step 8, 0.3"].get_xydata()[0]) == [8.0, 0.3]
    assert list(losses["best model: step 8"].get_xdata()) == [8, 8]
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim(), "the same steps side by side"
    assert inline_plot.png_bytes(figure).startswith(PNG)


def test_a_panel_without_values_is_left_out():
    losses = learning_rows([row(1, train_loss=2.0, eval_rouge_combined_f1="NaN")])
    figure = learning_curves(losses, best_step=1)
    assert figure is not None and len(figure.axes) == 1 and "train/loss" in lines(figure, 0)
    assert learning_curves(learning_rows([row(1, train_loss="NaN")])) is None
    assert learning_curves([]) is None


def test_the_best_step_is_marked_on_the_loss_where_that_chose_it():
    rows = learning_rows([row(1, train_loss=2.0, eval_loss=3.0), row(2, eval_loss=2.0)], "loss")
    figure = learning_curves(rows, best_step=2)
    assert figure is not None and "best model: step 2, 2" in lines(figure, 0)


def test_a_gap_is_a_gap_and_a_cross_and_a_lone_value_beside_it_is_seen():
    values = [3.0, math.nan, 2.0, "Infinity", 1.0, 0.9]
    figure = learning_curves(learning_rows([row(step, train_loss=value) for step, value in enumerate(values)]))
    assert figure is not None
    drawn = lines(figure, 0)
    assert [math.isnan(value) for value in drawn["train/loss"].get_ydata()] == [False, True, False, True, False, False]
    assert list(drawn["train/loss not finite"].get_xdata()) == [1, 3]
    assert drawn["train/loss"].get_markevery() == [0, 2], "those are lines without length"


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([8.0, 4.0, 2.0, 1.0, 0.5], "linear"),
        ([2.0, 1.9, 5000.0, 1.8, 1.7], "log"),
        ([2.0, 1.9, 5000.0, 1.8, -0.1], "linear"),
        ([1.0, 1.0, 1.0], "linear"),
        ([1.0], "linear"),
    ],
    ids=["healthy", "spike", "not positive", "flat", "one value"],
)
def test_the_scale_is_logarithmic_only_where_it_must_be(losses: list[float], scale: str):
    figure = learning_curves(learning_rows([row(step, train_loss=value) for step, value in enumerate(losses)]))
    assert figure is not None and figure.axes[0].get_yscale() == scale
    assert inline_plot.png_bytes(figure).startswith(PNG)


# --- the file ---


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder.create(tmp_path)
    rows = [row(1, train_loss=3.0), row(2, train_loss=2.0, eval_loss=2.5, eval_rouge_combined_f1=0.3)]
    run.metrics.write_text("".join(json.dumps(it) + "\n" for it in rows) + '{"step": 3, "metr', encoding="utf-8")
    return run


def test_the_picture_is_written_whole_and_again(run: RunFolder):
    run.write_config("meta:\n  experiment_name: 대화 요약\n")
    for _ in range(2):
        path = save_learning_curves(run, 2, "rouge_combined_f1")
        assert path == run.visualizations / "learning_curves.png" and path.read_bytes().startswith(PNG)
        assert [it.name for it in run.visualizations.iterdir()] == ["learning_curves.png"], "nothing is left over"


def test_without_anything_to_draw_there_is_no_picture_and_a_reason(run: RunFolder, caplog: pytest.LogCaptureFixture):
    run.metrics.write_text("", encoding="utf-8")
    with caplog.at_level(logging.INFO, "dlgsum"):
        assert save_learning_curves(run, None, "rouge_combined_f1") is None
        run.metrics.unlink()
        assert save_learning_curves(run, None, "rouge_combined_f1") is None
    assert caplog.text.count("no learning curves") == 2 and not run.visualizations.exists()


def test_a_picture_that_cannot_be_written_is_a_warning(run: RunFolder, caplog: pytest.LogCaptureFixture):
    run.visualizations.write_text("in the way", encoding="utf-8")
    assert save_learning_curves(run, 2, "rouge_combined_f1") is None
    assert "could not be drawn" in caplog.text


def test_letters_that_no_font_has_are_left_out_of_the_title(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    run.write_config("meta:\n  experiment_name: 대화 요약\n")
    titles = []
    monkeypatch.setattr(inline_plot, "png_bytes", lambda figure: titles.append(figure.get_suptitle()) or PNG)
    for font in (None, "NanumGothic"):
        monkeypatch.setattr(inline_plot, "korean_font", lambda font=font: font)
        save_learning_curves(run, 2, "rouge_combined_f1")
    assert titles == [run.id, f"대화 요약   {run.id}"]
