"""Out of memory is told from other failures, and the simulated device counts what torch has alive."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from torch import nn

from dlgsum.training import memory
from dlgsum.training.memory import LimitedMemory, free_memory, is_out_of_memory, metered

MIB = 2**20


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("whatever it says"),
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 36.00 MiB (GPU 0; 7.93 GiB total capacity)"),
        RuntimeError("HIP out of memory. Tried to allocate 1 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.0 GB)"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 400000000000000 bytes. Error code 12 (Cannot allocate memory)"
        ),
        RuntimeError("NCCL error, ncclUnhandledCudaError: Call to CUDA failed.\nCuda failure 2 'out of memory'"),
    ],
)
def test_running_out_of_memory_is_recognised(error: BaseException):
    assert is_out_of_memory(error)
    wrapped = ValueError("a step failed")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
        RuntimeError("NCCL error, ncclUnhandledCudaError: Cuda failure 999 'unknown error'"),
        IndexError("index out of range in self"),
        ValueError("CUDA out of memory"),
        KeyboardInterrupt(),
    ],
)
def test_other_failures_are_not_taken_for_it(error: BaseException):
    assert not is_out_of_memory(error)


def test_a_ring_of_causes_ends():
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_out_of_memory(first)


def test_an_allocation_that_really_fails_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)


def test_live_bytes_follow_what_is_made_and_dropped():
    with LimitedMemory() as counted:
        first = torch.zeros(MIB)  # 4 MiB
        view = first[: MIB // 2].view(2, -1)
        assert counted.live == 4 * MIB, "a view takes nothing"
        second = first + 1
        assert counted.live == 8 * MIB
        del first
        assert counted.live == 8 * MIB, "the view still holds the storage"
        del view
        gc.collect()
        assert counted.live == 4 * MIB
        second += 1
        assert counted.live == 4 * MIB
        del second
    assert counted.live == 0
    assert counted.peak == 8 * MIB


def test_the_backward_pass_and_the_optimizer_are_counted():
    layer = nn.Linear(512, 512, bias=False)  # 1 MiB of weights
    optimizer = torch.optim.AdamW(layer.parameters(), foreach=False)
    with LimitedMemory() as counted:
        counted.count(layer.parameters())
        assert counted.live == MIB
        layer(torch.ones(64, 512)).sum().backward()
        assert counted.live >= 2 * MIB, "gradients"
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert 3 * MIB <= counted.live < 3.2 * MIB, "weights and two moments"
    assert counted.peak >= 4 * MIB


def test_a_training_step_grows_with_its_rows_and_stops_at_the_limit():
    model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 256))

    def peak(rows: int, limit: int | None = None) -> int:
        model.zero_grad(set_to_none=True)
        with LimitedMemory(limit) as counted:
            counted.count(model.parameters())
            model(torch.ones(rows, 256)).sum().backward()
        return counted.peak

    small, double, large = peak(1000), peak(2000), peak(10_000)
    assert 8.5 < (large - small) / (double - small) < 9.5
    assert peak(10_000, limit=large) == large
    with pytest.raises(torch.OutOfMemoryError, match="simulated device out of memory") as caught:
        peak(10_000, limit=large - 1)
    assert is_out_of_memory(caught.value)


def test_weights_alone_can_be_too_much():
    with pytest.raises(torch.OutOfMemoryError), metered("cpu", MIB // 2, simulated=True) as meter:
        meter.count(nn.Linear(512, 512))


def test_the_peak_of_the_process_is_that_of_main_memory():
    with metered("cpu", 1, simulated=False) as meter:
        block = torch.ones(64 * MIB)  # 256 MiB
        assert meter.counting == "process"
        assert meter.peak > 256 * MIB
        del block


def test_free_memory_of_this_machine():
    found = free_memory("cpu")
    assert 0 < found.free <= found.total


def test_the_limit_of_a_container_counts(tmp_path: Path):
    assert memory._container(tmp_path / "none") == (float("inf"), 0)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    (tmp_path / "memory.stat").write_text("anon 300000\ninactive_file 100000\n")
    assert memory._container(tmp_path) == (1_000_000, 300_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._container(tmp_path)[0] == float("inf")


def test_on_cuda_the_allocator_keeps_the_limit(monkeypatch: pytest.MonkeyPatch):
    """What is asked of torch, for machines without a card: only the calls are checked, not what a card does."""
    calls: list[object] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6 * 2**30, 8 * 2**30))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", calls.append)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 123)
    with pytest.raises(ValueError, match="stop"), metered("cuda", 2 * 2**30, simulated=False) as meter:
        assert (meter.counting, meter.peak) == ("device", 123)
        raise ValueError("stop")
    assert calls == ["empty", "reset", 0.25, 1.0]
