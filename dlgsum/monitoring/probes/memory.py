"""Memory of the device and of the host, read without waiting for the device."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache

import torch

from dlgsum.core.hardware.cgroups import read_limits
from dlgsum.core.hardware.host import read_memory

logger = logging.getLogger(__name__)

GB = 1e9


class MemoryProbe:
    """Read how much memory is in use. A source that fails is left out from then on, with one line in the log.

    Args:
        device: where the model is.

    Attributes:
        device_bytes: memory of tensors on the device at the last ``read``; None where it is not known, as on a CPU.
        host_bytes: main memory of this process (RSS) at the last ``read``; None where it is not known.
    """

    def __init__(self, device: torch.device) -> None:
        self.device_bytes: float | None = None
        self.host_bytes: float | None = None
        self._device = device
        self._sources: dict[str, Callable[[], dict[str, float]]] = {"main memory": self._host, "RAM": _ram}
        if device.type == "cuda":
            self._sources |= {"memory of the card": self._cuda, "memory of other processes on the card": self._others}
        elif device.type == "mps":
            self._sources["memory of the device"] = self._mps

    def read(self) -> dict[str, float]:
        """Return what is in use now, in GB of 10^9 bytes; what is not known is left out.

        On CUDA ``gpu/memory_allocated_gb`` (tensors), ``gpu/memory_reserved_gb`` (held by torch's allocator),
        ``gpu/memory_peak_gb`` (most that tensors had), ``gpu/memory_total_gb``, ``gpu/memory_utilization`` (percent of
        the total that tensors have) and ``gpu/memory_other_gb`` (all other processes together, if the driver tells
        how much this one has). On MPS the same without peak and other; its total is what Metal recommends at most.
        Always ``host/rss_gb`` (this process, without the workers that load data), ``host/ram_used_gb`` and
        ``host/ram_total_gb`` (of the machine, or of the container where that has less).
        """
        self.device_bytes = self.host_bytes = None
        found: dict[str, float] = {}
        for name, source in list(self._sources.items()):
            try:
                found |= source()
            except Exception as error:  # drivers raise many kinds; none may stop a training run
                del self._sources[name]
                logger.info("%s is no longer watched (%s: %s)", name, type(error).__name__, error)
        return found

    def _host(self) -> dict[str, float]:
        import psutil

        self.host_bytes = float(psutil.Process().memory_info().rss)
        return {"host/rss_gb": self.host_bytes / GB}

    def _cuda(self) -> dict[str, float]:
        stats = torch.cuda.memory_stats(self._device)
        allocated = stats.get("allocated_bytes.all.current", 0)  # empty before the first tensor
        total = torch.cuda.get_device_properties(self._device).total_memory
        self.device_bytes = float(allocated)
        return _shares(allocated, stats.get("reserved_bytes.all.current", 0), total) | {
            "gpu/memory_peak_gb": stats.get("allocated_bytes.all.peak", 0) / GB
        }

    def _mps(self) -> dict[str, float]:
        allocated = torch.mps.current_allocated_memory()
        self.device_bytes = float(allocated)
        return _shares(allocated, torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory())

    def _others(self) -> dict[str, float]:
        others = other_processes(str(torch.cuda.get_device_properties(self._device).uuid))
        return {} if others is None else {"gpu/memory_other_gb": others / GB}


def _shares(allocated: int, reserved: int, total: int) -> dict[str, float]:
    return {
        "gpu/memory_allocated_gb": allocated / GB,
        "gpu/memory_reserved_gb": reserved / GB,
        "gpu/memory_total_gb": total / GB,
        "gpu/memory_utilization": 100 * allocated / total,
    }


def _ram() -> dict[str, float]:
    memory = read_memory(read_limits())
    total = memory.usable_total
    return {"host/ram_used_gb": (total - memory.usable_available) / GB, "host/ram_total_gb": total / GB}


def other_processes(uuid: str) -> int | None:
    """Return the bytes that all but this process have on an NVIDIA card; the driver's own reserve is not counted.

    Args:
        uuid: of the card, as torch tells it, without "GPU-".

    Returns:
        None where the driver does not say how much this process has: in a container that hides process numbers, on
        Windows, or on a card that is divided (MIG).

    Raises:
        pynvml.NVMLError: the driver does not answer.
        ImportError: nvidia-ml-py is missing.
    """
    import pynvml

    _start_nvml()
    handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    mine = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
    if not mine or mine[0] is None:
        return None
    used = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).used
    return max(0, int(used) - int(mine[0]))


@cache
def _start_nvml() -> None:
    """Start the driver's library once, for as long as the process lives: starting it is the slow part."""
    import pynvml

    pynvml.nvmlInit()
