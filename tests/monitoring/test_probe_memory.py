"""Memory of the host for real; of a card with stand-ins for torch's and the driver's answers, as there is none here."""

from __future__ import annotations

import logging
import os
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from dlgsum.core.hardware.facts import Memory
from dlgsum.monitoring.probes import memory
from dlgsum.monitoring.probes.memory import MemoryProbe, other_processes

HOST = {"host/rss_gb", "host/ram_used_gb", "host/ram_total_gb"}


def test_on_a_cpu_only_the_host_is_told() -> None:
    probe = MemoryProbe(torch.device("cpu"))
    assert (probe.device_bytes, probe.host_bytes) == (None, None)
    found = probe.read()
    assert set(found) == HOST
    assert probe.device_bytes is None
    assert probe.host_bytes == found["host/rss_gb"] * 1e9
    assert 0 < found["host/rss_gb"] <= found["host/ram_total_gb"]
    assert 0 < found["host/ram_used_gb"] <= found["host/ram_total_gb"]


def test_a_block_that_is_held_shows_in_the_process() -> None:
    probe = MemoryProbe(torch.device("cpu"))
    before = probe.read()["host/rss_gb"]
    block = torch.ones(50_000_000)  # 0.2 GB
    assert probe.read()["host/rss_gb"] - before > 0.75 * block.nbytes / 1e9


def test_the_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "read_memory", lambda limits: Memory(64 * 10**9, 60 * 10**9, 8 * 10**9, 5 * 10**9))
    found = MemoryProbe(torch.device("cpu")).read()
    assert (found["host/ram_total_gb"], found["host/ram_used_gb"]) == (8.0, 5.0)


def test_a_source_that_fails_is_left_out_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Any:
        raise OSError("no /proc here")

    monkeypatch.setattr(memory, "read_limits", broken)
    probe = MemoryProbe(torch.device("cpu"))
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert set(probe.read()) == {"host/rss_gb"}
    assert [record.getMessage() for record in caplog.records] == ["RAM is no longer watched (OSError: no /proc here)"]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand in for torch and the driver; nothing may wait for the card."""
    stats = {
        "allocated_bytes.all.current": 6 * 10**9, "allocated_bytes.all.peak": 9 * 10**9,
        "reserved_bytes.all.current": 10 * 10**9,
    }  # fmt: skip
    answers: dict[str, Any] = {"stats": stats, "used": 15 * 10**9, "processes": [(os.getpid(), 11 * 10**9)], "open": 0}
    asked: list[str] = []
    memory._start_nvml.cache_clear()

    def opened(by: int) -> Any:
        answers["open"] += by

    def handle(uuid: str) -> str:
        asked.append(uuid)
        return "card"

    def waits(*arguments: Any) -> None:
        pytest.fail("a measurement waited for the card")

    properties = SimpleNamespace(total_memory=24 * 10**9, uuid="abc-1")
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: answers["stats"])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "synchronize", waits)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: opened(1))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", handle)
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetComputeRunningProcesses",
        lambda card: [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in answers["processes"]],
    )  # fmt: skip
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda card, version: SimpleNamespace(used=answers["used"]))
    answers["asked"] = asked
    return answers


def test_what_a_card_tells(card: dict[str, Any]) -> None:
    probe = MemoryProbe(torch.device("cuda", 0))
    found = probe.read()
    assert {name: value for name, value in found.items() if name.startswith("gpu/")} == {
        "gpu/memory_allocated_gb": 6.0,
        "gpu/memory_reserved_gb": 10.0,
        "gpu/memory_peak_gb": 9.0,
        "gpu/memory_total_gb": 24.0,
        "gpu/memory_utilization": 25.0,
        "gpu/memory_other_gb": 4.0,
    }
    assert set(found) >= HOST
    assert probe.device_bytes == 6e9
    probe.read()
    assert card["asked"] == 2 * ["GPU-abc-1"]
    assert card["open"] == 1, "starting the library is the slow part"


def test_before_the_first_tensor_a_card_is_empty(card: dict[str, Any]) -> None:
    card["stats"] = {}
    found = MemoryProbe(torch.device("cuda", 0)).read()
    assert found["gpu/memory_allocated_gb"] == found["gpu/memory_peak_gb"] == found["gpu/memory_utilization"] == 0.0


@pytest.mark.parametrize("processes", [[], [(1, 10**9)], [(os.getpid(), None)]])
def test_what_other_processes_have_is_never_guessed(card: dict[str, Any], processes: list[Any]) -> None:
    """In a container the driver may tell the numbers that processes have on the host: this one is not found then."""
    card["processes"] = processes
    assert other_processes("abc-1") is None
    assert "gpu/memory_other_gb" not in MemoryProbe(torch.device("cuda", 0)).read()


def test_a_card_without_its_driver_library_tells_the_rest(
    card: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    caplog.set_level(logging.INFO)
    probe = MemoryProbe(torch.device("cuda", 0))
    for _ in range(2):
        found = probe.read()
    assert found["gpu/memory_allocated_gb"] == 6.0 and "gpu/memory_other_gb" not in found
    assert len(caplog.records) == 1 and "other processes" in caplog.text


def test_what_mps_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 3 * 10**9)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 4 * 10**9)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 * 10**9)
    probe = MemoryProbe(torch.device("mps"))
    found = {name: value for name, value in probe.read().items() if name.startswith("gpu/")}
    assert found == {
        "gpu/memory_allocated_gb": 3.0, "gpu/memory_reserved_gb": 4.0, "gpu/memory_total_gb": 12.0,
        "gpu/memory_utilization": 25.0,
    }  # fmt: skip
    assert probe.device_bytes == 3e9
