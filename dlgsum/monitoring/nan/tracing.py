"""One forward and backward pass under hooks: what goes into and out of every module, as numbers only."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dlgsum.monitoring.nan.figures import Figures, Unread, measure, read
from dlgsum.monitoring.nan.state import as_it_was, set_random_state
from dlgsum.monitoring.nan.step import BadStep, Loss, MicroBatch, Precision

Place = Literal["input", "output", "output gradient", "input gradient", "weight gradient"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Event:
    """A tensor that passed a module.

    Attributes:
        module: its name; empty for the model itself.
        kind: its class.
        place: where the tensor was: gradients come in the backward pass.
        weight: name of the weight whose gradient it is; else empty.
    """

    module: str
    kind: str
    place: Place
    figures: Figures
    weight: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """What happened in one pass, in the order in which it happened."""

    loss: float
    forward: list[Event]
    backward: list[Event]

    @property
    def finite(self) -> bool:
        """Whether the loss and the gradients of all weights are."""
        weights = (event for event in self.backward if event.place == "weight gradient")
        return math.isfinite(self.loss) and all(event.figures.finite for event in weights)

    @property
    def gradients(self) -> list[Event]:
        """The gradients of weights that are not finite."""
        return [event for event in self.backward if event.place == "weight gradient" and not event.figures.finite]


def trace(
    model: nn.Module, batch: MicroBatch, bad: BadStep, loss: Loss, precision: Precision, *, modules: bool = True
) -> Trace:
    """Do a micro-batch again with the random state it had, and leave the model as it was.

    Args:
        precision: of the forward pass; the loss is scaled only in fp16, as in training.
        modules: whether every module is watched; else only the loss and the gradients of the weights are.

    Raises:
        RuntimeError: out of memory, or whatever the model raises.
    """
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch.inputs.items()}
    labels = inputs.pop("labels")
    recorder = _Recorder()
    with as_it_was(model), recorder.watching(model, modules=modules), torch.enable_grad():
        set_random_state(batch.rng)
        with torch.autocast(device.type, dtype=_DTYPES.get(precision), enabled=precision in _DTYPES):
            outputs = model(**inputs)
        value = loss(outputs, labels, bad.items)
        scale = bad.loss_scale if precision == "fp16" and bad.loss_scale is not None else 1.0
        recorder.backward = True
        (value * scale).backward()  # type: ignore[no-untyped-call]
        del outputs
        return recorder.result(value)


@dataclass
class _Recorder:
    """Collects figures that stay on the device until the end: reading each would wait for the device each time."""

    backward: bool = False
    seen: list[tuple[bool, str, str, Place, str]] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)

    def add(self, name: str, module: nn.Module, place: Place, tensor: Tensor, weight: str = "") -> None:
        self.seen.append((self.backward, name, type(module).__name__, place, weight))
        self.unread.append(measure(tensor))

    def result(self, loss: Tensor) -> Trace:
        figures = read(self.unread)
        events: tuple[list[Event], list[Event]] = ([], [])
        for (backward, name, kind, place, weight), one in zip(self.seen, figures, strict=True):
            events[backward].append(Event(name, kind, place, one, weight))
        return Trace(float(loss.detach()), *events)

    @contextmanager
    def watching(self, model: nn.Module, *, modules: bool) -> Iterator[None]:
        """Put hooks on the weights and, if asked, on all modules, and take them away again."""
        handles: list[RemovableHandle] = []
        try:
            for name, module in model.named_modules() if modules else ():
                handles += self._watch(name, module)
            owners = dict(model.named_modules())
            for name, weight in model.named_parameters():
                if weight.requires_grad:
                    handles.append(self._watch_weight(name, weight, owners[name.rpartition(".")[0]]))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _watch_weight(self, name: str, weight: nn.Parameter, owner: nn.Module) -> RemovableHandle:
        def after(weight: Tensor) -> None:
            if weight.grad is not None:
                self.add(name.rpartition(".")[0], owner, "weight gradient", weight.grad, name)
                weight.grad = None  # so that a second set of all gradients is never in memory

        handle: RemovableHandle = weight.register_post_accumulate_grad_hook(after)  # type: ignore[no-untyped-call]
        return handle

    def _on_gradient(self, tensor: Tensor, name: str, module: nn.Module, place: Place) -> None:
        def arrived(gradient: Tensor) -> None:
            self.add(name, module, place, gradient)

        tensor.register_hook(arrived)  # type: ignore[no-untyped-call]

    def _watch(self, name: str, module: nn.Module) -> list[RemovableHandle]:
        parameters = list(inspect.signature(type(module).forward).parameters)[1:]

        def arrives(tensor: Tensor) -> Tensor:
            if not self.backward:
                self.add(name, module, "input", tensor)
            if not tensor.requires_grad:
                return tensor
            # A view of its own: its gradient is what this module alone gives back. That of the tensor itself is the
            # sum over all modules that use it.
            tensor = tensor.view_as(tensor)
            self._on_gradient(tensor, name, module, "input gradient")
            return tensor

        def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            names = [*parameters, *[""] * len(args)]
            args = tuple(arrives(arg) if _is_data(key, arg) else arg for key, arg in zip(names, args, strict=False))
            return args, {key: arrives(arg) if _is_data(key, arg) else arg for key, arg in kwargs.items()}

        def after(module: nn.Module, args: Any, output: Any) -> None:
            tensor = _main_tensor(output)
            if tensor is None:
                return
            # With activation checkpointing the forward pass runs once more while the backward pass is under way.
            if not self.backward:
                self.add(name, module, "output", tensor)
            if tensor.requires_grad:
                self._on_gradient(tensor, name, module, "output gradient")

        return [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]


def _is_data(name: str, value: Any) -> bool:
    """Say whether an argument carries activations; masks may be infinite on purpose."""
    return isinstance(value, Tensor) and value.is_floating_point() and "mask" not in name and "bias" not in name


def _main_tensor(output: Any) -> Tensor | None:
    """Return the first floating-point tensor of what a module returned: the hidden states, or the logits."""
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    if isinstance(output, dict):
        output = tuple(output.values())
    if isinstance(output, (tuple, list)):
        return next((one for one in output if isinstance(one, Tensor) and one.is_floating_point()), None)
    return None
