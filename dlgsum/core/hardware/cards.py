"""Join what the driver and what torch say about each card: they number cards differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dlgsum.core.hardware.diagnose import kernels
from dlgsum.core.hardware.facts import Facts, GpuProcess, NvidiaCard, Product, TorchDevice
from dlgsum.core.hardware.tiers import ModelSize, Suggestion, suggest


@dataclass(frozen=True)
class Card:
    """A card; None is unknown. Sizes are in bytes.

    Attributes:
        device: torch's name, such as "cuda:0"; None for a card that torch does not see.
        driver_index: the number that NVML and ``nvidia-smi`` give it; None for a card that the driver does not tell.
        usable: every product on it was right; None where none was computed.
        memory: what torch offers, else what the driver tells.
        mig: whether it is divided into instances; torch then sees one of them.
        kernels: how torch has code for it: native, ptx (compiled at the first start) or missing.
        precision: what precision=auto means on it for the configured model.
        processes: others that use it.
    """

    device: str | None
    driver_index: int | None
    name: str
    uuid: str | None
    pci: str | None
    usable: bool | None
    memory: int | None
    memory_used: int | None
    memory_free: int | None
    temperature: int | None
    power: float | None
    power_limit: float | None
    utilization: int | None
    mig: bool | None
    capability: tuple[int, int] | None
    bf16: bool | None
    fp16: bool | None
    tf32: bool | None
    kernels: Literal["native", "ptx", "missing"] | None
    precision: str | None
    precision_reason: str | None
    suggestion: Suggestion | None
    processes: tuple[GpuProcess, ...]


def join_cards(facts: Facts, products: Sequence[Product], model: ModelSize) -> tuple[Card, ...]:
    """Return the cards that torch sees, in its order, then those that only the driver sees."""
    known = facts.nvidia.cards
    pairs: list[tuple[TorchDevice | None, NvidiaCard | None]] = [(one, same(one, known)) for one in facts.torch.devices]
    matched = [card.index for _, card in pairs if card is not None]
    pairs += [(None, card) for card in known if card.index not in matched]
    return tuple(_card(ours, theirs, facts, products, model) for ours, theirs in pairs)


def same(device: TorchDevice, cards: Sequence[NvidiaCard]) -> NvidiaCard | None:
    """Return the driver's entry for torch's card: by its identity, else by its place on the bus."""
    for card in cards:
        if device.uuid and card.uuid and device.uuid.lower() == card.uuid.lower().removeprefix("gpu-"):
            return card
    return next((card for card in cards if device.pci and device.pci == card.pci), None)


def _card(
    ours: TorchDevice | None, theirs: NvidiaCard | None, facts: Facts, products: Sequence[Product], model: ModelSize
) -> Card:
    device = None if ours is None else f"cuda:{ours.index}"
    outcomes = [not product.problem for product in products if product.device == device]
    memory = ours.memory if ours is not None else None if theirs is None else theirs.memory_total
    capability = ours.capability if ours is not None else None if theirs is None else theirs.capability
    # Of a divided card the driver tells the whole, torch one instance: what is free in that one is not known.
    whole = None if theirs is None or theirs.mig else theirs
    free = None if whole is None else whole.memory_free
    return Card(
        device=device,
        driver_index=None if theirs is None else theirs.index,
        name=ours.name if ours is not None else "" if theirs is None else theirs.name,
        uuid=theirs.uuid if theirs is not None else ours.uuid if ours is not None else None,
        pci=theirs.pci if theirs is not None else ours.pci if ours is not None else None,
        usable=all(outcomes) if outcomes else None,
        memory=memory,
        memory_used=None if whole is None else whole.memory_used,
        memory_free=free,
        temperature=None if theirs is None else theirs.temperature,
        power=None if theirs is None else theirs.power,
        power_limit=None if theirs is None else theirs.power_limit,
        utilization=None if theirs is None else theirs.utilization,
        mig=None if theirs is None else theirs.mig,
        capability=capability,
        bf16=None if ours is None else ours.bf16,
        fp16=None if ours is None else ours.fp16,
        tf32=None if ours is None else ours.tf32,
        kernels=None if ours is None or facts.torch.hip else kernels(ours.capability, facts.torch.archs),
        precision=None if ours is None else ours.precision,
        precision_reason=None if ours is None else ours.precision_reason,
        suggestion=None if memory is None else suggest(memory, free, model),
        processes=() if theirs is None else theirs.processes,
    )
