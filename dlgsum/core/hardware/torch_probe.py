"""Ask torch about its devices. Run in a process of its own: see ``ask_torch``."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from typing import Any

from dlgsum.core.device import plan_device
from dlgsum.core.errors import DlgsumError
from dlgsum.core.files import dumps
from dlgsum.core.hardware.facts import Plan, Product, TorchDevice, TorchFacts
from dlgsum.core.hardware.nvml import pci_address
from dlgsum.core.hardware.products import compute, planned

MARK = "dlgsum-hardware "  # of a line that is an answer: libraries print on standard output too


def probe_torch(device: str = "auto", precision: str = "auto", *, unsafe_in_fp16: bool = False) -> TorchFacts:
    """Return what torch says of itself and its devices; it opens the cards, which takes memory on each.

    Args:
        device: as configured; the plan is made for it.
        precision: as configured.
        unsafe_in_fp16: the configured model overflows in fp16.
    """
    try:
        import torch
    except Exception as error:  # a library that is missing or does not fit shows as any kind of error
        return TorchFacts(f"torch cannot be imported: {type(error).__name__}: {error}")
    available, problem = _cuda()
    cards, problems = _cards(unsafe_in_fp16) if available else ([], [])
    mps = torch.backends.mps.is_available()
    return TorchFacts(
        version=str(torch.__version__),
        cuda=torch.version.cuda,
        hip=torch.version.hip,
        archs=tuple(torch.cuda.get_arch_list()),
        cuda_available=available,
        cuda_problem="; ".join([*([problem] if problem else []), *problems]),
        devices=tuple(cards),
        mps_available=mps,
        mps_memory=int(torch.mps.recommended_max_memory()) if mps else None,
        threads=torch.get_num_threads(),
        plan=_plan(device, precision, unsafe_in_fp16),
    )


def _cuda() -> tuple[bool, str]:
    """Say whether CUDA can be used, and what torch said about it: it warns and returns False, or raises."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            available = torch.cuda.is_available() and torch.cuda.device_count() > 0
            if available:
                torch.cuda.init()  # type: ignore[no-untyped-call]
        except Exception as error:
            return False, f"{type(error).__name__}: {error}"
    return available, "; ".join(str(warning.message).strip() for warning in caught)


def _cards(unsafe_in_fp16: bool) -> tuple[list[TorchDevice], list[str]]:
    """Return the cards that answer, and what was said of the others."""
    import torch

    cards, problems = [], []
    for index in range(torch.cuda.device_count()):
        try:
            cards.append(_card(index, unsafe_in_fp16))
        except Exception as error:  # one card may be broken while the others work
            words = str(error).strip().splitlines() or [""]
            problems.append(f"cuda:{index}: {type(error).__name__}: {words[0]}")
    return cards, problems


def _card(index: int, unsafe_in_fp16: bool) -> TorchDevice:
    import torch

    properties: Any = torch.cuda.get_device_properties(index)
    capability = (properties.major, properties.minor)
    numbers = [getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    address = None if None in numbers[1:] else "{:x}:{:x}:{:x}".format(*(number or 0 for number in numbers))
    nvidia = torch.version.hip is None
    with torch.cuda.device(index):
        plan = plan_device("cuda", "auto", unsafe_in_fp16=unsafe_in_fp16)
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return TorchDevice(
        index=index,
        name=properties.name,
        uuid=str(properties.uuid) if hasattr(properties, "uuid") else None,
        pci=pci_address(address),
        memory=int(properties.total_memory),
        capability=capability,
        bf16=bf16,
        fp16=not nvidia or capability >= (5, 3),
        tf32=nvidia and capability >= (8, 0),
        precision=plan.precision,
        precision_reason=plan.reason,
    )


def _plan(device: str, precision: str, unsafe_in_fp16: bool) -> Plan:
    try:
        plan = plan_device(device, precision, unsafe_in_fp16=unsafe_in_fp16)
    except DlgsumError as error:
        return Plan(problem=str(error).replace("\n", ". "))
    return Plan(plan.device, plan.precision, plan.reason)


def main(device: str, precision: str, unsafe_in_fp16: bool) -> None:
    """Print the facts, then each product as soon as it is computed, a line of JSON each."""
    facts = probe_torch(device, precision, unsafe_in_fp16=unsafe_in_fp16)
    _say(facts)
    if not facts.problem:
        for name, dtype in planned(facts):
            _say(compute(name, dtype))


def _say(answer: TorchFacts | Product) -> None:
    sys.stdout.write(f"{MARK}{dumps(dataclasses.asdict(answer))}\n")
    sys.stdout.flush()
