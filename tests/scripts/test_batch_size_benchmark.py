"""The benchmark of batch sizes runs and keeps its promise: within 5 % of every size tried, in at most 10 tries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_found_sizes_are_within_five_percent_of_the_true_maxima(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "benchmarks" / "batch_size.py"), "--quick", "--json"],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)
    assert {case["key"].rpartition(".")[2] for case in cases} == {
        "per_device_train_batch_size", "tokens_per_batch", "per_device_eval_batch_size",
    }  # fmt: skip
    for case in cases:
        assert case["tried_all"] > 3
        assert 1 / 1.05 <= case["ratio"] <= 1 or case["truth"] - case["ours"] == 1, case
        assert case["probes"] <= 10
