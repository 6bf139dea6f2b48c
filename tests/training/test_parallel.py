"""Groups of two real processes over gloo, started by hand, without torchrun."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.world import World
from dlgsum.training import parallel


def run_pair(code: str, *, sizes: tuple[int, int] = (2, 2)) -> list[tuple[int, str]]:
    """Run ``code`` in two processes; return exit code and standard output of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    start = "from dlgsum.core.world import current_world\nfrom dlgsum.training.parallel import *\nw = current_world()\n"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", start + code],
            env={
                **os.environ, "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank, size in enumerate(sizes)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


def test_alone_everything_is_trivial() -> None:
    parallel.start_group(World(), "cpu", 1)
    assert parallel.broadcast({"a": 1}) == {"a": 1}
    assert parallel.any_of(True) is True
    assert parallel.any_of(False) is False
    parallel.barrier()
    parallel.stop_group()


def test_two_processes_tell_one_another() -> None:
    code = """
start_group(w, "cpu", 60)
start_group(w, "cpu", 60)  # once more changes nothing
print(any_of(w.rank == 1), any_of(False), broadcast({"가": w.rank}), broadcast(f"from {w.rank}", source=1))
barrier()
stop_group()
stop_group()
"""
    assert run_pair(code) == [(0, "True False {'가': 0} from 1\n")] * 2


def test_a_process_that_died_is_reported_in_words() -> None:
    code = """
import os
start_group(w, "cpu", 60)
if w.rank == 1:
    os._exit(17)
try:
    any_of(False)
except GroupBroken as error:
    print(error.exit_code, error)
stop_group()
"""
    (code0, output), (code1, _) = run_pair(code)
    assert (code0, code1) == (0, 17)
    assert output.startswith("5 The 2 processes lost one another: ")
    assert "its log says why" in output
    assert ".cc:" not in output and "typically" not in output


@pytest.mark.slow
def test_a_silent_process_is_waited_for_no_longer_than_the_timeout(tmp_path: Path) -> None:
    code = f"""
import pathlib, sys, time
start_group(w, "cpu", 3)
given_up = pathlib.Path({str(tmp_path / "given up")!r})
if w.rank == 1:  # silent, but alive until the other has given up
    until = time.monotonic() + 90
    while not given_up.exists():
        time.sleep(0.1)
        if time.monotonic() > until:
            sys.exit(1)
else:
    try:
        barrier()
    except GroupBroken:
        given_up.touch()
stop_group()
"""
    assert run_pair(code) == [(0, ""), (0, "")]


@pytest.mark.slow
def test_processes_that_do_not_come_together() -> None:
    code = """
try:
    start_group(w, "cpu", 2)
except GroupBroken as error:
    print(error.message)
"""
    (returned, output), _ = run_pair(code, sizes=(2, 1))  # the second one believes that it is alone
    assert returned == 0
    assert output.startswith("The processes did not find one another: ")


def test_transformers_takes_over_the_group() -> None:
    code = """
import torch, torch.distributed as dist, warnings
from transformers import Trainer, TrainingArguments, BartConfig, BartForConditionalGeneration
start_group(w, "cpu", 97)
before = dist.group.WORLD
arguments = TrainingArguments(
    "/nonexistent", use_cpu=True, max_steps=2, save_strategy="no", report_to="none", disable_tqdm=True,
    per_device_train_batch_size=2,
)
print(arguments.world_size, arguments.process_index, arguments.parallel_mode.value, dist.group.WORLD is before)
torch.manual_seed(1)
model = BartForConditionalGeneration(BartConfig(
    vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
    decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=16,
))
rows = [{"input_ids": torch.tensor([3, 4, 5 + i]), "labels": torch.tensor([3, 5 + i, 2])} for i in range(8)]
trainer = Trainer(model, arguments, train_dataset=rows)
trainer.train()
ours = [float(p.double().sum()) for p in model.parameters()]
print(dist.group.WORLD is before, ours == broadcast(ours), any_of(not torch.isfinite(torch.tensor(ours)).all()))
print(dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu")).options._timeout)
stop_group()
"""
    outputs = run_pair(code)
    for rank, (returned, output) in enumerate(outputs):
        assert returned == 0
        lines = [line for line in output.splitlines() if not line.startswith("{")]  # the first process shows its losses
        assert lines == [f"2 {rank} distributed True", "True True False", "0:01:37"]


def test_a_device_that_cannot_be_shared() -> None:
    with pytest.raises(EnvironmentProblem, match=r"general\.device=mps cannot be used by 2 processes"):
        parallel.start_group(World(0, 2, 0, 2, "torchrun"), "mps", 1)


def test_a_process_without_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(EnvironmentProblem, match="has 1 card for 2 processes") as raised:
        parallel.start_group(World(1, 2, 1, 2, "torchrun"), "cuda", 1)
    assert "at most 1" in raised.value.hint
