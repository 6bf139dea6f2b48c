"""Memory of a device: recognising that it ran out, measuring its peak, and keeping a step within a limit."""

from __future__ import annotations

import gc
import math
import re
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GIB = 2**30

# Only what says by itself that an allocation failed. CUBLAS_STATUS_NOT_INITIALIZED, which often means the same, is left
# out: a device-side assert shows it too, and smaller batches would hide that one.
_OUT_OF_MEMORY = re.compile(
    r"(CUDA|HIP|MPS backend|XPU) out of memory"
    r"|(CUDA|HIP)( driver)? error: out of memory"  # outside torch's own allocator
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUSPARSE_STATUS_INSUFFICIENT_RESOURCES|HIPBLAS_STATUS_ALLOC_FAILED"
    r"|CUDNN_STATUS_ALLOC_FAILED|CUDNN_STATUS_INTERNAL_ERROR_(DEVICE|HOST)_ALLOCATION_FAILED"
    r"|DefaultCPUAllocator: (can't allocate|not enough) memory"
    r"|Cuda failure (\d+ )?'out of memory'"  # NCCL, in what it calls an unhandled CUDA error
)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, by its type or its text, or those of what caused it.

    Other failures of a device (a device-side assert, an illegal access) are not taken for it.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, (torch.OutOfMemoryError, MemoryError)):
            return True
        if isinstance(cause, RuntimeError) and _OUT_OF_MEMORY.search(str(cause)):
            return True
        cause = cause.__cause__
    return False


def release_memory() -> None:
    """Give back what no tensor needs any more, after an attempt for which memory ran out."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class LimitedMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors alive, and plays a device that has no more than ``limit`` of them.

    Counted are the storages that torch operations return while the mode is on, in the backward pass and the optimizer
    too, and those given to ``count``. Not counted is what no tensor shows: workspaces inside a kernel, fragmentation,
    the context of a card. An in-place resize of a storage is not noticed.

    Args:
        limit: bytes; None only counts.

    Attributes:
        live: bytes of the tensors alive now.
        peak: the most that ``live`` has been.

    Raises:
        torch.OutOfMemoryError: by the operation whose result does not fit any more.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit = limit
        self.live = 0
        self.peak = 0
        self._seen: dict[int, weakref.finalize[Any, Any]] = {}

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were there before, such as a model's weights."""
        for tensor in tensors:
            self._add(tensor)
        self._check(0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Do an operation, and count the storages that are new in its result."""
        result = func(*args, **(kwargs or {}))
        before = self.live
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf)
        self._check(self.live - before)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._seen.get(key)
        if known is not None and known.alive:
            return
        size = storage.nbytes()
        # torch keeps a storage's Python object for as long as the memory, whoever holds it.
        self._seen[key] = weakref.finalize(storage, self._forget, key, size)
        self._seen[key].atexit = False
        self.live += size

    def _forget(self, key: int, size: int) -> None:
        self._seen.pop(key, None)
        self.live -= size

    def _check(self, wanted: int) -> None:
        self.peak = max(self.peak, self.live)
        if self.limit is not None and self.live > self.limit:
            raise torch.OutOfMemoryError(
                f"simulated device out of memory: tried to allocate {wanted:,} bytes, {self.live - wanted:,} of "
                f"{self.limit:,} were in use"
            )


@dataclass(frozen=True)
class Free:
    """Bytes that a device has, and has free."""

    free: int
    total: int


def free_memory(device: str) -> Free:
    """Return the memory of ``cuda`` (the current card), ``mps`` or ``cpu``, there within the container's limit.

    On CUDA this makes the context first, so that what it takes is not called free.
    """
    if device == "cuda":
        torch.zeros(1, device="cuda")
        free, total = torch.cuda.mem_get_info()
        return Free(free + torch.cuda.memory_reserved(), total)
    if device == "mps":
        total = torch.mps.recommended_max_memory()
        return Free(total - torch.mps.driver_allocated_memory(), total)
    memory = psutil.virtual_memory()
    limit, used = _container()
    return Free(int(min(memory.available, limit - used)), int(min(memory.total, limit)))


def _container(root: Path = Path("/sys/fs/cgroup")) -> tuple[float, int]:
    """Return limit and use of memory in this container, files that could be dropped not counted; no limit is inf."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, now = (root / limit).read_text().strip(), int((root / used).read_text())
            stat = dict(line.split() for line in (root / used).with_name("memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        # Without a limit version 1 gives a number near 2^63.
        bound = math.inf if most == "max" or int(most) >= 2**60 else int(most)
        return bound, now - int(stat.get(cache, 0))
    return math.inf, 0


Counting = Literal["device", "tensors", "process"]


class Meter:
    """The peak of memory since the meter was made.

    Attributes:
        counting: ``device``: what torch's allocator holds of a card, unused blocks included; ``tensors``: the bytes of
            tensors; ``process``: what the process holds of main memory, its programs included.
    """

    def __init__(self, device: str, limited: LimitedMemory | None = None) -> None:
        self._device = device
        self._limited = limited
        self.counting: Counting = "tensors" if limited else "process" if device == "cpu" else "device"

    @property
    def peak(self) -> int:
        """Bytes; on MPS, which keeps no record of the peak, those held now."""
        if self._limited is not None:
            return self._limited.peak
        if self._device == "cuda":
            return torch.cuda.max_memory_reserved()
        return torch.mps.driver_allocated_memory() if self._device == "mps" else _peak_of_process()

    def count(self, model: torch.nn.Module) -> None:
        """Count a model that was there before.

        Raises:
            torch.OutOfMemoryError: it alone is more than the limit.
        """
        if self._limited is not None:
            self._limited.count([*model.parameters(), *model.buffers()])


def _peak_of_process() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def metered(device: str, limit: int, *, simulated: bool) -> Iterator[Meter]:
    """Measure the peak of memory in a block, and let the block have no more than ``limit`` bytes.

    On CUDA the limit is that of torch's allocator, which first gives back blocks it does not use, as at the true end of
    a card. On a CPU it holds for tensors where ``simulated``, and otherwise not at all: a process cannot be kept from
    taking more, so its peak is to be watched from outside.

    Raises:
        torch.OutOfMemoryError: the block wanted more.
    """
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / torch.cuda.mem_get_info()[1]))
        try:
            yield Meter(device)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    elif device == "mps":
        torch.mps.set_per_process_memory_fraction(min(2.0, limit / torch.mps.recommended_max_memory()))
        yield Meter(device)
    elif simulated:
        with LimitedMemory(limit) as limited:
            yield Meter(device, limited)
    else:
        yield Meter(device)
