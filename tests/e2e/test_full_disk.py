"""A disk that fills up: the message, the exit code, and the best model of before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import TINY

# The second model cannot be written; everything else can.
_SCRIPT = """
import errno, sys
from dlgsum.recipes.model_folder import ModelWriter as T
save, saved = T._write, []
def full(self, weights, folder, metrics, step):
    save(self, weights, folder, metrics, step)
    saved.append(step)
    if len(saved) == 2:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "model.safetensors"))
T._write = full
sys.argv = ["dlgsum", *sys.argv[1:]]
from dlgsum.cli.app import main
main()
"""


def test_a_full_disk_keeps_the_model_of_before(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, "train", *TINY, "data=sample", "data.max_train_samples=32",
         "data.max_eval_samples=4", "training.keep_best=9", "training.num_train_epochs=3"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "The disk is full" in done.stderr and "Traceback" not in done.stderr
    run = next((tmp_path / "outputs" / "experiments").iterdir())
    assert json.loads((run / "models" / "best_model" / "metrics.json").read_text())["step"] == 4
    assert {path.name for path in (run / "models").iterdir()} == {"best_model", "ranking.json"}
    assert json.loads((run / "status.json").read_text())["status"] == "failed"
