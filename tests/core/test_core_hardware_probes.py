"""The probes: made-up control groups, device trees and drivers, and this machine's disk, processor and torch."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from dlgsum.core.hardware import disk as disks
from dlgsum.core.hardware import host as hosts
from dlgsum.core.hardware import products
from dlgsum.core.hardware.ask_torch import ask_torch, understood
from dlgsum.core.hardware.cgroups import Limits, read_limits
from dlgsum.core.hardware.disk import measure_disk
from dlgsum.core.hardware.facts import Product, TorchDevice, TorchFacts
from dlgsum.core.hardware.nvml import pci_address, read_nvidia
from dlgsum.core.hardware.torch_probe import probe_torch

MIB, GIB = 2**20, 2**30


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "31 23 0:28 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n24 1 0:2 / /proc rw - proc proc rw\n"
V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "36 31 0:33 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
)


def test_limits_of_version_2_the_smallest_of_all_above_counts(tmp_path: Path):
    group = "sys/fs/cgroup/user.slice/job"
    root = tree(tmp_path, {
        "proc/self/cgroup": "0::/user.slice/job\n", "proc/self/mountinfo": V2.format(root="/"),
        f"{group}/memory.max": "max\n", f"{group}/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/user.slice/memory.max": f"{8 * GIB}\n", "sys/fs/cgroup/user.slice/cpu.max": "max 100000\n",
        "sys/fs/cgroup/user.slice/memory.current": f"{5 * GIB}\n",
        "sys/fs/cgroup/user.slice/memory.stat": f"anon 1\ninactive_file {2 * GIB}\n",
    })  # fmt: skip
    assert read_limits(root) == Limits(8 * GIB, 3 * GIB, 1.5)


@pytest.mark.parametrize(
    ("mounted", "path"),
    [("/", "/"), ("/docker/abc", "/docker/abc"), ("/../..", "/../../x"), ("/", "/docker/abc"), ("/", "/../other")],
)
def test_a_container_whose_group_is_mounted_at_the_top(tmp_path: Path, mounted: str, path: str):
    root = tree(tmp_path, {
        "proc/self/cgroup": f"0::{path}\n", "proc/self/mountinfo": V2.format(root=mounted),
        "sys/fs/cgroup/memory.max": f"{2 * GIB}\n", "sys/fs/cgroup/cpu.max": "50000 100000\n",
    })  # fmt: skip
    assert read_limits(root) == Limits(2 * GIB, None, 0.5)


def test_limits_of_version_1(tmp_path: Path):
    root = tree(tmp_path, {
        "proc/self/cgroup": "9:pids:/x\n4:memory:/docker/a\n1:cpu,cpuacct:/docker/a\n0::/\n",
        "proc/self/mountinfo": V1,
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes": f"{4 * GIB}\n",
        "sys/fs/cgroup/memory/docker/a/memory.usage_in_bytes": f"{1 * GIB}\n",
        "sys/fs/cgroup/memory/docker/a/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 2}\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_quota_us": "200000\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000\n",
    })  # fmt: skip
    assert read_limits(root) == Limits(4 * GIB, GIB // 2, 2.0)


def test_no_limits(tmp_path: Path):
    assert read_limits(tmp_path) == Limits()
    unlimited = {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}
    root = tree(tmp_path, {"proc/self/cgroup": "4:memory:/\n", "proc/self/mountinfo": V1, **unlimited})
    assert read_limits(root) == Limits()
    tree(tmp_path, {"proc/self/cgroup": "nonsense\n::::\n", "proc/self/mountinfo": "a b\n - cgroup\n1 2 3 4 5 -\n"})
    assert read_limits(root) == Limits()


def test_traces_of_a_card(tmp_path: Path):
    devices = "sys/bus/pci/devices"
    root = tree(tmp_path, {
        f"{devices}/0000:3b:00.0/vendor": "0x10de\n", f"{devices}/0000:3b:00.0/class": "0x030200\n",
        f"{devices}/0000:3b:00.1/vendor": "0x10de\n", f"{devices}/0000:3b:00.1/class": "0x040300\n",
        f"{devices}/0000:00:02.0/vendor": "0x8086\n", f"{devices}/0000:00:02.0/class": "0x030000\n",
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX  570.86\nGCC version: 12\n",
        "proc/version": "Linux version 5.15-microsoft-standard-WSL2\n",
        "dev/nvidia0": "", "dev/nvidia1": "", "dev/nvidiactl": "", "dev/nvidia-uvm": "", ".dockerenv": "",
    })  # fmt: skip
    found = hosts.read_host(root, {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}, "Linux")
    assert (found.pci_cards, found.device_nodes) == (("0000:3b:00.0",), ("/dev/nvidia0", "/dev/nvidia1"))
    assert found.kernel_driver == "NVRM version: NVIDIA UNIX  570.86"
    assert found.container and found.wsl and (found.visible_devices, found.container_devices) == ("", "void")


def test_a_machine_without_traces(tmp_path: Path):
    found = hosts.read_host(tmp_path, {}, "Darwin")
    assert (found.pci_cards, found.device_nodes, found.kernel_driver) == ((), (), None)
    assert not found.container and not found.wsl and found.visible_devices is None
    tree(tmp_path, {"proc/1/cgroup": "0::/kubepods/pod1\n"})
    assert hosts.read_host(tmp_path, {}, "Linux").container
    assert hosts.read_host(tmp_path / "no", {"container": "podman"}, "Linux").container


def test_this_machine():
    cpu, memory = hosts.read_cpu(Limits()), hosts.read_memory(Limits())
    assert 1 <= cpu.usable <= cpu.logical and cpu.name and cpu.quota is None
    assert 0 < memory.available <= memory.total


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00000000:3B:00.0", "0000:3b:00"), ("0000:3b:00.0", "0000:3b:00"), ("0:3b:0", "0000:3b:00"),
        ("3b:00", "0000:3b:00"), ("00010000:01:00.0", "10000:01:00"), ("", None), (None, None), ("x", None),
    ],
)  # fmt: skip
def test_addresses_on_the_bus(text: str | None, expected: str | None):
    assert pci_address(text) == expected


class NVMLError(Exception):
    pass


class NVMLError_DriverNotLoaded(NVMLError):
    pass


class FakeNvml(types.ModuleType):
    """NVML with two cards; a question that is in ``refused`` ends in NVMLError, as on cards that do not offer it."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.NVMLError = NVMLError
        self.refused: set[str] = set()
        self.shut_down = 0
        computing = [(4242, 3 * GIB), (os.getpid(), GIB), (4243, None)]
        self.answers: dict[str, Any] = {
            "nvmlInit": None, "nvmlSystemGetDriverVersion": "570.86", "nvmlSystemGetCudaDriverVersion_v2": 12080,
            "nvmlDeviceGetCount": 2, "nvmlDeviceGetHandleByIndex": "handle", "nvmlDeviceGetName": "Test Card",
            "nvmlDeviceGetUUID": "GPU-aa", "nvmlDeviceGetPciInfo": types.SimpleNamespace(busId="00000000:3B:00.0"),
            "nvmlDeviceGetMemoryInfo": types.SimpleNamespace(total=24 * GIB, used=4 * GIB, free=20 * GIB),
            "nvmlDeviceGetUtilizationRates": types.SimpleNamespace(gpu=17, memory=3),
            "nvmlDeviceGetMigMode": [0, 0], "nvmlDeviceGetCudaComputeCapability": (8, 9),
            "nvmlDeviceGetTemperature": 41, "nvmlDeviceGetPowerUsage": 61_500,
            "nvmlDeviceGetEnforcedPowerLimit": 300_000,
            "nvmlDeviceGetComputeRunningProcesses": [_process(*one) for one in computing],
            "nvmlDeviceGetGraphicsRunningProcesses": [_process(4242, 2 * GIB), _process(4243, MIB)],
        }  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        if name == "nvmlShutdown":
            return self._shutdown
        if name not in self.__dict__.get("answers", {}):
            raise AttributeError(name)

        def answer(*arguments: Any) -> Any:
            if name in self.refused:
                raise NVMLError("Not Supported")
            return self.answers[name]

        return answer

    def _shutdown(self) -> None:
        self.shut_down += 1


