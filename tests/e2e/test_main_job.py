"""The main job as a user does it: train, evaluate, predict."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import TINY, Dlgsum

RUN_FILES = {
    "config.yaml", "environment.json", "training.log", "events.jsonl", "metrics.jsonl", "data.json", "status.json",
    "training_results.json", "checkpoints", "models", "predictions",
}  # fmt: skip


def run_folder(workplace: Path) -> Path:
    return sorted((workplace / "outputs" / "experiments").iterdir())[0]


def test_the_run_folder_explains_the_run(workplace: Path) -> None:
    run = run_folder(workplace)
    assert {path.name for path in run.iterdir()} >= RUN_FILES
    results = json.loads((run / "training_results.json").read_text())
    assert results["best_metrics"]["rouge_combined_f1"] >= 0 and results["schema_version"] == 1
    assert results["signature"].startswith("rouge_combined_f1|scorer:char")
    config = (run / "config.yaml").read_text(encoding="utf-8")
    assert "학습.csv" in config and "checkpoint: kobart_mini" in config and "source: csv" in config
    environment = json.loads((run / "environment.json").read_text())
    assert environment["packages"]["torch"] and "train" in environment["command"]
    assert json.loads((run / "status.json").read_text())["status"] == "completed"
    kinds = [json.loads(line)["event"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert kinds[0] == "start" and kinds[-2:] == ["end", "registered"] and "new_best" in kinds
    assert len(list((run / "predictions").iterdir())) == 2
    assert not list(run.rglob("*.tmp"))


def test_the_terminal_output_is_plain_in_a_pipe_and_says_what_matters(workplace: Path) -> None:
    out, err = ((workplace / name).read_text(encoding="utf-8") for name in ("train.out", "train.err"))
    assert "\x1b" not in out + err
    assert "a demonstration, not KoBART" in out and "lead baseline" in out and "signature" in out
    assert "★ best" in err and "prediction" in err and "as asked" in err


@pytest.mark.slow  # test_rerun.py does nearly the same
def test_a_saved_configuration_reruns_from_it_alone(workplace: Path, dlgsum: Dlgsum, tmp_path: Path) -> None:
    run = run_folder(workplace)
    done = dlgsum(
        "train", "--json", "--config", str(run / "config.yaml"), f"general.output_dir={tmp_path}", cwd=workplace
    )
    assert done.returncode == 0, done.stderr
    first = json.loads((run / "training_results.json").read_text())["best_metrics"]
    again = json.loads(done.stdout)["best_metrics"]
    assert {**again, "runtime": 0} == {**first, "runtime": 0}


LESS_USUAL = [pytest.param(name, marks=pytest.mark.slow) for name in ("best", "prefix", "id", "run folder")]


@pytest.mark.parametrize("name", ["latest", "model folder", *LESS_USUAL])
def test_a_model_is_found_by_every_name(workplace: Path, dlgsum: Dlgsum, name: str) -> None:
    run = run_folder(workplace)
    given = {
        "prefix": run.name[:15],
        "id": run.name,
        "run folder": str(run),
        "model folder": str(run / "models" / "best_model"),
    }.get(name, name)
    done = dlgsum("predict", given, "--text", "#Person1#: 안녕하세요.", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_a_submission_has_every_row_in_the_order_of_the_file(workplace: Path, dlgsum: Dlgsum, tmp_path: Path) -> None:
    done = dlgsum("predict", "latest", "test.csv", "-o", str(tmp_path / "제출.csv"), "--index", cwd=workplace)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "제출.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["", "fname", "summary"]
    assert [row[:2] for row in rows[1:]] == [["0", "test_7"], ["1", "test_2"], ["2", "test_9"]]

    lines = dlgsum(
        "predict", "latest", "test.csv", "-o", str(tmp_path / "제출.jsonl"), "generation.num_beams=2", cwd=workplace
    )
    assert lines.returncode == 0, lines.stderr
    found = [json.loads(line) for line in (tmp_path / "제출.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["fname"] for row in found] == ["test_7", "test_2", "test_9"]


def test_one_dialogue_from_standard_input(workplace: Path, dlgsum: Dlgsum) -> None:
    text = "Person1: 안녕하세요.<br>#Person2#: 네."
    piped = dlgsum("predict", "latest", "-", cwd=workplace, stdin=text)
    given = dlgsum("predict", "latest", "--text", "#Person1#: 안녕하세요.\n#Person2#: 네.", "--json", cwd=workplace)
    assert piped.returncode == given.returncode == 0, piped.stderr + given.stderr
    assert json.loads(given.stdout)["predictions"][0]["summary"] == piped.stdout.rstrip("\n")


def test_evaluate_reports_intervals_groups_and_the_worst_rows(workplace: Path, dlgsum: Dlgsum, tmp_path: Path) -> None:
    done = dlgsum("evaluate", "latest", "--data", "개발.csv", "--json", "-o", str(tmp_path / "p.csv"), cwd=workplace)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["rows"] == 8 and len(report["predictions"]) == 8 and len(report["worst"]) == 5
    interval = report["intervals"]["rouge_combined_f1"]
    assert interval["low"] <= interval["mean"] <= interval["high"]
    assert interval["mean"] == pytest.approx(report["metrics"]["rouge_combined_f1"])
    assert [group["name"] for group in report["topics"]] == ["약속"]
    assert len({group["name"] for group in report["lengths"]}) == len(report["lengths"]) > 0
    assert sum(group["rows"] for group in report["lengths"]) == 8
    saved = json.loads((run_folder(workplace) / "training_results.json").read_text())
    assert report["metrics"]["rouge1_f1"] == pytest.approx(saved["best_metrics"]["rouge1_f1"])
    assert report["signature"] == saved["signature"]

    shown = dlgsum("evaluate", "latest", cwd=workplace)
    assert shown.returncode == 0, shown.stderr
    assert all(
        words in shown.stdout for words in ("95 % interval", "By topic", "By length", "Worst rows", "scorer:char")
    )


def test_a_spreadsheet_cannot_run_a_summary_as_a_formula() -> None:
    from dlgsum.data.rows import Dialogue
    from dlgsum.recipes.predict import render

    text = render([Dialogue("a", "x", ())], ["=1+1"], suffix=".csv", index=False)
    assert text == "fname,summary\na,'=1+1\n"


@pytest.mark.slow
def test_a_group_on_the_command_line_wins_over_the_saved_configuration(workplace: Path, dlgsum: Dlgsum) -> None:
    done = dlgsum("evaluate", "latest", "--data", "개발.csv", "--json", "metrics=baseline", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "scorer:pltrdy" in json.loads(done.stdout)["signature"]


def test_a_terminated_run_says_so_and_is_not_left_running(dlgsum: Dlgsum, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dlgsum", "train", *TINY, "data=sample", "training.num_train_epochs=500"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("outputs/experiments/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "(SIGTERM); everything is saved" in err and "dlgsum resume" in err and "Traceback" not in err
    run = next((tmp_path / "outputs" / "experiments").iterdir())
    assert json.loads((run / "status.json").read_text())["status"] == "interrupted"
