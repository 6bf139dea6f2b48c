"""Norms of gradients and sizes of updates, by layer, without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._foreach_utils import _group_tensors_by_device_and_dtype, _has_foreach_support

from dlgsum.monitoring.probes.layers import layer_of

EPSILON = 1e-8  # least norm of weights that an update is compared with


@dataclass(frozen=True, slots=True)
class GradientNorms:
    """L2 norms of the gradients of one step; the tensors lie on the device of the first gradient.

    Attributes:
        total: of all gradients together, without a dimension; 0 where there is no gradient.
        each: shape (gradients,), float32 unless all gradients are of another type.
        names: of the parameters that have a gradient, in the model's order.
    """

    total: Tensor
    each: Tensor
    names: tuple[str, ...]


class GradientProbe:
    """Measure the gradients and updates of a model.

    Nothing here waits for the device, but for ``distributions``. In a model that is shared out (FSDP2) the methods
    exchange one small vector between the processes, so all of them must call.

    Args:
        model: as it will be trained: on its device, shared out if it is to be. Weights with several names count once.
        samples: elements of each weight that the update ratio looks at, from 1; of a shared-out model, elements of each
            process's part.

    Attributes:
        layers: short names, in the model's order (see ``layer_of``).
    """

    def __init__(self, model: nn.Module, *, samples: int = 65_536) -> None:
        self._named = list(model.named_parameters())
        self._samples = samples
        self._shared_out = any(isinstance(weight, DTensor) for _, weight in self._named)
        of_each = {name: layer_of(name) for name, _ in self._named}
        self.layers: tuple[str, ...] = tuple(dict.fromkeys(of_each.values()))
        place = {layer: index for index, layer in enumerate(self.layers)}
        self._place = {name: place[layer] for name, layer in of_each.items()}
        self._indexed: tuple[tuple[str, ...], Tensor] = ((), torch.empty(0, dtype=torch.int64))
        self._before: Tensor | None = None

    @torch.no_grad()
    def norms(self) -> GradientNorms:
        """Return the norms of the gradients as they are now; those of a NaN or infinite gradient are not finite.

        The total is, bit for bit, what ``torch.nn.utils.clip_grad_norm_`` returns for a model that is not shared out.
        """
        named = [(name, weight.grad) for name, weight in self._named if weight.grad is not None]
        if not named:
            device = self._named[0][1].device if self._named else None
            return GradientNorms(torch.zeros((), device=device), torch.empty(0, device=device), ())
        names = tuple(name for name, _ in named)
        gradients = [gradient for _, gradient in named]
        stacked, places = _norms([_local(gradient) for gradient in gradients])
        each = stacked
        if places != sorted(places):
            each = torch.empty_like(stacked).index_copy_(0, _moved(places, stacked.device), stacked)
        if self._shared_out:
            copies = _moved([_copies(gradient) for gradient in gradients], each.device)
            squares = each.float().square() / copies
            dist.all_reduce(squares)
            stacked = each = squares.sqrt()
        # In the order of torch's own groups, not the model's: the last digit of a sum depends on it.
        return GradientNorms(torch.linalg.vector_norm(stacked), each, names)

    @torch.no_grad()
    def by_layer(self, norms: GradientNorms) -> Tensor:
        """Return the gradient norm of each of ``layers``, shape (layers,), float32; 0 for one without gradients."""
        return self._sums(norms.each.float().square(), norms.names).sqrt()

    @torch.no_grad()
    def before_update(self) -> None:
        """Remember a sample of the weights, right before the optimizer changes them."""
        self._before = torch.cat(self._sampled()) if self._named else None

    @torch.no_grad()
    def after_update(self, *, skipped: bool = False) -> Tensor | None:
        """Return the update ratio of each of ``layers``, shape (layers,), float32, and forget the sample.

        That is the norm of the change over the norm of the weights before it; around 1e-3 is usual (CS231n, Neural
        Networks Part 3, "Ratio of weights:updates"). Both are estimated on an evenly strided sample, each weight of a
        layer in proportion to its size; they are exact where weights have at most ``samples`` elements. A norm of
        weights below 1e-8 counts as 1e-8: the ratio of a layer of zeros is large where it changed and 0 where not.

        Args:
            skipped: the optimizer left the weights alone; it must be so in every process or in none.

        Returns:
            None where it was skipped, or where there was no ``before_update``.
        """
        before, self._before = self._before, None
        if skipped or before is None:
            return None
        after = self._sampled()
        sizes = [sample.numel() for sample in after]
        change = torch.cat(after).sub_(before)
        norms = [torch.stack(torch._foreach_norm(torch.split_with_sizes(flat, sizes))) for flat in (change, before)]
        shares = [
            _local(weight).numel() / max(1, size) / (_copies(weight) if self._shared_out else 1)
            for (_, weight), size in zip(self._named, sizes, strict=True)
        ]
        squares = torch.stack(norms).square() * _moved(shares, change.device)
        sums = self._sums(squares, tuple(name for name, _ in self._named))
        if self._shared_out:
            dist.all_reduce(sums)
        ratios: Tensor = sums[0].sqrt() / sums[1].sqrt().clamp_min(EPSILON)
        return ratios

    @torch.no_grad()
    def distributions(self, max_elements: int) -> Iterator[tuple[str, Tensor]]:
        """Yield ``gradients/<name>`` and ``parameters/<name>`` with values of each weight, for histograms.

        The values are an evenly strided sample of at most ``max_elements``, of shape (elements,), float32, on the CPU:
        each waits for the device. They may be NaN or infinite. Of a shared-out weight they are of this process's part,
        which may be empty.
        """
        for name, weight in self._named:
            if weight.grad is not None:
                yield f"gradients/{name}", _sample(weight.grad, max_elements).float().cpu()
            yield f"parameters/{name}", _sample(weight, max_elements).float().cpu()

    def _sampled(self) -> list[Tensor]:
        device = self._named[0][1].device
        return [_sample(weight, self._samples).to(device, torch.float32) for _, weight in self._named]

    def _sums(self, values: Tensor, names: tuple[str, ...]) -> Tensor:
        """Add up the last dimension, one value a parameter, by layer."""
        known, index = self._indexed
        if known != names or index.device != values.device:
            index = _moved([self._place[name] for name in names], values.device)
            self._indexed = names, index
        sums = torch.zeros(*values.shape[:-1], len(self.layers), device=values.device)
        return sums.index_add_(-1, index, values)


def _norms(tensors: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """Return the norm of each tensor, in the groups that torch's own clipping makes, and its place in ``tensors``."""
    norms: list[Tensor] = []
    places: list[int] = []
    for (device, _), ([group], indices) in _group_tensors_by_device_and_dtype([list(tensors)], True).items():
        alike: list[Tensor] = group  # type: ignore[assignment]
        if _has_foreach_support(alike, device):
            norms += torch._foreach_norm(alike, 2.0)
        else:
            norms += [torch.linalg.vector_norm(tensor, 2.0) for tensor in alike]
        places += indices
    return torch.stack([norm.to(tensors[0].device) for norm in norms]), places


def _moved(values: Sequence[float], device: torch.device) -> Tensor:
    """Return a tensor on a device; ``torch.tensor(values, device=…)`` would wait for all that the device has to do."""
    return torch.tensor(values).to(device, non_blocking=True)


def _copies(tensor: Tensor) -> int:
    """Return how many processes hold the same part of a tensor, in a model that is shared out."""
    if not isinstance(tensor, DTensor):
        return dist.get_world_size()
    mesh = tensor.device_mesh
    return math.prod(mesh.size(place) for place, kind in enumerate(tensor.placements) if kind.is_replicate())


def _local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _sample(tensor: Tensor, most: int) -> Tensor:
    """Return at most ``most`` elements, evenly strided; a view wherever the tensor lies in one piece."""
    local = _local(tensor).detach()
    stride = max(1, -(-local.numel() // most))
    # One that has a divisor in common with the length of a row would meet the same few columns in every row.
    while local.ndim > 1 and local.numel() and math.gcd(stride, local.shape[-1]) > 1:
        stride += 1
    return local.reshape(-1)[::stride]
