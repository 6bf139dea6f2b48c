"""The training benchmark runs, does equal work in each variant, and says what it measured."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "benchmarks" / "training.py"
SAMPLE = ROOT / "dlgsum" / "data" / "sample" / "dev.csv"
OURS, OTHERS = ("ours/samples", "ours/tokens"), ("plain", "fixed")


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def measured(*arguments: str, cwd: Path) -> dict[str, Any]:
    done = bench(*arguments, "--quick", "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)  # nothing but JSON on standard output
    return result


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measured("--rounds", "2", cwd=tmp_path_factory.mktemp("quick"))


@pytest.mark.slow
def test_every_ratio_is_there_and_positive(quick: dict[str, Any]) -> None:
    assert set(quick["ratios"]) == {f"{ours} : {other}" for ours in OURS for other in OTHERS}
    for ratio in quick["ratios"].values():
        assert len(ratio["rounds"]) == 2
        assert 0 < ratio["least"] <= ratio["median"] <= ratio["most"] < math.inf


@pytest.mark.slow
@pytest.mark.parametrize("key", ["computed_to_real", "computed_to_real_at_full_size"])
def test_ours_computes_less_padding_than_both_alternatives(quick: dict[str, Any], key: str) -> None:
    ratios = {name: values[key] for name, values in quick["variants"].items()}
    assert 1 <= max(ratios[name] for name in OURS) < min(ratios[name] for name in OTHERS)


@pytest.mark.slow
def test_the_setting_is_stated(quick: dict[str, Any]) -> None:
    setting = quick["setting"]
    assert setting["rows"] == 48
    assert setting["source_tokens"]["most"] <= 512
    assert setting["target_tokens"]["most"] <= 100
    assert setting["parameters"] > 0
    assert "random tokens" in setting["data"]
    assert "thread" in setting["machine"]


@pytest.mark.slow
def test_rows_of_ones_own_can_be_used(tmp_path: Path) -> None:
    result = measured("--data", str(SAMPLE), "--rows", "24", cwd=tmp_path)
    assert result["setting"]["rows"] == 24
    assert result["setting"]["data"] == str(SAMPLE)
    assert list(tmp_path.iterdir()) == []  # nothing is left where it was called


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--rows", "3"], "below 16"), (["--data", "absent.csv"], "absent.csv"), (["--d-model", "18"], "heads")],
)
def test_impossible_settings_are_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = bench(*arguments, "--quick", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
