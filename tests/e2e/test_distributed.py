"""Two processes on one machine (gloo on the CPU): the same result, whoever starts them and whatever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import TINY
from tests.e2e.survival import finish, record, run_of, start

SETTINGS = [
    *TINY, "data=sample", "data.max_train_samples=64", "data.max_eval_samples=9", "training.num_train_epochs=3",
    "training.per_device_train_batch_size=4", "training.effective_batch_size=8", "training.eval_strategy=steps",
    "training.eval_steps=6", "training.logging_steps=5", "training.learning_rate=2e-3", "monitoring.samples=0",
    "model.mini.dropout=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run in two processes that nothing happened to."""
    folder = tmp_path_factory.mktemp("pair")
    code, out, err = finish(start(folder, "train", *SETTINGS, "--nproc", "2"))
    assert code == 0, err
    assert "2 processes x 1 batch of 4 rows make an effective batch of 8" in err
    assert out.count("rouge_combined_f1") == 2 and "best model" in out  # one process tells
    return folder


def test_two_processes_learn_what_one_does(pair: Path, tmp_path: Path) -> None:
    code, _, err = finish(start(tmp_path, "train", *SETTINGS))
    assert code == 0, err
    one, two = record(tmp_path)[0], record(pair)[0]
    assert [step for step, _ in one] == [step for step, _ in two]
    for (_, mine), (_, theirs) in zip(one, two, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)  # sums over processes are added in another order
    # 9 validation rows, of which one process had 5 batches' worth: each row is predicted once.
    run = run_of(pair)
    rows = [json.loads(line) for line in (run / "predictions" / "eval-step-6.jsonl").read_text().splitlines()]
    assert len(rows) == len({row["fname"] for row in rows}) == 9
    manifest = json.loads((run / "checkpoints" / "checkpoint-24" / "manifest.json").read_text())
    assert manifest["world_size"] == 2 and {"rng_state_0.pth", "rng_state_1.pth"} <= set(manifest["files"])


@pytest.mark.slow
def test_a_rank_that_dies_costs_nothing(pair: Path, tmp_path: Path) -> None:
    fault = {"where": "step", "at": 14, "do": "exit", "rank": 1, "once": str(tmp_path / "once")}
    code, _, err = finish(start(tmp_path, "train", *SETTINGS, "--nproc", "2", fault=fault))
    assert code == 0, err
    assert "rank 1 died with exit code 17" in err and "resumed     from step 12" in err
    assert record(tmp_path) == record(pair)
    events = [json.loads(line)["event"] for line in (run_of(tmp_path) / "events.jsonl").read_text().splitlines()]
    assert events.count("relaunch") == 1 and events.count("start") == 2


@pytest.mark.slow
def test_a_signal_saves_in_all_processes(pair: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "train", *SETTINGS, "--nproc", "2")
    _wait_for(lambda: list(tmp_path.glob("outputs/experiments/*/checkpoints/checkpoint-6")))
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 143, err
    run = run_of(tmp_path)
    assert f"dlgsum resume {run.name} --nproc 2" in err
    assert json.loads((run / "status.json").read_text())["status"] == "interrupted"
    code, _, err = finish(start(tmp_path, "resume", "--nproc", "2"))
    assert code == 0, err
    assert record(tmp_path) == record(pair)


@pytest.mark.slow
def test_a_rank_that_hangs_is_found(pair: Path, tmp_path: Path) -> None:
    fault = {"where": "step", "at": 14, "do": "hang", "rank": 1, "once": str(tmp_path / "once")}
    code, _, err = finish(
        start(tmp_path, "train", *SETTINGS, "distributed.hang_timeout=8", "--nproc", "2", fault=fault)
    )
    assert code == 0, err
    assert "no progress after step 1" in err and "distributed.hang_timeout" in err
    assert record(tmp_path) == record(pair)


