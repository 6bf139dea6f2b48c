"""The tokenizing benchmark runs, makes the same tokens in each variant, and says what it measured."""

from __future__ import annotations

import csv
import importlib.util
import json
import statistics
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks" / "tokenizing.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tokenizing_benchmark", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_dialogues_are_as_long_as_real_ones(bench: ModuleType, tmp_path: Path) -> None:
    bench.write_rows(tmp_path / "a.csv", 2000)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    dialogues, summaries = ([len(row[name]) for row in rows] for name in ("dialogue", "summary"))
    assert len(rows) == 2000 and len({row["fname"] for row in rows}) == 2000
    assert statistics.fmean(dialogues) == pytest.approx(bench.MEAN_DIALOGUE, rel=0.08)
    assert statistics.fmean(summaries) == pytest.approx(bench.MEAN_SUMMARY, rel=0.12)
    assert max(dialogues) > 2.5 * bench.MEAN_DIALOGUE
    bench.write_rows(tmp_path / "b.csv", 2000)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_ratios(bench: ModuleType) -> None:
    def result(variant: str, processes: int, rows: int, seconds: float, peak: float) -> object:
        tokenizing = seconds if variant == "ours" else 0.0
        return bench.Result(variant, processes, rows, seconds, 2 * seconds, peak, 1.0, 7, tokenizing)

    found = bench.ratios(
        [result("ours", 1, 400, 4, 100), result("ours", 2, 400, 2, 150), result("datasets", 2, 400, 8, 300),
         result("ours", 2, 100, 0.5, 150)],
        400,
    )  # fmt: skip
    assert found == {
        "speed ours/2 : ours/1": 2,
        "speed of tokenizing alone ours/2 : ours/1": 2,
        "CPU time ours/2 : ours/1": 0.5,
        "speed ours/2 : datasets/2": 4,
        "CPU time ours/2 : datasets/2": 0.25,
        "memory ours/2 : datasets/2": 0.5,
        "seconds a row, all rows : a quarter": 1,
        "CPU seconds a row, all rows : a quarter": 1,
        "memory, all rows : a quarter": 1,
    }


@pytest.mark.slow
def test_every_variant_makes_the_same_tokens(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--rows", "300", "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    names = [(row["variant"], row["processes"], row["rows"]) for row in result["results"]]
    assert names == [
        ("ours", 1, 300), ("ours", 2, 300), ("datasets", 1, 300), ("datasets", 2, 300), ("pandas", 1, 300),
        ("ours", 2, 75),
    ]  # fmt: skip
    assert len({row["tokens"] for row in result["results"] if row["rows"] == 300}) == 1
    assert all(row["peak_mb"] >= row["start_mb"] > 0 and row["seconds"] > 0 for row in result["results"])
    assert all(ratio > 0 for ratio in result["ratios"].values())
