"""Everything tried before it costs time: `train --dry-run` and `doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.conftest import HEADER, TINY, Dlgsum, rows

CHECKS = [
    "output folder", "data and tokenizer", "model", "step at the longest rows", "checkpoint", "4 steps at typical rows",
    "generation", "scoring",
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    (tmp_path / "train.csv").write_text(HEADER + rows(40), encoding="utf-8")
    (tmp_path / "dev.csv").write_text(HEADER + rows(8, first=100), encoding="utf-8")
    return ["data=csv", "data.train=train.csv", "data.validation=dev.csv"]


def test_everything_is_tried_and_nothing_is_kept(tmp_path: Path, dlgsum: Dlgsum, data: list[str]) -> None:
    done = dlgsum("train", *TINY, *data, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in CHECKS:
        assert f"ok      {name}" in done.stderr
    for part in ("a full run", "10 steps", "2 checkpoints", "2 evaluations"):
        assert part in done.stdout
    # Tokenized rows are kept on purpose: the real run reuses them.
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["cache"]


@pytest.mark.slow
def test_json(tmp_path: Path, dlgsum: Dlgsum, data: list[str]) -> None:
    batches = ["training.effective_batch_size=16", "training.eval_strategy=steps", "training.eval_steps=2"]
    done = dlgsum("train", *TINY, *data, *batches, "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [check["name"] for check in told["checks"]] == CHECKS
    # 40 rows in batches of 8, two batches a step: 3 steps an epoch, 2 epochs.
    assert (told["estimate"]["steps"], told["estimate"]["evaluations"]) == (6, 3)
    assert 0 < told["seconds"]["least"] < told["seconds"]["most"] and told["estimate"]["disk"] > 0


@pytest.mark.slow
def test_batches_filled_by_tokens_are_tried_at_their_widest_too(
    tmp_path: Path, dlgsum: Dlgsum, data: list[str]
) -> None:
    # Many short sources fit a batch beside few long ones: there are the most target tokens.
    long = "".join(f'l_{i},"{"#Person1#: 네. " * 12}",#Person1#은 {i}.,x\n' for i in range(4))
    (tmp_path / "train.csv").write_text(HEADER + rows(40) + long, encoding="utf-8")
    tokens = ["training.batching=tokens", "training.tokens_per_batch=400"]
    done = dlgsum("train", *TINY, *data, *tokens, "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check["details"][0] for check in json.loads(done.stdout)["checks"]}
    longest, widest = checks["step at the longest rows"], checks["step with most target tokens"]
    assert int(widest.split(": ")[1].split()[0]) > int(longest.split(": ")[1].split()[0])


@pytest.mark.slow
def test_a_validation_set_that_was_trained_on_stops_it(tmp_path: Path, dlgsum: Dlgsum, data: list[str]) -> None:
    same = [*data[:2], "data.validation=train.csv"]
    done = dlgsum("train", *TINY, *same, "--dry-run", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "40 of the dialogues in validation (100.0 %) are in train too" in done.stderr
    assert done.stderr.count("are in train too") == 1
    meant = dlgsum("train", *TINY, *same, "data.allow_leak=true", "--dry-run", cwd=tmp_path)
    assert meant.returncode == 0, meant.stderr
    assert "warning: train/validation: 40 of the dialogues" in meant.stderr


def test_a_folder_that_cannot_be_written(tmp_path: Path, dlgsum: Dlgsum, data: list[str]) -> None:
    (tmp_path / "file").write_text("")
    done = dlgsum("train", *TINY, *data, "general.output_dir=file/x", "--dry-run", cwd=tmp_path)
    assert done.returncode == 4
    assert "file/x" in done.stderr and "general.output_dir=DIR" in done.stderr


@pytest.mark.slow
def test_a_scorer_that_cannot_read_korean_is_said(tmp_path: Path, dlgsum: Dlgsum, data: list[str]) -> None:
    lines = [f'r_{i},"#Person1#: {i}시에 봐요.\n#Person2#: 네.",두 사람이 만나기로 한다.,약속\n' for i in range(48)]
    (tmp_path / "train.csv").write_text(HEADER + "".join(lines[:40]), encoding="utf-8")
    (tmp_path / "dev.csv").write_text(HEADER + "".join(lines[40:]), encoding="utf-8")
    done = dlgsum("train", *TINY, *data, "metrics.scorer=google", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning scoring" in done.stderr and "metrics.scorer=google cannot read all of them" in done.stderr


@pytest.fixture
def index() -> Iterator[str]:
    """Yield the address of a server that answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_interrupted(tmp_path: Path, data: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dlgsum", "train", *TINY, *data, "--dry-run"],
        cwd=tmp_path, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert "output folder" in process.stderr.readline()
    process.terminate()
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 143
    assert "error: Interrupted (SIGTERM); nothing was kept." in rest and "None" not in rest
    assert not list((tmp_path / "outputs").glob(".dry-run-*"))


def test_doctor(tmp_path: Path, dlgsum: Dlgsum, index: str) -> None:
    done = dlgsum(
        "doctor", "--json", cwd=tmp_path, WANDB_API_KEY="s3cr3t" * 7, LEARNING_RATE="1e-4", PIP_INDEX_URL=index
    )
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert list(checks) == [
        "versions", "settings", "device", "folders", "hub", "package index", "W&B", "text", "scorers",
        "a small training run",
    ]  # fmt: skip
    assert checks["a small training run"]["status"] == "ok"
    assert checks["scorers"]["details"][:2] == ["whitespace 0.7273/0.6667/0.7273", "char 0.8000/0.7143/0.8000"]
    assert checks["package index"]["status"] == "ok" and "answered" in checks["package index"]["details"][0]
    assert checks["hub"]["status"] == "warning" and "HF_HUB_OFFLINE" in checks["hub"]["details"][0]
    assert any("LEARNING_RATE" in detail for detail in checks["settings"]["details"])
    assert "s3cr3t" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.slow
def test_doctor_on_a_machine_that_cannot(tmp_path: Path, dlgsum: Dlgsum) -> None:
    done = dlgsum(
        "doctor", cwd=tmp_path, OUTPUT_DIR="/proc/nowhere", BATCH_SIZE="x", PIP_INDEX_URL="http://127.0.0.1:9/"
    )
    assert done.returncode == 4
    assert "failed  settings" in done.stderr and "BATCH_SIZE" in done.stderr
    assert "warning package index" in done.stderr
    assert "failed" in done.stdout
