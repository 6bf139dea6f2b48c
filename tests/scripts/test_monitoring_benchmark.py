"""The benchmark of monitoring runs, and what it compares learns the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_compares_like_with_like(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "benchmarks" / "monitoring.py"), "--quick", "--steps", "4", "--json"],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result["variants"]) == {"off", "default", "items", "items/100"}
    assert result["same_loss"], "nobody's measuring changes what is learned"
    assert result["variants"]["off"]["inside_ms_per_step"]["median"] == 0
    assert result["variants"]["default"]["inside_ms_per_step"]["median"] > 0
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