@pytest.mark.slow
def test_running_out_of_memory_in_one_process_starts_all_again_with_smaller_parts(pair: Path, tmp_path: Path) -> None:
    fault = {"where": "step", "at": 14, "do": "oom", "rank": 1, "once": str(tmp_path / "once")}
    code, _, err = finish(start(tmp_path, "train", *SETTINGS, "--nproc", "2", fault=fault))
    assert code == 0, err
    assert "out of memory" in err and "resumed     from step 12" in err
    assert json.loads((run_of(tmp_path) / "micro_batches.json").read_text())["parts"] == 2
    # Parts are padded alike, but added in another order; a summary may then turn out otherwise.
    mine, theirs = (
        [metrics[name] for _, metrics in record(folder)[0] for name in ("train/loss", "eval/loss") if name in metrics]
        for folder in (tmp_path, pair)
    )
    assert mine == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_a_fault_that_comes_again_ends_the_run(tmp_path: Path) -> None:
    fault = {"where": "step", "at": 2, "do": "exit", "rank": 0}
    code, _, err = finish(
        start(tmp_path, "train", *SETTINGS, "distributed.max_relaunches=1", "--nproc", "2", fault=fault)
    )
    assert code == 5 and "rank 0 died with exit code 17" in err and "distributed.max_relaunches" in err


def test_what_another_start_cannot_mend_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("fname,dialogue,summary\n", encoding="utf-8")
    code, _, err = finish(
        start(tmp_path, "train", *SETTINGS, "data=csv", "data.train=t.csv", "data.validation=t.csv", "--nproc", "2")
    )
    assert code == 3 and "started again" not in err, err


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_torchrun_starts_it_as_well(pair: Path, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DLGSUM", "WANDB"))}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "localhost",
         "--nproc-per-node", "2", "-m", "dlgsum", "train", *SETTINGS],
        cwd=tmp_path, env={**clean, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("rouge_combined_f1") == 2
    assert record(tmp_path) == record(pair)


@pytest.mark.slow
def test_slurm_starts_it_as_well(pair: Path, tmp_path: Path) -> None:
    """As srun would: only its variables, each process for itself."""
    port = _free_port()
    processes = [
        start(
            tmp_path, "train", *SETTINGS, SLURM_JOB_ID="77", SLURM_STEP_ID="0", SLURM_PROCID=str(rank),
            SLURM_LOCALID=str(rank), SLURM_STEP_NUM_TASKS="2", SLURM_NTASKS="2", SLURM_STEP_TASKS_PER_NODE="2",
            SLURM_STEP_NODELIST="localhost", MASTER_PORT=str(port),
        )
        for rank in range(2)
    ]  # fmt: skip
    (code, out, err), (other, silent, _) = (finish(process) for process in processes)
    assert (code, other) == (0, 0), err
    assert "best model" in out and silent == ""
    assert record(tmp_path) == record(pair)


@pytest.mark.slow
def test_another_number_of_processes_keeps_the_effective_batch(pair: Path, tmp_path: Path) -> None:
    fault = {"where": "step", "at": 14, "do": "kill", "rank": 0, "once": str(tmp_path / "once")}
    code, _, err = finish(
        start(tmp_path, "train", *SETTINGS, "distributed.max_relaunches=0", "--nproc", "2", fault=fault)
    )
    assert code == 5, err
    code, _, err = finish(start(tmp_path, "resume"))
    assert code == 0, err
    assert "the checkpoint is of 2 processes, this run has 1" in err
    assert [step for step, _ in record(tmp_path)[0]] == [step for step, _ in record(pair)[0]]
    last, theirs = record(tmp_path)[0][-1][1], record(pair)[0][-1][1]
    assert last == pytest.approx(theirs, rel=1e-3)  # no dropout: the batches are the same


def _wait_for(found: Any, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)


def test_batches_that_cannot_be_shared_out_are_refused(tmp_path: Path) -> None:
    settings = [*SETTINGS, "training.per_device_train_batch_size=3", "training.effective_batch_size=9"]
    code, _, err = finish(start(tmp_path, "train", *settings, "--nproc", "2"))
    assert code == 2 and "cannot be divided among 2 processes; use 8" in err
    shutil.rmtree(tmp_path)