def _process(pid: int, memory: int | None) -> types.SimpleNamespace:
    return types.SimpleNamespace(pid=pid, usedGpuMemory=memory)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    names = {4242: "python"}

    def process(pid: int) -> types.SimpleNamespace:
        if pid not in names:
            raise psutil.NoSuchProcess(pid)
        return types.SimpleNamespace(name=lambda: names[pid])

    monkeypatch.setattr(psutil, "Process", process)
    return fake


def test_cards_as_the_driver_tells_them(nvml: FakeNvml):
    found = read_nvidia()
    assert (found.error, found.version, found.cuda, len(found.cards)) == ("", "570.86", (12, 8), 2)
    card = found.cards[1]
    assert (card.index, card.name, card.uuid, card.pci) == (1, "Test Card", "GPU-aa", "0000:3b:00")
    assert (card.memory_total, card.memory_used, card.memory_free) == (24 * GIB, 4 * GIB, 20 * GIB)
    assert (card.temperature, card.power, card.power_limit, card.utilization) == (41, 61.5, 300.0, 17)
    assert (card.capability, card.mig) == ((8, 9), False)
    # This process is left out, one that computes and draws is listed once, one of a hidden name keeps its number.
    assert [(one.pid, one.name, one.memory) for one in card.processes] == [
        (4242, "python", 3 * GIB), (4243, None, MIB),
    ]  # fmt: skip
    assert nvml.shut_down == 1


