"""The benchmark of the index runs, and lists what it says it lists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_lists_all_rows_and_leaves_nothing(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "benchmarks" / "index.py"
    command = [sys.executable, str(script), "--runs", "3", "--rows", "7", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["runs"], found["rows"]) == (3, 7)
    assert all(found[name] > 0 for name in ("folders", "rebuild", "sync", "list", "ratio"))
    assert list(tmp_path.iterdir()) == []
