"""Run folders as training leaves them, without any training: finished, failed, killed, damaged and foreign ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from dlgsum.config.dump import dumped
from dlgsum.core.files import append_jsonl, write_json
from dlgsum.tracking.run import RunFolder

SIGNATURE = "rouge_combined_f1|scorer:kiwi|refs:mean|dlgsum:1"
OTHER_SIGNATURE = "rouge_combined_f1|scorer:mecab|refs:mean|dlgsum:1"
BEGAN = 1_795_258_442.0  # 2026-11-21 10:54:02 in UTC


def make_run(
    outputs: Path,
    number: int,
    *,
    status: str = "completed",
    score: float | None = None,
    signature: str = SIGNATURE,
    config: Mapping[str, Any] | None = None,
    pid: int | None = None,
    reason: str = "",
    minutes: float = 3.0,
) -> RunFolder:
    """Make a run that began ``number`` hours after the others' beginning; without score it never got to one."""
    path = outputs / "experiments" / f"20261121_{number:02d}0000_{number:03x}beef0"
    run, began = RunFolder(path), BEGAN + 3600 * number
    for folder in (run.checkpoints, run.models, run.predictions):
        folder.mkdir(parents=True)
    settings: dict[str, Any] = {"meta": {"experiment_name": f"실험 {number}"}, "general": {"seed": 42}}
    for section, values in (config or {}).items():
        settings[section] = {**settings.get(section, {}), **values}
    run.config.write_text(dumped(settings), encoding="utf-8")
    write_json(
        path / "status.json",
        {
            "status": status, "pid": pid or os.getpid(), "host": socket.gethostname(), "started": began,
            "time": began + 60 * minutes, **({"reason": reason} if reason else {}),
        },
    )  # fmt: skip
    write_json(path / "environment.json", {"dlgsum": "0.1.0", "python": "3.11.7", "host": "vm", "gpus": [],
               "cpu_count": 2, "packages": {"torch": "2.13.0"}, "git": {"commit": "abc123" * 6, "dirty": False},
               "command": "dlgsum train"})  # fmt: skip
    write_json(path / "data.json", {"splits": [{"name": "validation", "source": "없음.csv", "rows": 2,
               "fingerprint": "f00d" * 16}]})  # fmt: skip
    append_jsonl(run.metrics, {"step": 1, "epoch": 0.5, "time": began + 1, "metrics": {"train/loss": 3.0}})
    append_jsonl(run.metrics, {"step": 2, "epoch": 1.0, "time": began + 2, "metrics": {"train/loss": 2.0}})
    append_jsonl(run.events, {"time": began, "event": "start"})
    if status == "running":
        held = {"pid": pid or os.getpid(), "host": socket.gethostname(), "started": datetime.now().isoformat()}
        write_json(path / "lock.json", held)
    else:
        append_jsonl(run.events, {"time": began + 60 * minutes, "event": "end", "status": status})
    if score is not None:
        _score(run, score, signature, began, completed=status == "completed")
    return run


def _score(run: RunFolder, score: float, signature: str, began: float, *, completed: bool) -> None:
    scores = {"loss": 2.0 - score, "rouge1_f1": score + 0.1, "rouge_combined_f1": score}
    row = {"step": 2, "epoch": 1.0, "time": began + 3, "metrics": {f"eval/{name}": it for name, it in scores.items()}}
    append_jsonl(run.metrics, row)
    run.best_model.mkdir()
    (run.best_model / "model.safetensors").write_bytes(b"0" * 200_000)
    write_json(run.best_model / "metrics.json", {"metrics": scores, "signature": signature, "step": 2})
    for name, prediction, value in (("dev_0", "좋은 요약", 0.9), ("dev_1", "", 0.0), ("dev_2", "?", "NaN")):
        row = {"fname": name, "prediction": prediction, "references": ["정답"], "rouge_combined_f1": value}
        append_jsonl(run.predictions / "eval-step-2.jsonl", row)
    if not completed:
        return
    write_json(
        run.results,
        {
            "run_id": run.id, "run_dir": str(run.path), "model_path": str(run.best_model), "best_metrics": scores,
            "best_step": 2, "signature": signature, "validation_fingerprint": "f00d" * 16,
            "baseline_metrics": {"rouge_combined_f1": 0.1}, "test_metrics": {"rouge_combined_f1": score - 0.05},
            "test_baseline_metrics": {}, "test_signature": signature, "final_metrics": {}, "steps": 2, "epochs": 1.0,
            "seconds": 180.0, "stopped_early": False, "choices": {},
        },
    )  # fmt: skip


@cache
def gone_pid() -> int:
    """Return the id of a process that was there and is not any more."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def make_ten(outputs: Path) -> dict[str, RunFolder]:
    """Make ten run folders of every kind, and beside them what is none."""
    tag = {"tracking": {"tags": ["baseline"]}}
    runs = {
        "low": make_run(outputs, 0, score=0.2, config={"training": {"learning_rate": 1e-5}}),
        "middle": make_run(outputs, 1, score=0.3, config={"training": {"learning_rate": 3e-5}, **tag}),
        "high": make_run(outputs, 2, score=0.4, config={"training": {"learning_rate": "auto"}, **tag}),
        "nan": make_run(outputs, 3, score=float("nan")),
        "other scale": make_run(outputs, 4, score=0.35, signature=OTHER_SIGNATURE),
        "failed": make_run(outputs, 5, status="failed", reason="TrainingFailed: loss is NaN at step 3"),
        "interrupted": make_run(outputs, 6, status="interrupted", score=0.25, reason="SIGTERM"),
        "killed": make_run(outputs, 7, status="running", pid=gone_pid()),
        "running": make_run(outputs, 8, status="running"),
        "damaged": make_run(outputs, 9, score=0.1),
    }
    damaged = runs["damaged"]
    damaged.config.write_bytes(b"\xff: [\x00")
    for path in (damaged.path / "status.json", damaged.results, damaged.metrics):
        path.write_bytes(path.read_bytes()[:20])
    (outputs / "experiments" / "메모.txt").write_text("no run")
    (outputs / "experiments" / "notebooks").mkdir()
    return runs