OPTIONAL = sorted(FakeNvml().answers.keys() - {"nvmlInit", "nvmlDeviceGetCount"})


@pytest.mark.parametrize("question", OPTIONAL)
def test_a_question_that_goes_unanswered_leaves_the_others(nvml: FakeNvml, question: str):
    nvml.refused = {question}
    found = read_nvidia()
    assert found.error == "" and len(found.cards) == 2 and nvml.shut_down == 1
    whole = FakeNvml()
    sys.modules["pynvml"] = whole
    assert found != read_nvidia(), "what was refused is unknown, not as before"


def test_a_driver_that_answers_nothing_more(nvml: FakeNvml):
    nvml.refused = set(OPTIONAL) - {"nvmlDeviceGetHandleByIndex"}
    card = read_nvidia().cards[0]
    assert card.name == "unnamed" and card.processes == ()
    assert {value for key, value in vars(card).items() if key not in ("index", "name", "processes")} == {None}
    nvml.refused = {"nvmlDeviceGetCount"}
    assert read_nvidia().cards == ()


def test_a_divided_card(nvml: FakeNvml):
    nvml.answers["nvmlDeviceGetMigMode"] = [1, 1]
    assert read_nvidia().cards[0].mig is True


def test_no_driver(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise NVMLError_DriverNotLoaded("Driver Not Loaded")

    monkeypatch.setattr(nvml, "nvmlInit", fail, raising=False)
    found = read_nvidia()
    assert (found.error, found.message, found.cards) == ("DriverNotLoaded", "Driver Not Loaded", ())
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_nvidia().error == "NotInstalled"


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has NVIDIA's driver")
def test_the_real_library_without_a_driver():
    found = read_nvidia()
    assert found.error in ("LibraryNotFound", "DriverNotLoaded") and found.message


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path):
    found = measure_disk(tmp_path / "a" / "b", size=3 * MIB)
    assert (found.tried, found.written, found.problem) == (str(tmp_path), 3 * MIB, "")
    assert found.write is not None and found.write > 0 and found.free is not None and found.free > 0
    assert found.read is None or found.read > 0
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_slow_disk_stops_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(1000))
    monkeypatch.setattr(disks.time, "perf_counter", lambda: float(next(clock)))
    found = measure_disk(tmp_path, size=640 * MIB, seconds=3)
    assert 0 < found.written < 64 * MIB


