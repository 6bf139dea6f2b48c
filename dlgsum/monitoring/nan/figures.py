"""How many values of a tensor are NaN or infinite, measured on its device and read all at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


@dataclass(frozen=True, slots=True)
class Figures:
    """What a tensor holds.

    Attributes:
        nan: number of NaN; ``inf``: number of infinite values, of either sign.
        largest: largest |value| among the finite ones; 0 where there is none.
    """

    nan: int
    inf: int
    largest: float

    @property
    def finite(self) -> bool:
        """Whether every value is."""
        return not (self.nan or self.inf)

    def __str__(self) -> str:
        if self.finite:
            return f"finite, up to {self.largest:.4g}"
        return " and ".join(
            text for count, text in ((self.nan, f"{self.nan} NaN"), (self.inf, f"{self.inf} inf")) if count
        )


@dataclass(frozen=True, slots=True)
class Unread:
    """Figures that are still on the device: two int64 counts and a float32."""

    counts: Tensor
    largest: Tensor


@dataclass(frozen=True, slots=True)
class Named:
    """A weight, or its gradient, under its name in the model."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    figures: Figures


@torch.no_grad()
def measure(tensor: Tensor) -> Unread:
    """Measure a floating-point tensor without waiting for its device; of a shared-out one, this process's part."""
    values = (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()
    if not values.numel():
        return Unread(*_nothing(values))
    if values.device.type == "cpu":  # where looking at a number costs nothing, and copies cost the most
        largest = torch.stack(values.aminmax()).abs().amax()
        if largest.isfinite():
            return Unread(_nothing(values)[0], largest.float())
    low, high = values.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).aminmax()
    return Unread(torch.stack([values.isnan().sum(), values.isinf().sum()]), torch.maximum(high, -low).float())


def _nothing(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.new_zeros(2, dtype=torch.int64), values.new_zeros((), dtype=torch.float32)


def read(unread: Sequence[Unread]) -> list[Figures]:
    """Return the figures in the same order, with two transfers a device."""
    found: list[Figures | None] = [None] * len(unread)
    for device in {one.counts.device for one in unread}:
        places = [place for place, one in enumerate(unread) if one.counts.device == device]
        counts = torch.stack([unread[place].counts for place in places]).tolist()
        largest = torch.stack([unread[place].largest for place in places]).tolist()
        for place, (nan, inf), most in zip(places, counts, largest, strict=True):
            found[place] = Figures(nan, inf, most)
    return [one for one in found if one is not None]


def not_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> list[Named]:
    """Return those of the named tensors that hold NaN or infinite values, in the given order; None is passed over."""
    floating = [(name, tensor) for name, tensor in tensors if tensor is not None and tensor.is_floating_point()]
    figures = read([measure(tensor) for _, tensor in floating])
    return [
        Named(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), one)
        for (name, tensor), one in zip(floating, figures, strict=True)
        if not one.finite
    ]
