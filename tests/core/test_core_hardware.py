"""From made-up facts to findings, tiers and joined cards: nothing here looks at the machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlgsum.core.hardware.cards import join_cards
from dlgsum.core.hardware.diagnose import diagnose, kernels, visible
from dlgsum.core.hardware.facts import (
    Cpu,
    Facts,
    Host,
    Memory,
    NvidiaCard,
    NvidiaDriver,
    Product,
    TorchDevice,
    TorchFacts,
)
from dlgsum.core.hardware.tiers import TIERS, ModelSize, suggest, tier_of

GIB = 2**30
KOBART = ModelSize("digit82/kobart-summarization", False, True, 512, 128)

HOST = Host("Linux", False, False, None, None, (), None, ())
ON_BUS = replace(HOST, pci_cards=("0000:3b:00.0",))
LOADED = replace(ON_BUS, kernel_driver="NVRM version: 570.86", device_nodes=("/dev/nvidia0",))
CONTAINER = replace(HOST, container=True)
NO_LIBRARY = NvidiaDriver("LibraryNotFound", "NVML Shared Library Not Found", None, None, ())
CPU_BUILD = TorchFacts(version="2.13.0+cpu")
CUDA_BUILD = TorchFacts(version="2.13.0+cu128", cuda="12.8", archs=("sm_80", "sm_90", "compute_90"))


def card(index: int = 0, *, uuid: str | None = None, pci: str | None = None, mig: bool = False) -> NvidiaCard:
    return NvidiaCard(
        index, "Test Card", uuid or f"GPU-{index}{index}", pci or f"0000:0{index}:00", 24 * GIB, 2 * GIB, 22 * GIB,
        40, 60.0, 300.0, 5, (9, 0), mig, (),
    )  # fmt: skip


def driver(*cards: NvidiaCard, cuda: tuple[int, int] = (12, 8)) -> NvidiaDriver:
    return NvidiaDriver("", "", "570.86", cuda, cards)


def device(index: int = 0, *, uuid: str | None = None, pci: str | None = None) -> TorchDevice:
    return TorchDevice(
        index, "Test Card", uuid, pci, 23 * GIB, (9, 0), True, True, True, "bf16", "bf16: the card supports it"
    )  # fmt: skip


def facts(host: Host = HOST, nvidia: NvidiaDriver = NO_LIBRARY, torch: TorchFacts = CPU_BUILD) -> Facts:
    return Facts(host, Cpu("Test CPU", 4, 2, 4, None), Memory(16 * GIB, 8 * GIB, None, None), nvidia, torch)


def working(*devices: TorchDevice, torch: TorchFacts = CUDA_BUILD) -> TorchFacts:
    return replace(torch, cuda_available=True, devices=devices or (device(),))


NO_CUDA = {
    "nothing": (facts(), "no_card", "check its seat"),
    "nothing, in WSL": (facts(replace(HOST, wsl=True)), "no_card", "wsl --update"),
    "nothing, in a container": (facts(CONTAINER), "no_card", "docker run --gpus all"),
    "a container told to have none": (
        facts(replace(CONTAINER, container_devices="void")), "no_card", "NVIDIA_VISIBLE_DEVICES=void",
    ),
    "a driver without a card": (facts(LOADED, driver()), "no_card", "check its seat"),
    "a card without a driver": (facts(ON_BUS), "no_driver", "Install NVIDIA's driver"),
    "a card without a driver, in a container": (
        facts(replace(ON_BUS, container=True)), "no_driver", "driver on the host",
    ),
    "a container without the device nodes": (
        facts(replace(CONTAINER, kernel_driver="NVRM version: 570.86")), "no_device_nodes", "docker run --gpus all",
    ),
    "no device nodes": (facts(replace(LOADED, device_nodes=())), "no_device_nodes", "nvidia-modprobe"),
    "no library": (facts(LOADED), "no_driver_library", "libnvidia-compute"),
    "no library, in a container": (
        facts(replace(LOADED, container=True)), "no_driver_library", "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    ),
    "an updated driver": (
        facts(LOADED, NvidiaDriver("LibRmVersionMismatch", "mismatch", None, None, ())), "driver_mismatch", "Restart",
    ),
    "a driver that refuses": (
        facts(LOADED, NvidiaDriver("NoPermission", "Insufficient Permissions", None, None, ())),
        "nvml_error", "nvidia-smi",
    ),
    "no NVML package": (
        facts(LOADED, NvidiaDriver("NotInstalled", "nvidia-ml-py cannot be imported", None, None, ())),
        "nvml_missing", "pip install nvidia-ml-py",
    ),
    "a CPU build": (facts(LOADED, driver(card())), "cpu_build", "pip index versions torch --index-url"),
    "a CPU build, old driver": (facts(LOADED, driver(card(), cuda=(11, 8))), "cpu_build", "whl/cu118"),
    "a CPU build, new driver": (facts(LOADED, driver(card(), cuda=(13, 0))), "cpu_build", "whl/cu130"),
    "a CPU build, driver not known": (facts(LOADED), "cpu_build", "not newer than the CUDA that `nvidia-smi` shows"),
    "a ROCm build": (
        facts(LOADED, driver(card()), replace(CPU_BUILD, version="2.13.0+rocm", hip="6.4")), "rocm_build", "whl/cu126",
    ),
    "hidden by an empty list": (
        facts(replace(LOADED, visible_devices=""), driver(card()), CUDA_BUILD), "hidden", "Unset it",
    ),
    "hidden by -1": (facts(replace(LOADED, visible_devices="-1"), driver(card()), CUDA_BUILD), "hidden", "(0)"),
    "hidden by an unknown number": (
        facts(replace(LOADED, visible_devices="2"), driver(card(0), card(1)), CUDA_BUILD), "hidden", "(0 to 1)",
    ),
    "hidden on a machine whose driver does not answer": (
        facts(replace(LOADED, visible_devices="-1"), NO_LIBRARY, CUDA_BUILD), "hidden", "Unset it",
    ),
    "a driver too old": (
        facts(LOADED, driver(card(), cuda=(11, 4)), CUDA_BUILD), "driver_too_old", "Update the driver",
    ),
    "torch says why": (
        facts(LOADED, driver(card()), replace(CUDA_BUILD, cuda_problem="Error 802: system not yet initialized")),
        "cuda_error", "",
    ),
    "torch does not say why": (facts(LOADED, driver(card()), CUDA_BUILD), "cuda_unusable", "restart"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_CUDA)
def test_why_there_is_no_cuda(kind: str):
    here, cause, fix = NO_CUDA[kind]
    findings = diagnose(here)
    found = next(finding for finding in findings if finding.kind == cause)
    assert found.status == "warning" and found.message and fix in found.fix
    assert findings[-1].kind == "cpu_only" and findings[-1].status == "warning"
    assert len({finding.kind for finding in findings}) == len(findings), "nothing is said twice"


def test_only_what_is_wrong_is_said():
    assert [one.kind for one in diagnose(facts())] == ["no_card", "cpu_build", "cpu_only"]
    assert diagnose(facts())[1].status == "ok", "a CPU build is right on a machine without a card"
    assert [one.kind for one in diagnose(facts(LOADED, driver(card()), CUDA_BUILD))] == [
        "driver",
        "cuda_unusable",
        "cpu_only",
    ]
    assert [one.kind for one in diagnose(facts(LOADED, driver(card()), replace(CUDA_BUILD, cuda_problem="x")))] == [
        "driver", "cuda_error", "cpu_only",
    ]  # fmt: skip
    too_old = facts(LOADED, driver(card(), cuda=(11, 4)), CUDA_BUILD)
    assert [one.kind for one in diagnose(too_old)] == ["driver_too_old", "cpu_only"]


def test_several_causes_are_all_said():
    here = facts(replace(LOADED, visible_devices=""), driver(card(), cuda=(11, 4)), CUDA_BUILD)
    assert [one.kind for one in diagnose(here)] == ["hidden", "driver_too_old", "cpu_only"]


def test_torch_that_cannot_be_asked():
    (found,) = diagnose(facts(torch=TorchFacts("torch cannot be imported: OSError: libcudnn.so.9")))
    assert (found.kind, found.status) == ("torch_broken", "failed") and "libcudnn" in found.message
    assert "pip install" in found.fix
    (crashed,) = diagnose(facts(torch=TorchFacts("torch could not be asked: the process was ended by SIGSEGV")))
    assert crashed.status == "failed" and "torch.cuda.init" in crashed.fix


def test_what_torch_says_of_one_card_is_said_although_others_work():
    said = replace(working(), cuda_problem="cuda:1: RuntimeError: CUDA error")
    assert "cuda_error" in [one.kind for one in diagnose(facts(LOADED, driver(card()), said))]


def test_apple():
    here = facts(replace(HOST, system="Darwin"), torch=replace(CPU_BUILD, mps_available=True))
    assert [(one.kind, one.status) for one in diagnose(here)] == [("mps", "ok")]


@pytest.mark.parametrize(
    ("cuda", "status", "part"),
    [
        ((12, 8), "ok", "torch is built for 12.8"),
        ((13, 0), "ok", "CUDA up to 13.0"),
        ((12, 2), "ok", "fine within one major version"),
        ((11, 8), "ok", "forward compatibility"),
    ],
)
def test_a_driver_that_works(cuda: tuple[int, int], status: str, part: str):
    (found,) = diagnose(facts(LOADED, driver(card(), cuda=cuda), working()))
    assert (found.kind, found.status) == ("driver", status) and part in found.message


def test_cards_that_are_hidden_from_a_torch_that_works():
    two = driver(card(0), card(1))
    some = diagnose(facts(replace(LOADED, visible_devices="1"), two, working()))
    assert ("some_hidden", "ok") in [(one.kind, one.status) for one in some]
    unknown = diagnose(facts(replace(LOADED, visible_devices="0,7,1"), two, working()))
    found = next(one for one in unknown if one.kind == "unknown_ids")
    assert found.status == "warning" and "only the first 1" in found.message and "'7'" in found.message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", (0, None)), ("  ", (0, None)), ("-1", (0, None)), ("0", (1, None)), ("0,1", (2, None)),
        ("1, 0", (2, None)),
        ("0,-1,1", (1, None)), ("0,2,1", (1, "2")), ("5", (0, "5")), ("0,0", (0, "0")),
        ("NoDevFiles", (0, "NoDevFiles")),
        ("GPU-ab1", (1, None)), ("GPU-ab", (0, "GPU-ab")), ("gpu", (0, "gpu")), ("GPU-zz", (0, "GPU-zz")),
        ("MIG-1", (0, "MIG-1")),
    ],
)  # fmt: skip
def test_how_cuda_reads_its_list(value: str, expected: tuple[int, str | None]):
    cards = (card(0, uuid="GPU-ab1"), card(1, uuid="GPU-ab2"))
    assert visible(value, cards) == expected


def test_a_list_for_cards_that_are_not_known():
    assert visible("7", None) == (1, None) and visible("GPU-x", None) == (1, None)
    assert visible("x", None) == (0, "x")
    assert visible("MIG-1", (card(mig=True),)) == (1, None)


@pytest.mark.parametrize(
    ("capability", "archs", "expected"),
    [
        ((8, 0), ["sm_80"], "native"),
        ((8, 6), ["sm_80"], "native"),
        ((8, 0), ["sm_86"], "missing"),
        ((9, 0), ["sm_80"], "missing"),
        ((9, 0), ["sm_80", "compute_80"], "ptx"),
        ((9, 0), ["compute_80", "sm_90"], "native"),
        ((12, 0), ["sm_120"], "native"),
        ((12, 1), ["sm_120"], "native"),
        ((12, 0), ["sm_90", "compute_90"], "ptx"),
        ((7, 0), ["sm_75", "compute_75"], "missing"),
        ((9, 0), ["sm_90a"], "native"),
        ((10, 3), ["sm_100a"], "missing"),
        ((10, 3), ["sm_100f"], "native"),
        ((12, 0), ["compute_100f"], "missing"),
        ((9, 0), ["gfx90a", "nonsense"], "missing"),
        ((9, 0), [], "missing"),
    ],
)
def test_code_for_a_card(capability: tuple[int, int], archs: list[str], expected: str):
    assert kernels(capability, archs) == expected


def test_a_card_that_torch_has_no_ready_code_for():
    old = working(replace(device(), capability=(7, 0)))
    found = diagnose(facts(LOADED, driver(card()), old))[-1]
    assert (found.kind, found.status) == ("capability_unsupported", "warning") and "capability 7.0" in found.message
    new = working(replace(device(), capability=(12, 0)))
    assert diagnose(facts(LOADED, driver(card()), new))[-1].kind == "compiled_at_start"
    rocm = replace(new, cuda=None, hip="6.4")
    assert diagnose(facts(nvidia=NO_LIBRARY, torch=rocm)) == []


@pytest.mark.parametrize(
    ("gib", "name"),
    [
        (0, None), (4, None), (5.54, None), (5.55, "Low-End"), (5.8, "Low-End"), (6, "Low-End"), (7.39, "Low-End"),
        (7.4, "Budget"), (7.6, "Budget"), (8, "Budget"), (10.75, "Budget"), (11, "Budget"), (11.09, "Budget"),
        (11.1, "Mid-Range"), (11.6, "Mid-Range"), (12, "Mid-Range"), (14.6, "Mid-Range"), (16, "Mid-Range"),
        (19.6, "Mid-Range"), (20, "Mid-Range"), (21.59, "Mid-Range"), (21.6, "High-End"), (22, "High-End"),
        (23.5, "High-End"), (24, "High-End"), (80, "High-End"), (139, "High-End"),
    ],
)  # fmt: skip
def test_tiers(gib: float, name: str | None):
    """The shortfalls that cards are known for: 24 GB that reports 22, 12 GB that is not 11, 8 GB that reports 7.6."""
    tier = tier_of(round(gib * GIB + 0.5))
    assert (None if tier is None else tier.name) == name


def test_the_table():
    assert [(tier.batch, tier.accumulation) for tier in TIERS] == [
        ((96, 256), (1, 1)), ((64, 128), (2, 2)), ((32, 64), (3, 4)), ((16, 32), (6, 8)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gib", "batch", "accumulation"), [(24, 96, 1), (12, 64, 2), (8, 32, 4), (6, 16, 8), (4, None, None)]
)
def test_what_is_suggested(gib: int, batch: int | None, accumulation: int | None):
    it = suggest(gib * GIB, None, KOBART)
    assert (it.batch_size, it.accumulation, it.measured) == (batch, accumulation, False)
    assert "dlgsum find-batch-size" in it.notes[-1]
    assert ("not measured" in it.notes[0]) == (batch is not None)


@pytest.mark.parametrize(
    ("gib", "free", "change", "part"),
    [
        (139, None, {}, "begins at 24 GB"),
        (20, None, {}, "between the table's 16 and 24 GB"),
        (4, None, {}, "below the smallest tier"),
        (24, 3, {}, "only 3.0 of 24.0 GiB are free"),
        (24, None, {"is_kobart": False, "checkpoint": "paust/pko-t5-base"}, "paust/pko-t5-base is not known"),
        (24, None, {"source_tokens": 1024}, "1024 + 128 tokens are configured"),
        (24, None, {"is_mini": True}, "kobart_mini is far smaller"),
    ],
)
def test_where_the_table_does_not_fit_is_said(gib: int, free: int | None, change: dict[str, object], part: str):
    usual = suggest(24 * GIB, 24 * GIB, KOBART)
    it = suggest(gib * GIB, None if free is None else free * GIB, replace(KOBART, **change))
    assert any(part in note for note in it.notes)
    assert not any(part in note for note in usual.notes) and len(usual.notes) == 2


def test_the_table_has_no_figure_for_the_mini_model():
    it = suggest(24 * GIB, None, replace(KOBART, is_mini=True, is_kobart=False))
    assert (it.batch_size, it.batch_range, it.accumulation) == (None, (96, 256), None)


def test_torch_and_driver_number_cards_differently():
    """CUDA_VISIBLE_DEVICES=2,0: torch's first card is the driver's third, and the second is not seen."""
    known = (card(0, uuid="GPU-AA"), card(1, uuid="GPU-bb"), card(2, uuid="GPU-cc", pci="0000:3b:00"))
    here = facts(LOADED, driver(*known), working(device(0, pci="0000:3b:00"), device(1, uuid="aa", pci="0000:3b:00")))
    products = (
        Product("cuda:0", "fp32", 8),
        Product("cuda:1", "fp32", 8, problem="wrong"),
        Product("cuda:1", "bf16", 8),
    )
    cards = join_cards(here, products, KOBART)
    assert [(one.device, one.driver_index, one.usable) for one in cards] == [
        ("cuda:0", 2, True), ("cuda:1", 0, False), (None, 1, None),
    ]  # fmt: skip
    seen, _, hidden = cards
    assert (seen.memory, seen.memory_free, seen.kernels, seen.precision) == (23 * GIB, 22 * GIB, "native", "bf16")
    assert (hidden.memory, hidden.kernels, hidden.precision, hidden.bf16) == (24 * GIB, None, None, None)
    assert seen.suggestion is not None and seen.suggestion.tier == "High-End"


def test_a_divided_card_counts_by_its_instance():
    whole = replace(card(mig=True, pci="0000:01:00"), memory_total=80 * GIB, memory_free=70 * GIB)
    instance = replace(device(uuid="of-the-instance", pci="0000:01:00"), memory=round(9.5 * GIB))
    (joined,) = join_cards(facts(LOADED, driver(whole), working(instance)), (), KOBART)
    assert joined.mig and joined.memory_free is None and joined.driver_index == 0
    assert joined.suggestion is not None and joined.suggestion.tier == "Budget"


def test_cards_of_which_one_side_knows_nothing():
    (alone,) = join_cards(facts(nvidia=NO_LIBRARY, torch=working(device(uuid="x"))), (), KOBART)
    assert (alone.driver_index, alone.uuid, alone.memory_free, alone.processes) == (None, "x", None, ())
    silent = NvidiaCard(0, "a card that cannot be opened", *(None,) * 11, processes=())
    (closed,) = join_cards(facts(LOADED, driver(silent)), (), KOBART)
    assert (closed.device, closed.memory, closed.suggestion) == (None, None, None)


def test_what_a_process_may_use():
    cpu = Cpu("x", 64, 32, 16, None)
    assert (cpu.cores, replace(cpu, quota=2.5).cores, replace(cpu, quota=99).cores) == (16, 2.5, 16)
    memory = Memory(64 * GIB, 50 * GIB, None, None)
    assert (memory.usable_total, memory.usable_available) == (64 * GIB, 50 * GIB)
    limited = replace(memory, limit=8 * GIB, limit_used=3 * GIB)
    assert (limited.usable_total, limited.usable_available) == (8 * GIB, 5 * GIB)
    assert replace(limited, limit_used=9 * GIB).usable_available == 0
    assert replace(limited, limit=99 * GIB).usable_total == 64 * GIB
