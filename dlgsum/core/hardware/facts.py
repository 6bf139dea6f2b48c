"""What the probes found: plain values that travel as JSON. Sizes are in bytes; None is unknown, never zero."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GpuProcess:
    """A process that uses a card; the name is None where the process cannot be seen, as from inside a container."""

    pid: int
    name: str | None
    memory: int | None


@dataclass(frozen=True)
class NvidiaCard:
    """A card as its driver tells it, whether or not torch may use it.

    Attributes:
        index: the driver's number, which ignores CUDA_VISIBLE_DEVICES.
        pci: domain, bus and device, such as "0000:3b:00".
        temperature: degrees Celsius.
        power: watts, as is power_limit.
        utilization: percent of the time in which it computed.
        mig: whether the card is divided into instances.
        processes: others that use it; this process is left out.
    """

    index: int
    name: str
    uuid: str | None
    pci: str | None
    memory_total: int | None
    memory_used: int | None
    memory_free: int | None
    temperature: int | None
    power: float | None
    power_limit: float | None
    utilization: int | None
    capability: tuple[int, int] | None
    mig: bool | None
    processes: tuple[GpuProcess, ...]


@dataclass(frozen=True)
class NvidiaDriver:
    """What NVIDIA's management library (NVML) says.

    Attributes:
        error: NVML's name for what went wrong, such as "LibraryNotFound"; empty when it answered.
        message: the same in words.
        version: of the driver.
        cuda: the newest CUDA that the driver serves.
    """

    error: str
    message: str
    version: str | None
    cuda: tuple[int, int] | None
    cards: tuple[NvidiaCard, ...]


@dataclass(frozen=True)
class TorchDevice:
    """A card as torch numbers it, among those that CUDA_VISIBLE_DEVICES leaves.

    Attributes:
        precision: what ``precision=auto`` means on it for the configured model, with the reason.
    """

    index: int
    name: str
    uuid: str | None
    pci: str | None
    memory: int
    capability: tuple[int, int]
    bf16: bool
    fp16: bool
    tf32: bool
    precision: str
    precision_reason: str


@dataclass(frozen=True)
class Plan:
    """Where the configured job would run; ``problem`` says why it cannot, and is empty otherwise."""

    device: str = ""
    precision: str = ""
    reason: str = ""
    problem: str = ""


@dataclass(frozen=True)
class TorchFacts:
    """What torch says.

    Attributes:
        problem: why torch could not be asked; empty when it answered.
        cuda: the CUDA that torch was built for; None for a CPU build.
        hip: the ROCm that torch was built for.
        archs: the card generations it holds code for, such as "sm_90".
        cuda_problem: what torch said when it looked for CUDA devices.
        mps_memory: what Metal recommends to use at most.
    """

    problem: str = ""
    version: str | None = None
    cuda: str | None = None
    hip: str | None = None
    archs: tuple[str, ...] = ()
    cuda_available: bool = False
    cuda_problem: str = ""
    devices: tuple[TorchDevice, ...] = ()
    mps_available: bool = False
    mps_memory: int | None = None
    threads: int | None = None
    plan: Plan = Plan()


@dataclass(frozen=True)
class Product:
    """A matrix product that was computed on a device and compared with the CPU's in double precision.

    Attributes:
        device: torch's name, such as "cuda:0".
        size: rows and columns of both matrices.
        error: the largest difference, in standard deviations of an element.
        tolerance: the largest error that rounding explains.
        tflops: 10^12 operations per second.
        problem: empty when the result is right.
    """

    device: str
    dtype: str
    size: int
    error: float | None = None
    tolerance: float | None = None
    seconds: float | None = None
    tflops: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Cpu:
    """The processor.

    Attributes:
        usable: logical cores that this process may run on.
        quota: cores' worth of time that its container gives; None without a limit.
    """

    name: str
    logical: int
    physical: int | None
    usable: int
    quota: float | None

    @property
    def cores(self) -> float:
        """Cores that this process can really use."""
        return self.usable if self.quota is None else min(self.usable, self.quota)


@dataclass(frozen=True)
class Memory:
    """RAM: the machine's, and what the container (control group) allows of it; None without a limit."""

    total: int
    available: int
    limit: int | None
    limit_used: int | None

    @property
    def usable_total(self) -> int:
        """The smaller of machine and limit."""
        return self.total if self.limit is None else min(self.total, self.limit)

    @property
    def usable_available(self) -> int:
        """What can still be taken, under the limit too."""
        if self.limit is None:
            return self.available
        return max(0, min(self.available, self.limit - (self.limit_used or 0)))


@dataclass(frozen=True)
class Host:
    """Traces of NVIDIA cards and drivers on the machine, and what hides them.

    Attributes:
        system: "Linux", "Darwin" or "Windows".
        visible_devices: CUDA_VISIBLE_DEVICES; None when it is not set.
        container_devices: NVIDIA_VISIBLE_DEVICES, which container runtimes read.
        pci_cards: addresses of NVIDIA display controllers on the PCI bus.
        kernel_driver: version line of the loaded kernel module.
        device_nodes: /dev/nvidia0 and its kin, without the control nodes.
    """

    system: str
    container: bool
    wsl: bool
    visible_devices: str | None
    container_devices: str | None
    pci_cards: tuple[str, ...]
    kernel_driver: str | None
    device_nodes: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Everything that was found."""

    host: Host
    cpu: Cpu
    memory: Memory
    nvidia: NvidiaDriver
    torch: TorchFacts
