"""Look at processor, memory, and the traces that NVIDIA cards and their driver leave on a machine."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from dlgsum.core.hardware.cgroups import Limits, read_limits
from dlgsum.core.hardware.facts import Cpu, Facts, Host, Memory, TorchFacts
from dlgsum.core.hardware.nvml import read_nvidia

_NVIDIA = "0x10de"
_DISPLAY = "0x03"  # the PCI class of display controllers; an NVIDIA sound device is of another


def gather(torch: TorchFacts) -> Facts:
    """Return everything about this machine, with what torch said."""
    limits = read_limits()
    return Facts(read_host(), read_cpu(limits), read_memory(limits), read_nvidia(), torch)


def read_cpu(limits: Limits) -> Cpu:
    """Return the processor, and what this process may use of it."""
    import psutil

    logical = psutil.cpu_count() or os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    return Cpu(_cpu_name(), logical, psutil.cpu_count(logical=False), usable, limits.cpus)


def read_memory(limits: Limits) -> Memory:
    """Return RAM, and what this process may use of it."""
    import psutil

    memory = psutil.virtual_memory()
    return Memory(int(memory.total), int(memory.available), limits.memory, limits.memory_used)


def read_host(root: Path = Path("/"), environ: Mapping[str, str] = os.environ, system: str | None = None) -> Host:
    """Return the traces of cards and drivers.

    Args:
        root: folder that holds ``proc``, ``sys`` and ``dev``.
        environ: the environment variables.
        system: as ``platform.system()`` says it, which is the default.
    """
    driver = _text(root / "proc/driver/nvidia/version")
    nodes = sorted(path.name for path in (root / "dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
    return Host(
        system=system or platform.system(),
        container=_in_container(root, environ),
        wsl="microsoft" in _text(root / "proc/version").lower(),
        visible_devices=environ.get("CUDA_VISIBLE_DEVICES"),
        container_devices=environ.get("NVIDIA_VISIBLE_DEVICES"),
        pci_cards=tuple(sorted(path.parent.name for path in (root / "sys/bus/pci/devices").glob("*/vendor")
                               if _is_card(path.parent))),
        kernel_driver=driver.splitlines()[0].strip() if driver.strip() else None,
        device_nodes=tuple(f"/dev/{name}" for name in nodes),
    )  # fmt: skip


def _is_card(device: Path) -> bool:
    return _text(device / "vendor").strip() == _NVIDIA and _text(device / "class").strip().startswith(_DISPLAY)


def _in_container(root: Path, environ: Mapping[str, str]) -> bool:
    if environ.get("container") or (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return True
    return re.search(r"docker|kubepods|containerd|libpod|/lxc", _text(root / "proc/1/cgroup")) is not None


def _cpu_name() -> str:
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
