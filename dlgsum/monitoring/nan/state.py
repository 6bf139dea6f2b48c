"""A second pass through a model that is in training leaves no trace in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Let a model be used, and put gradients, buffers, random states and its ``forward`` back afterwards.

    Inside, no weight has a gradient and ``forward`` is the model's own: accelerate puts one into its place that always
    runs in the precision of the training.
    """
    gradients = [(weight, weight.grad) for weight in model.parameters()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    replaced = model.__dict__.get("forward")
    devices = {weight.device.type for weight, _ in gradients}
    states = random_state(devices)
    try:
        for weight, _ in gradients:
            weight.grad = None
        if replaced is not None and "_original_forward" in model.__dict__:
            model.__dict__["forward"] = model.__dict__["_original_forward"]
        yield
    finally:
        for weight, gradient in gradients:
            weight.grad = gradient
        if replaced is not None:
            model.__dict__["forward"] = replaced
        with torch.no_grad():
            for module, name, buffer, copy in buffers:
                buffer.copy_(copy)
                module._buffers[name] = buffer
        set_random_state(states)


def random_state(devices: set[str]) -> dict[str, Tensor]:
    """Return torch's random state of the CPU, as "cpu", and of the current devices of the given types."""
    states = {"cpu": torch.get_rng_state()}
    return states | {device: _of(device).get_rng_state() for device in devices - {"cpu"}}


def set_random_state(states: Mapping[str, Tensor]) -> None:
    """Take up random states; one of a type of device that this machine has not is passed over."""
    torch.set_rng_state(states["cpu"].cpu())
    for device, state in states.items():
        if device != "cpu" and _of(device).is_available():
            _of(device).set_rng_state(state.cpu())


def _of(device: str) -> ModuleType:
    module: ModuleType = torch.get_device_module(device)
    return module
