"""`dlgsum experiments compare`: readable in 80 columns, whole for machines, and fast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from dlgsum.cli.app import app
from dlgsum.core.errors import UsageError
from dlgsum.tracking.run import RunFolder
from tests.cli.test_start_up import run
from tests.recipes.test_compare_experiments import BASE, BETTER, ROUGE, make_run, predictions


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    better = {"rouge_combined_f1": 0.4, "loss": 1.5, "empty_share": 0.0}
    base = {"rouge_combined_f1": 0.3, "loss": 2.5, "empty_share": 0.0}
    return [
        make_run(tmp_path, predictions(BASE), metrics=base),
        make_run(tmp_path, predictions(BETTER), metrics=better, settings=["training.learning_rate=0.001"]),
        make_run(tmp_path, predictions(BASE), metrics=base, train="u" * 64),
    ]


def shown(folder: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["experiments", "compare", *arguments, "--output-dir", str(folder)])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_three_runs_in_80_columns_without_torch(tmp_path: Path, runs: list[RunFolder]):
    names = [it.id for it in runs]
    code, out, err, heavy = run("experiments", "compare", *names, "--output-dir", ".", folder=tmp_path)
    assert (code, err, heavy) == (0, "", "")
    table = [line for line in out.splitlines() if line[:1] in "┏┃┡│└"]
    assert table and max(map(cell_len, table)) <= 80
    assert "\x1b" not in out
    assert "training.learning_rate" in out and "training.weight_decay" not in out
    assert "│ 40.00 * │" in out and "p, Holm" in out and "for 2 comparisons of a metric" in out
    assert "\nvalidation: B is better than A by 10.00 points (95 % " in out
    assert "B wins 60, loses 0, ties 0" in out and "reference  참조 2" in out
    assert "no difference shown: C has +0.00 points beside A" in out


def test_everything_for_machines(tmp_path: Path, runs: list[RunFolder]):
    arguments = [runs[0].id, runs[1].id, "--json", "--samples", "200", "--seed", "3", "--level", "0.9"]
    content = json.loads(shown(tmp_path, *arguments))
    assert content["bootstrap"] == {"samples": 200, "seed": 3, "level": 0.9}
    assert [it["label"] for it in content["runs"]] == ["A", "B"] and content["runs"][0]["id"] == runs[0].id
    assert content["pairs"][0]["verdict"] == "better" and len(content["pairs"][0]["metrics"]) == 4
    assert json.loads(shown(tmp_path, *arguments)) == content, "one seed, one answer"


def test_many_runs_turn_the_table(tmp_path: Path, runs: list[RunFolder]):
    names = ("loss", *ROUGE, "bleu", "pred_chars", "empty_share", "distinct_share")
    more = [make_run(tmp_path, predictions(BASE), metrics=dict.fromkeys(names, 0.123456)) for _ in range(3)]
    out = shown(tmp_path, *(it.id for it in [*runs, *more]))
    table = [line for line in out.splitlines() if line[:1] in "┏┃┡│└"]
    assert max(map(cell_len, table)) <= 80
    [setting] = [line for line in table if "training.learning_rate" in line]
    assert setting.split("│")[3].split() == ["A", "C", "D", "E", "F"]
    assert any(line.startswith("│ B ") and "40.00 *" in line for line in table)
    assert "--json has empty_share, pred_chars, distinct_share too" in out
    assert "│ B │   60 │" in out and "60/0/0" in out and "참조" not in out


def test_the_same_and_nothing_else(tmp_path: Path, runs: list[RunFolder]):
    twin = make_run(tmp_path, predictions(BASE), metrics={"loss": 2.5})
    out = shown(tmp_path, runs[0].id, twin.id)
    assert "settings    the same settings" in out and "nothing else that is recorded differs" in out


def test_a_prediction_is_no_markup(tmp_path: Path, runs: list[RunFolder]):
    rows = predictions(BETTER)
    rows[2]["prediction"] = "[red]빨강[/] " + "길다" * 200
    odd = make_run(tmp_path, rows)
    assert "[red]빨강[/] 길다" in shown(tmp_path, runs[0].id, odd.id)


def test_one_run_is_too_few(tmp_path: Path, runs: list[RunFolder]):
    with pytest.raises(UsageError, match="nothing to compare with"):
        shown(tmp_path, runs[0].id)
