"""From facts to findings: why no card can be used, and what to do about it. Nothing is probed here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dlgsum.core.hardware.facts import Facts, Host, NvidiaCard, TorchFacts

_INDEX = "https://download.pytorch.org/whl"
_DOCKER = "start the container with `docker run --gpus all` (NVIDIA Container Toolkit on the host)"


@dataclass(frozen=True)
class Finding:
    """One conclusion.

    Attributes:
        kind: a short name that stays the same from version to version.
        fix: what to do; empty when there is nothing to do.
    """

    kind: str
    status: Literal["ok", "warning", "failed"]
    message: str
    fix: str = ""


def diagnose(facts: Facts) -> list[Finding]:
    """Return what is to be said about the GPUs: why none can be used, or what to mind with those that can."""
    torch = facts.torch
    if torch.problem:
        fix = "Install it again: pip install --force-reinstall torch"
        if "imported" not in torch.problem:
            fix = "This shows more: python -c 'import torch; torch.cuda.init()'"
        return [Finding("torch_broken", "failed", torch.problem, fix)]
    if torch.cuda_available:
        return [*_driver_age(facts), *_hidden(facts), *_torch_says(torch), *_kernels(torch)]
    if torch.mps_available:
        return [Finding("mps", "ok", "Apple's GPU is used through Metal (MPS)")]
    return [
        *_why_no_cuda(facts),
        Finding(
            "cpu_only",
            "warning",
            "no GPU can be used, so training runs on the CPU",
            "KoBART is made for a GPU; model=kobart_mini is for trying things on a CPU",
        ),
    ]


def kernels(capability: tuple[int, int], archs: Sequence[str]) -> Literal["native", "ptx", "missing"]:
    """Say how torch has code for a card: ready, to be compiled at the first start, or not at all.

    Args:
        capability: the card's compute capability.
        archs: what torch was built for, such as "sm_90" or "compute_120"; a trailing a is for that card alone, a
            trailing f for its family.
    """
    compiled_later = False
    for arch in archs:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
        if found is None:
            continue
        kind, built, only = found[1], (int(found[2]), int(found[3])), found[4]
        if only == "a":
            fits = built == capability
        elif kind == "sm" or only == "f":
            fits = built[0] == capability[0] and built[1] <= capability[1]
        else:
            fits = built <= capability
        if fits and kind == "sm":
            return "native"
        compiled_later |= fits
    return "ptx" if compiled_later else "missing"


def visible(value: str, cards: Sequence[NvidiaCard] | None) -> tuple[int, str | None]:
    """Read CUDA_VISIBLE_DEVICES as CUDA does: up to the first name that there is not; a name twice hides all.

    Args:
        value: of the variable.
        cards: of this machine; None when they are not known, so that every sensible name counts.

    Returns:
        How many cards stay visible, and the first name that does not exist (None when all do, or it hides on purpose).
    """
    names = [name.strip() for name in value.split(",")] if value.strip() else []
    if len(set(names)) < len(names):
        return 0, next(name for index, name in enumerate(names) if name in names[:index])
    for count, name in enumerate(names):
        if not _exists(name, cards):
            return count, None if name in ("-1", "") else name
    return len(names), None


def _exists(name: str, cards: Sequence[NvidiaCard] | None) -> bool:
    if name.isdigit():
        return cards is None or int(name) < len(cards)
    if name.startswith("MIG-"):
        return cards is None or any(card.mig is not False for card in cards)
    return name.startswith("GPU-") and (
        cards is None or sum((card.uuid or "").lower().startswith(name.lower()) for card in cards) == 1
    )


def _why_no_cuda(facts: Facts) -> Iterator[Finding]:
    host, nvidia, torch = facts.host, facts.nvidia, facts.torch
    seen = bool(nvidia.cards or host.pci_cards or host.device_nodes or host.kernel_driver)
    if not seen:
        yield _no_card(host)
    elif nvidia.error:
        yield _no_driver(facts)
    elif not nvidia.cards:
        yield Finding("no_card", "warning", f"the driver ({nvidia.version}) finds no card", _hardware_hint(host))
    hidden = [finding for finding in _hidden(facts) if seen or finding.kind == "hidden"]
    yield from hidden
    too_old = list(_driver_age(facts))
    if torch.hip is not None:
        told = f"torch {torch.version} is built for AMD's ROCm {torch.hip}, and finds no card"
        yield Finding("rocm_build", "warning", told, f"For an NVIDIA card: {_cuda_build(facts)}" if seen else "")
    elif torch.cuda is None:
        status: Literal["ok", "warning"] = "warning" if seen else "ok"
        yield Finding("cpu_build", status, f"torch {torch.version} is a CPU build", _cuda_build(facts) if seen else "")
    else:
        yield from too_old
        if torch.cuda_problem and seen:
            yield from _torch_says(torch)
        elif seen and nvidia.cards and not hidden and not any(one.status == "warning" for one in too_old):
            yield Finding(
                "cuda_unusable",
                "warning",
                "the driver shows cards, but torch finds none and does not say why",
                "Try `nvidia-smi`; after a driver update restart the machine, or the container",
            )


def _no_card(host: Host) -> Finding:
    where = "on the PCI bus, among the devices or from a driver" if host.system == "Linux" else "from a driver"
    return Finding("no_card", "warning", f"no NVIDIA card was seen {where}", _hardware_hint(host))


def _hardware_hint(host: Host) -> str:
    if host.wsl:
        return "In WSL the Windows driver serves the card: update it on Windows, then `wsl --update`"
    if host.container:
        told = f" (NVIDIA_VISIBLE_DEVICES={host.container_devices})" if host.container_devices is not None else ""
        return f"This is a container{told}: if the host has a card, {_DOCKER}"
    return "If the machine has one: check its seat and power, or pass it through to this virtual machine"


def _no_driver(facts: Facts) -> Finding:
    """Say why the driver's library does not answer although there are traces of a card or a driver."""
    host, nvidia = facts.host, facts.nvidia
    cards = f"NVIDIA card on the PCI bus ({', '.join(host.pci_cards)})" if host.pci_cards else "NVIDIA card"
    if nvidia.error == "NotInstalled":
        return Finding("nvml_missing", "warning", nvidia.message, "pip install nvidia-ml-py")
    if host.kernel_driver is None and not host.device_nodes:
        fix = "Install NVIDIA's driver (Ubuntu: `sudo ubuntu-drivers install`) and restart"
        if host.container:
            fix = f"Install NVIDIA's driver on the host, then {_DOCKER}"
        return Finding("no_driver", "warning", f"{cards}, but no driver is loaded", fix)
    if not host.device_nodes and host.system == "Linux":
        fix = _DOCKER[0].upper() + _DOCKER[1:] if host.container else "Run `sudo nvidia-modprobe -u -c=0`, or restart"
        return Finding(
            "no_device_nodes",
            "warning",
            f"the driver is loaded ({host.kernel_driver}), but there is no /dev/nvidia0",
            fix,
        )
    if nvidia.error == "LibraryNotFound":
        fix = "Install the driver's libraries (libnvidia-compute)"
        if host.container:
            fix = "Start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        return Finding("no_driver_library", "warning", "the card is there, but the driver's library is not", fix)
    if nvidia.error == "LibRmVersionMismatch":
        return Finding(
            "driver_mismatch",
            "warning",
            "the driver's library and its kernel module are of two versions, as after an update",
            "Restart the machine, or the container",
        )
    return Finding("nvml_error", "warning", f"the driver does not answer: {nvidia.message}", "Try `nvidia-smi`")


