"""Ask NVIDIA's management library about the cards; every question but the first may go unanswered."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from dlgsum.core.hardware.facts import GpuProcess, NvidiaCard, NvidiaDriver


def read_nvidia() -> NvidiaDriver:
    """Return what NVML says of driver and cards; nothing is raised, and the error is named where it does not answer."""
    try:
        import pynvml
    except ImportError as error:
        return NvidiaDriver("NotInstalled", f"nvidia-ml-py cannot be imported: {error}", None, None, ())
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return NvidiaDriver(type(error).__name__.removeprefix("NVMLError_"), str(error), None, None, ())
    try:
        return NvidiaDriver(
            "", "", _ask(pynvml.nvmlSystemGetDriverVersion), _cuda(), tuple(map(_card, range(_count())))
        )
    finally:
        _ask(pynvml.nvmlShutdown)


def pci_address(text: str | None) -> str | None:
    """Return domain, bus and device as "0000:3b:00" from any usual spelling; None for what is none."""
    found = re.fullmatch(r"(?:([0-9a-fA-F]+):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})(?:\.\d)?", (text or "").strip())
    if found is None:
        return None
    domain, bus, device = (int(part or "0", 16) for part in found.groups())
    return f"{domain:04x}:{bus:02x}:{device:02x}"


def _ask(question: Callable[..., Any], *arguments: Any) -> Any:
    """Return the answer; None where the card or the driver does not offer it."""
    import pynvml

    try:
        return question(*arguments)
    except pynvml.NVMLError:
        return None


def _count() -> int:
    import pynvml

    return _ask(pynvml.nvmlDeviceGetCount) or 0


def _cuda() -> tuple[int, int] | None:
    import pynvml

    number = _ask(pynvml.nvmlSystemGetCudaDriverVersion_v2)  # 12040 is 12.4
    return (number // 1000, number % 1000 // 10) if number else None


def _card(index: int) -> NvidiaCard:
    import pynvml

    handle = _ask(pynvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:  # a card that has fallen off the bus, or that this process may not open
        unknown = (None,) * 11
        return NvidiaCard(index, "a card that cannot be opened", *unknown, processes=())
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    rates = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    mig = _ask(pynvml.nvmlDeviceGetMigMode, handle)
    capability = _ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    return NvidiaCard(
        index=index,
        name=_ask(pynvml.nvmlDeviceGetName, handle) or "unnamed",
        uuid=_ask(pynvml.nvmlDeviceGetUUID, handle),
        pci=pci_address(getattr(_ask(pynvml.nvmlDeviceGetPciInfo, handle), "busId", None)),
        memory_total=None if memory is None else int(memory.total),
        memory_used=None if memory is None else int(memory.used),
        memory_free=None if memory is None else int(memory.free),
        temperature=_ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        power=_watts(_ask(pynvml.nvmlDeviceGetPowerUsage, handle)),
        power_limit=_watts(_ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
        utilization=None if rates is None else int(rates.gpu),
        capability=None if capability is None else (int(capability[0]), int(capability[1])),
        mig=None if mig is None else bool(mig[0]),
        processes=_processes(handle),
    )


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _processes(handle: Any) -> tuple[GpuProcess, ...]:
    """Return the other processes on a card, the largest first; one that computes and draws is listed once."""
    import pynvml

    memory: dict[int, int | None] = {}
    for question in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
        for process in _ask(question, handle) or ():
            known, used = memory.get(process.pid), process.usedGpuMemory
            memory[process.pid] = max(known, used) if known is not None and used is not None else used or known
    memory.pop(os.getpid(), None)
    found = [GpuProcess(pid, _name(pid), used) for pid, used in memory.items()]
    return tuple(sorted(found, key=lambda process: -(process.memory or 0)))


def _name(pid: int) -> str | None:
    import psutil

    try:
        return str(psutil.Process(pid).name())
    except (psutil.Error, OSError, ValueError):
        return None
