"""Small runs that are made to fail, as real processes, and what they leave behind."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from dlgsum.tracking.stream import OF_THE_MACHINE
from tests.e2e.conftest import TINY

FAULTS = Path(__file__).parent / "faults"
# Dropout is on, batches are filled by tokens and accumulated, and a process of its own loads them. The loss is
# recorded at other steps than those of the checkpoints.
SETTINGS = [
    *TINY, "data=sample", "data.max_train_samples=64", "data.max_eval_samples=8", "training.num_train_epochs=3",
    "training.batching=tokens", "training.tokens_per_batch=1200", "training.gradient_accumulation_steps=2",
    "training.dataloader_num_workers=1", "training.eval_strategy=steps", "training.eval_steps=3",
    "training.logging_steps=5", "training.learning_rate=2e-3", "monitoring.samples=0",
]  # fmt: skip


def start(folder: Path, *arguments: str, fault: dict[str, Any] | None = None, **environment: str) -> Any:
    """Start `dlgsum` in a folder; FAULT makes it go wrong."""
    folder.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DLGSUM", "WANDB"))}
    if fault is not None:
        environment |= {"FAULT": json.dumps(fault), "PYTHONPATH": str(FAULTS)}
    return subprocess.Popen(
        [sys.executable, "-m", "dlgsum", *arguments],
        cwd=folder,
        env={**clean, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def finish(process: Any, seconds: float = 240) -> tuple[int, str, str]:
    """Return the exit code and what was printed."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, err


def run_of(folder: Path) -> Path:
    [run] = (folder / "outputs" / "experiments").iterdir()
    return run


def record(folder: Path) -> tuple[Any, dict[str, str]]:
    """Return the metrics without times, and the hashes of all weights."""
    run = run_of(folder)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = [
        (
            row["step"],
            {name: value for name, value in row["metrics"].items() if not any(t in name for t in OF_THE_MACHINE)},
        )
        for row in rows
    ]
    weights = {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.rglob("model.safetensors")
        if "broken" not in str(path)
    }
    return metrics, weights


KILLED = -signal.SIGKILL