def _hidden(facts: Facts) -> Iterator[Finding]:
    value = facts.host.visible_devices
    if value is None:
        return
    cards = None if facts.nvidia.error else facts.nvidia.cards
    count, unknown = visible(value, cards)
    names = "0" if not cards or len(cards) == 1 else f"0 to {len(cards) - 1}"
    fix = f"Unset it, or name cards that there are ({names})"
    because = "" if unknown is None else f": there is no card {unknown!r}, or it is named twice"
    if count == 0:
        yield Finding("hidden", "warning", f"CUDA_VISIBLE_DEVICES={value!r} hides every card{because}", fix)
    elif unknown is not None:
        yield Finding(
            "unknown_ids", "warning", f"CUDA_VISIBLE_DEVICES={value!r} shows only the first {count}{because}", fix
        )
    elif cards is not None and count < len(cards):
        yield Finding("some_hidden", "ok", f"CUDA_VISIBLE_DEVICES={value!r} shows {count} of {len(cards)} cards")


def _driver_age(facts: Facts) -> Iterator[Finding]:
    """Compare the driver's CUDA with torch's: within one major version an older driver serves a newer torch."""
    torch, driver = facts.torch, facts.nvidia
    wanted = re.fullmatch(r"(\d+)\.(\d+).*", torch.cuda or "")
    if wanted is None or driver.cuda is None:
        return
    told = (
        f"driver {driver.version} serves CUDA up to {driver.cuda[0]}.{driver.cuda[1]}, torch is built for {torch.cuda}"
    )
    if driver.cuda >= (int(wanted[1]), int(wanted[2])):
        yield Finding("driver", "ok", told)
    elif driver.cuda[0] == int(wanted[1]):
        yield Finding("driver", "ok", f"{told}: fine within one major version")
    elif torch.cuda_available:
        yield Finding("driver", "ok", f"{told}, and it works: a forward compatibility package is installed")
    else:
        yield Finding(
            "driver_too_old", "warning", told, f"Update the driver, or take a torch for it: {_cuda_build(facts)}"
        )


def _torch_says(torch: TorchFacts) -> Iterator[Finding]:
    if torch.cuda_problem:
        yield Finding("cuda_error", "warning", f"torch says: {torch.cuda_problem}")


def _kernels(torch: TorchFacts) -> Iterator[Finding]:
    if torch.hip is not None:
        return
    for card in torch.devices:
        capability = f"{card.capability[0]}.{card.capability[1]}"
        how = kernels(card.capability, torch.archs)
        if how == "ptx":
            yield Finding(
                "compiled_at_start",
                "warning",
                f"cuda:{card.index} ({card.name}, capability {capability}): this torch has no ready code for it and "
                "compiles some at the first start, which takes minutes",
                f"A newer torch may have it: pip index versions torch --index-url {_INDEX}/cu130",
            )
        elif how == "missing":
            yield Finding(
                "capability_unsupported",
                "warning",
                f"cuda:{card.index} ({card.name}, capability {capability}): this torch has no code for it, only for "
                f"{', '.join(torch.archs)}",
                "A card older than that needs a torch built for an older CUDA, such as "
                f"pip install --force-reinstall torch --index-url {_INDEX}/cu126; a newer one needs a newer torch",
            )


def _cuda_build(facts: Facts) -> str:
    """Return the commands that list and install a build of torch for this driver."""
    major = 0 if facts.nvidia.cuda is None else facts.nvidia.cuda[0]
    name = "cu130" if major >= 13 else {12: "cu126", 11: "cu118"}.get(major, "cu126")
    unsure = "" if major else " (or another cuNNN: not newer than the CUDA that `nvidia-smi` shows)"
    return (
        f"`pip index versions torch --index-url {_INDEX}/{name}` lists builds with CUDA{unsure}, "
        f"`pip install --force-reinstall torch --index-url {_INDEX}/{name}` installs the newest"
    )