@pytest.mark.parametrize("folder", ["file/x", "file", "x" * 5000])
def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    found = measure_disk(Path(folder), size=MIB)
    assert found.problem and found.write is None and (found.folder, found.written) == (folder, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_is_full_or_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = measure_disk(tmp_path, size=2**60)
    assert "MiB are free" in found.problem and found.free is not None

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert measure_disk(tmp_path, size=MIB).problem == "No space left on device"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_right_product(dtype: str):
    found = products.compute("cpu", dtype, 256)
    assert found.problem == "" and found.error is not None and found.tolerance is not None
    assert 0 <= found.error <= found.tolerance / 2 and found.tflops is not None and found.tflops > 0


WRONG = {
    "zeros": torch.zeros_like,
    "one element": lambda result: result.index_put((torch.tensor(2), torch.tensor(3)), torch.tensor(1e3)),
    "NaN": lambda result: result * float("nan"),
    "rows exchanged": lambda result: result.flip(0),
    "a little off": lambda result: result * 1.001,
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_product(monkeypatch: pytest.MonkeyPatch, kind: str):
    timed = products._timed
    monkeypatch.setattr(products, "_timed", lambda *given: (WRONG[kind](timed(*given)[0]), 0.1))
    found = products.compute("cpu", "fp32", 128)
    assert found.problem.startswith("the result is wrong")


def test_a_device_that_fails(monkeypatch: pytest.MonkeyPatch):
    def fail(*given: Any) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nmore words")

    monkeypatch.setattr(products, "_timed", fail)
    found = products.compute("cpu", "fp32", 64)
    assert found.problem == "RuntimeError: CUDA error: no kernel image is available" and found.tflops is None


def test_what_counts_as_rounding():
    assert products.judged("cuda:0", "fp32", 8, 1e-3, 1.0).problem
    assert not products.judged("cuda:0", "fp32", 8, 1e-3, 1.0, "high").problem, "TF32 was switched on"
    assert not products.judged("cuda:0", "bf16", 8, 1e-2, 1.0).problem
    assert products.judged("cuda:0", "bf16", 8, 0.5, 1.0).problem
    assert products.judged("cpu", "fp32", 8, math.nan, 1.0).problem
    assert products.judged("cpu", "fp32", 1000, 0.0, 2.0).tflops == pytest.approx(1e-3)


def card(index: int, bf16: bool) -> TorchDevice:
    return TorchDevice(index, "x", None, None, GIB, (8, 0), bf16, True, bf16, "", "")


def test_every_device_gets_a_product():
    found = products.planned(TorchFacts(devices=(card(0, True), card(1, False)), mps_available=True))
    assert found == [
        ("cuda:0", "fp32"), ("cuda:0", "bf16"), ("cuda:1", "fp32"), ("cuda:1", "fp16"), ("mps", "fp32"),
        ("cpu", "fp32"),
    ]  # fmt: skip


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that torch sees one card without bf16."""
    properties = types.SimpleNamespace(
        name="Test GPU", major=7, minor=5, total_memory=15 * GIB, uuid="aa-bb", pci_domain_id=0, pci_bus_id=59,
        pci_device_id=0,
    )  # fmt: skip
    fakes: dict[str, Any] = {
        "is_available": lambda: True, "device_count": lambda: 1, "init": lambda: None, "current_device": lambda: 0,
        "get_device_properties": lambda index: properties, "get_device_name": lambda index=0: "Test GPU",
        "is_bf16_supported": lambda including_emulation=True: including_emulation,
        "get_arch_list": lambda: ["sm_75", "compute_90"],
    }  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    monkeypatch.setattr(torch.version, "cuda", "12.8")


def test_a_card_as_torch_tells_it(cuda: None):
    found = probe_torch()
    (card,) = found.devices
    assert (card.name, card.uuid, card.pci, card.memory) == ("Test GPU", "aa-bb", "0000:3b:00", 15 * GIB)
    assert (card.capability, card.bf16, card.fp16, card.tf32, card.precision) == ((7, 5), False, True, False, "fp16")
    assert (found.cuda, found.archs, found.plan.device, found.plan.precision) == (
        "12.8", ("sm_75", "compute_90"), "cuda", "fp16",
    )  # fmt: skip
    assert probe_torch(unsafe_in_fp16=True).devices[0].precision == "fp32"
    assert "no bf16" in probe_torch("cuda", "bf16").plan.problem


def test_one_card_that_is_broken(cuda: None, monkeypatch: pytest.MonkeyPatch):
    whole = torch.cuda.get_device_properties

    def properties(index: int) -> Any:
        if index == 0:
            raise RuntimeError("CUDA error: uncorrectable ECC error\nmore words")
        return whole(index)

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = probe_torch()
    assert [card.index for card in found.devices] == [1]
    assert found.cuda_problem == "cuda:0: RuntimeError: CUDA error: uncorrectable ECC error"


def test_what_torch_says_about_cuda_is_kept(cuda: None, monkeypatch: pytest.MonkeyPatch):
    import warnings

    def available() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", available)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # plan_device asks again, and is warned again
        found = probe_torch("cpu")
    assert not found.cuda_available and "driver on your system is too old" in found.cuda_problem


def test_a_cuda_that_fails_to_start(cuda: None, monkeypatch: pytest.MonkeyPatch):
    def init() -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "init", init)
    found = probe_torch("cpu")
    assert not found.cuda_available and found.devices == () and "out of memory" in found.cuda_problem


def test_a_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "torch cannot be imported" in probe_torch().problem


def test_asking_this_machine_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    facts, done = ask_torch("cpu", "fp32")
    assert facts.problem == "" and facts.version == torch.__version__ and facts.plan.device == "cpu"
    assert done[-1].device == "cpu" and done[-1].problem == ""


FACTS = 'dlgsum-hardware {"version": "2.13.0", "plan": {}, "devices": []}\n'
RIGHT = 'dlgsum-hardware {"device": "cpu", "dtype": "fp32", "size": 8, "error": 0.5, "tflops": 1.0}\n'


def test_answers_are_read_among_other_lines():
    facts, done = understood("a library greets\n" + FACTS + "more noise\n" + RIGHT, "", "the process ended with code 0")
    assert facts.version == "2.13.0" and [(one.device, one.error, one.problem) for one in done] == [("cpu", 0.5, "")]
    _, done = understood(FACTS + RIGHT.replace("0.5", '"NaN"'), "", "")
    assert math.isnan(done[0].error or 0)


def test_a_process_that_dies_halfway():
    facts, done = understood(FACTS, "Traceback\nMemoryError", "the process was ended by SIGSEGV")
    assert facts.problem == ""
    assert done == (Product("cpu", "fp32", 0, problem="the process was ended by SIGSEGV: MemoryError"),)
    facts, done = understood("", "", "no answer within 3 s")
    assert facts.problem == "torch could not be asked: no answer within 3 s" and done == ()
    broken = 'dlgsum-hardware {"problem": "torch cannot be imported: x"}\n'
    assert understood(broken, "", "")[1] == ()


@pytest.mark.parametrize(
    ("script", "seconds", "part"),
    [
        ("kill -SEGV $$", 60, "ended by SIGSEGV"),
        ("echo 'libcuda is broken' >&2; exit 3", 60, "ended with code 3: libcuda is broken"),
        ("exec sleep 60", 0.5, "no answer within 0.5 s"),
    ],
)
def test_a_torch_that_crashes_or_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, seconds: float, part: str
):
    monkeypatch.setattr(sys, "executable", program(tmp_path, script))
    facts, done = ask_torch(seconds=seconds)
    assert part in facts.problem and done == ()


def test_a_device_that_hangs_leaves_what_was_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", program(tmp_path, f"echo '{FACTS.strip()}'; exec sleep 60"))
    facts, done = ask_torch(seconds=3)
    assert facts.problem == "" and done[0].problem == "no answer within 3 s"


def program(folder: Path, script: str) -> str:
    """Return a program that stands in for Python: a shell is there in a moment, however busy the machine."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_no_python_to_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/nope/python")
    assert "no Python could be started" in ask_torch()[0].problem


def test_the_question_leaves_no_torch_behind():
    """Nothing of the parent may import torch: it would take memory on cards, and forbid forking."""
    program = (
        "import sys; from dlgsum.core.hardware.ask_torch import ask_torch;"
        "from dlgsum.core.hardware.host import gather;from dlgsum.core.hardware.diagnose import diagnose;"
        "diagnose(gather(ask_torch()[0])); raise SystemExit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == 0
