"""Turn the folder of a run with training.logging_steps=1 into a recording: python record.py RUN_FOLDER NAME."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

ROWS = 20  # predictions of an evaluation that are kept
STEPS = {
    "loss": "train/loss",
    "grad_norm": "train/grad_norm",
    "learning_rate": "train/learning_rate",
    "tokens_per_sec": "throughput/tokens_per_second",
}


def record(run: Path) -> dict[str, Any]:
    """Return the columns of all steps (the first is step 1) and the evaluations of a run."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [row["metrics"] for row in rows if "train/grad_norm" in row["metrics"]]
    evaluations = []
    for row in rows:
        if "eval/loss" not in row["metrics"]:
            continue
        lines = (run / f"predictions/eval-step-{row['step']}.jsonl").read_text(encoding="utf-8").splitlines()
        evaluations.append(
            {
                "step": row["step"],
                "eval_loss": round(row["metrics"]["eval/loss"], 5),
                "score": round(row["metrics"]["eval/rouge_combined_f1"], 5),
                "predictions": [json.loads(line)["prediction"] for line in lines[:ROWS]],
            }
        )
    columns = {name: [float(f"{step[key]:.5g}") for step in steps] for name, key in STEPS.items()}
    return {"steps": columns, "evaluations": evaluations}


if __name__ == "__main__":
    text = json.dumps(record(Path(sys.argv[1])), ensure_ascii=False, separators=(",", ":"))
    target = Path(__file__).parent / f"{sys.argv[2]}.json.gz"
    target.write_bytes(gzip.compress(text.encode(), mtime=0))
