"""What a notebook shows, and what the same code says outside one."""

from __future__ import annotations

import base64
import json
import logging
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from dlgsum import NotebookLogger
from dlgsum.core.console import messages
from dlgsum.core.errors import UsageError
from dlgsum.core.files import read_jsonl
from dlgsum.tracking import inline_plot

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "monitoring.ipynb"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing found or told by another test counts here."""
    messages.cache_clear()
    inline_plot.korean_font.cache_clear()
    monkeypatch.setattr(inline_plot, "_told", False)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)  # IPython warns where another one than this is active
    yield
    messages.cache_clear()
    inline_plot.korean_font.cache_clear()


@pytest.fixture
def no_korean_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline_plot, "_KOREAN_FONTS", ())
    monkeypatch.setattr(inline_plot, "_FILES", re.compile(r"(?!)"))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Everything that IPython is asked to display."""
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    publisher = CapturingDisplayPublisher()
    monkeypatch.setattr(shell, "display_pub", publisher)
    yield publisher.outputs
    InteractiveShell.clear_instance()


def texts(shown: list[dict[str, Any]]) -> str:
    return "\n".join(output["data"]["text/plain"] for output in shown)


def pictures(shown: list[dict[str, Any]]) -> list[bytes]:
    return [base64.b64decode(output["data"]["image/png"]) for output in shown if "image/png" in output["data"]]


# --- in a notebook ---


def test_messages_metrics_and_plots_are_shown_inline(shown: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "deep" / "metrics.jsonl"
    nb = NotebookLogger(path, inline=True)
    nb.start_experiment("LLM <b>파인튜닝</b>")
    nb.log_metric("rouge_f1", 0.65)
    nb.log_metric("rouge_f1", 0.7)
    nb.log_metric("loss", 2.5, step=40)
    assert nb.create_inline_plot([3.0, 2.0, 1.5], "Training Loss") is not None
    nb.log_with_plot("a < b & token=s3cr3t", {"train": [1, 2], "best": 0.5})
    summary = nb.end_experiment()
    assert summary["rouge_f1"] == {"count": 2, "last": 0.7, "lowest": 0.65, "highest": 0.7}
    assert nb.metrics == {"rouge_f1": [(1, 0.65), (2, 0.7)], "loss": [(40, 2.5)]}
    assert [picture[:8] for picture in pictures(shown)] == [PNG, PNG]
    markup = "".join(output["data"].get("text/html", "") for output in shown)
    assert "&lt;b&gt;파인튜닝" in markup and "a &lt; b &amp; token=***" in markup and "<b>파인튜닝" not in markup
    assert "rouge_f1 = 0.7 (step 2)" in texts(shown) and "s3cr3t" not in str(shown)
    rows = list(read_jsonl(path))
    assert [row["event"] for row in rows] == ["start", "metric", "metric", "metric", "end"]
    assert (rows[3]["metric"], rows[3]["step"], rows[3]["value"]) == ("loss", 40, 2.5)
    assert rows[4]["experiment"] == "LLM <b>파인튜닝</b>" and nb.experiment is None


def test_values_that_are_not_finite_leave_a_gap_and_are_said(shown: list[dict[str, Any]]) -> None:
    nb = NotebookLogger(inline=True)
    figure = nb.create_inline_plot([1.0, math.nan, -2.0, math.inf, 3.0], "loss $5 and $6")
    assert figure is not None
    line = figure.axes[0].get_lines()[0]
    drawn = [float(y) for y in line.get_ydata()]
    assert [math.isnan(y) for y in drawn] == [False, True, False, True, False] and line.get_marker() == "o"
    assert "2 of 5 values not finite: a gap" in texts(shown) and "lowest -2, highest 3" in texts(shown)
    assert figure.axes[0].get_title() == "loss $5 and $6"
    before = len(pictures(shown))
    assert nb.create_inline_plot([math.nan, math.inf], "gone") is None
    assert nb.create_inline_plot([], "empty") is None
    assert nb.log_with_plot("", {}) is None
    assert nb.log_with_plot("m", {"a": math.nan}) is None
    assert len(pictures(shown)) == before
    for said in ("none of 2 values is finite", "no values", "nothing to plot", "a nan (not finite, not drawn)"):
        assert said in texts(shown)
    nb.log_metric("x", math.nan)
    assert "x = nan (step 1), which is not finite" in texts(shown)
    assert math.isnan(nb.end_experiment().get("x", {"lowest": math.nan})["lowest"])


def test_single_numbers_become_bars_and_names_keep_their_letters(shown: list[dict[str, Any]]) -> None:
    nb = NotebookLogger(inline=True)
    figure = nb.log_with_plot("scores", {"rouge1": 0.5, "rouge2": -0.25})
    assert figure is not None
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.5, -0.25]
    figure = nb.log_with_plot("losses", {"_train": [1, 2], "eval": [2, 3]})
    assert figure is not None
    legend = figure.axes[0].get_legend()
    assert legend is not None and [text.get_text().strip() for text in legend.get_texts()] == ["_train", "eval"]


def test_tensors_count_as_numbers() -> None:
    import numpy as np

    nb = NotebookLogger(inline=False)
    nb.log_metric("a", np.float32(0.5))  # type: ignore[arg-type]
    nb.log_metric("a", np.array([2.0]).reshape(())[()])
    assert nb.metrics["a"] == [(1, 0.5), (2, 2.0)]
    assert nb.create_inline_plot(np.arange(4), "array") is not None  # type: ignore[arg-type]
    for wrong in ("abc", None, [1, 2]):
        with pytest.raises(UsageError, match="'b' is no number"):
            nb.log_metric("b", wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'value' is no number: 'x'"):
        nb.create_inline_plot([1, "x"], "t")  # type: ignore[list-item]
    with pytest.raises(UsageError, match="'loss' is no number: '12'"):
        nb.log_with_plot("m", {"loss": "12"})


# --- Korean ---


def test_without_a_korean_font_it_is_said_once_and_nothing_warns(
    shown: list[dict[str, Any]], no_korean_font: None
) -> None:
    nb = NotebookLogger(inline=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nb.create_inline_plot([1, 2, -3], "학습 손실")
        nb.log_with_plot("메시지", {"검증": [1, 2], "학습": [2, 1]})
    assert texts(shown).count("No font with Hangul") == 1 and "fonts-nanum" in texts(shown)
    assert len(pictures(shown)) == 2


def test_latin_titles_say_nothing_of_fonts(shown: list[dict[str, Any]], no_korean_font: None) -> None:
    NotebookLogger(inline=True).create_inline_plot([1, 2], "Training Loss")
    assert "Hangul" not in texts(shown)


def test_a_korean_font_that_is_installed_is_used(
    shown: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The font is made here: that of matplotlib with an A in the place of each Korean letter of the title."""
    from fontTools.ttLib import TTFont
    from matplotlib import font_manager

    font = TTFont(font_manager.findfont("DejaVu Sans"))
    for table in font["cmap"].tables:
        if table.isUnicode():
            table.cmap.update({ord(letter): "A" for letter in "학습손실"})
    for name in font["name"].names:
        if name.nameID in (1, 4, 16):
            name.string = "Baekmuk Gulim".encode(name.getEncoding())
    path = tmp_path / "fonts" / "gulim.ttf"
    path.parent.mkdir()
    font.save(path)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "gulim.ttf"), str(path)])
    assert inline_plot.korean_font() == "Baekmuk Gulim"
    figure = NotebookLogger(inline=True).create_inline_plot([1, -2], "학습 손실")
    assert figure is not None and figure.axes[0].title.get_fontname() == "Baekmuk Gulim"
    assert "Hangul" not in texts(shown)


# --- elsewhere ---


def test_outside_a_notebook_everything_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    nb = NotebookLogger()
    nb.start_experiment("[bold]시험")
    nb.log_metric("f1", 0.5)
    figure = nb.create_inline_plot([3.0, 1.0], "Loss")
    assert figure is not None
    assert list(nb.progress(range(3), description="읽기")) == [0, 1, 2]
    with nb.progress(total=2) as bar:
        bar.update(2)
    nb.end_experiment()
    written = capsys.readouterr()
    for said in ("no notebook", "[bold]시험", "f1 = 0.5 (step 1)", "Loss: value: 2 values, first 3, last 1", "읽기"):
        assert said in written.err
    assert written.out == ""
    assert nb.end_experiment() == {}


def test_a_second_experiment_ends_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    nb = NotebookLogger()
    nb.start_experiment("one")
    nb.log_metric("a", 1)
    nb.start_experiment("two")
    assert nb.metrics == {} and "End of one" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    nb = NotebookLogger(tmp_path / "file" / "metrics.jsonl")
    with caplog.at_level(logging.WARNING):
        nb.log_metric("a", 1)
        nb.log_metric("a", 2)
    assert caplog.text.count("takes no more metrics") == 1 and len(nb.metrics["a"]) == 2


def test_matplotlib_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys, dlgsum; dlgsum.NotebookLogger(inline=False).log_metric('a', 1); "
        "sys.exit(bool({'matplotlib', 'IPython', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


# --- the notebook of the documentation ---


def code_cells(notebook: Any) -> list[Any]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and all(not cell.outputs and cell.execution_count is None for cell in cells)  # saved without outputs
    return cells


def check_outputs(outputs: list[dict[str, Any]], *, plots: int) -> None:
    assert not [output for output in outputs if output["output_type"] == "error"]
    data = [output["data"] for output in outputs if "data" in output]
    found = [base64.b64decode(one["image/png"]) for one in data if "image/png" in one]
    assert len(found) == plots and all(picture[:8] == PNG and len(picture) > 5000 for picture in found)
    said = "\n".join(one.get("text/plain", "") for one in data)
    assert "Experiment: 기록 연습" in said and "rouge_f1 = 0.65 (step 1)" in said and "End of 기록 연습" in said
    assert "1 of 30 values not finite" in said
    assert "&lt;과적합 주의&gt;" in "\n".join(one.get("text/html", "") for one in data)


def test_the_cells_of_the_notebook_run(
    shown: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process and without the training; with a kernel and with it: below."""
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.chdir(tmp_path)
    shell = InteractiveShell.instance()
    monkeypatch.setattr(shell, "kernel", object(), raising=False)
    for cell in code_cells(nbformat.read(NOTEBOOK, as_version=4)):
        if "training" not in cell.metadata.get("tags", []):
            shell.run_cell(cell.source).raise_error()
    check_outputs([{"output_type": "display_data", **output} for output in shown], plots=3)
    log = (tmp_path / "logs" / "notebook.log").read_text(encoding="utf-8")
    assert log.count("30/30") == 1 and log.count("학습") == 1 and "끝났습니다" in log
    rows = [json.loads(line) for line in (tmp_path / "logs" / "metrics.jsonl").read_text().splitlines()]
    assert [row["event"] for row in rows] == ["start", "metric", "end"]
    assert "끝났습니다" in capsys.readouterr().out


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = code_cells(notebook)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    check_outputs([output for cell in cells for output in cell.outputs], plots=4)
    assert (tmp_path / "logs" / "notebook.log").read_text(encoding="utf-8").count("30/30") == 1
    [run] = (tmp_path / "outputs" / "experiments").iterdir()
    assert json.loads((run / "status.json").read_text())["status"] == "completed"
    assert "eval/rouge_combined_f1" in (tmp_path / "logs" / "metrics.jsonl").read_text()
