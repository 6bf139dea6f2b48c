"""Where in a pass the first value came about that is not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from dlgsum.monitoring.nan.figures import measure, read
from dlgsum.monitoring.nan.tracing import Event, Trace

Pass = Literal["forward", "loss", "backward"]

THE_LOSS = "loss"


@dataclass(frozen=True, slots=True)
class Culprit:
    """Where it began.

    Attributes:
        module: the module whose own computation did it: its name, the model's class for the model itself, or "loss".
        during: the pass in which it happened.
        what: a sentence.
        event: its place among the events of that pass; None for the loss.
        largest: largest |value| that any module gave before it.
        overflow: whether a value became infinite there, rather than NaN at once.
    """

    module: str
    during: Pass
    what: str
    event: int | None
    largest: float
    overflow: bool


def find_culprit(model: nn.Module, trace: Trace) -> Culprit | None:
    """Return what the events of a pass say; None where loss and gradients are finite.

    A module's output comes about in the module itself when all that its children gave is finite. An input that is not
    finite, of modules that all gave finite outputs, comes about in the code of the module that called.
    """
    if trace.finite:
        return None
    for place, event in enumerate(trace.forward):
        if not event.figures.finite and not _contained(trace.forward, place):
            return _forward(model, trace.forward, place)
    largest = _largest(trace.forward)
    if not math.isfinite(trace.loss):
        what = f"every module gave finite values, up to {largest:.4g}, and the loss computed from them is {trace.loss}"
        return Culprit(THE_LOSS, "loss", what, None, largest, math.isinf(trace.loss))
    for place, event in enumerate(trace.backward):
        if not event.figures.finite:
            return _backward(model, trace, place)
    raise AssertionError("a trace that is not finite has an event that is not")


def called(model: nn.Module, name: str) -> str:
    """Return what a module is called: its name, the class for the model itself."""
    return name or type(model).__name__


def _forward(model: nn.Module, events: Sequence[Event], place: int) -> Culprit:
    event = events[place]
    largest = _largest(events[:place])
    name = called(model, event.module)
    if event.place == "output":
        inside = any(one.module.startswith(f"{event.module}." if event.module else "") for one in events[:place])
        own = " although the modules in it gave finite values" if inside else " for a finite input"
        takes_data = inside or any(one.module == event.module for one in events[:place])
        what = f"{name} ({event.kind}) gave {event.figures}{own if takes_data else ''}{_weights(model, event.module)}"
        return Culprit(name, "forward", what, place, largest, bool(event.figures.inf))
    parent = event.module.rpartition(".")[0]
    after = next((one.module for one in reversed(events[:place]) if one.place == "output"), None)
    what = (
        f"the code of {called(model, parent)} ({type(model.get_submodule(parent)).__name__}) made {event.figures}, "
        f"the input of {name}" + ("" if after is None else f"; {called(model, after)}, just before, was finite")
    )
    return Culprit(called(model, parent), "forward", what, place, largest, bool(event.figures.inf))


def _backward(model: nn.Module, trace: Trace, place: int) -> Culprit:
    event = trace.backward[place]
    name = called(model, event.module)
    largest = _largest(trace.backward[:place])
    start = f"the forward pass is finite (loss {trace.loss:.4g}); in the backward pass"
    if event.place == "weight gradient":
        what = f"{start} the gradient of {event.weight} is {event.figures}"
        return Culprit(name, "backward", what, place, largest, bool(event.figures.inf))
    if event.place == "input gradient":
        what = f"{start} {name} ({event.kind}) gave back {event.figures} for a finite gradient"
        return Culprit(name, "backward", what, place, largest, bool(event.figures.inf))
    if not event.module:
        what = f"{start} the loss itself gave {event.figures} as the gradient of the logits"
        return Culprit(THE_LOSS, "backward", what, place, largest, bool(event.figures.inf))
    parent = called(model, event.module.rpartition(".")[0])
    what = f"{start} the code of {parent} gave back {event.figures} for the output of {name}"
    return Culprit(parent, "backward", what, place, largest, bool(event.figures.inf))


def _contained(events: Sequence[Event], place: int) -> bool:
    """Say whether a module around it gave finite values all the same: BART and T5 clamp what overflows in fp16."""
    name = events[place].module
    around = {name[:end] for end, letter in enumerate(name) if letter == "."} | {""}
    if events[place].place == "input":
        around.add(name)
    else:
        around.discard(name)
    return any(one.module in around and one.place == "output" and one.figures.finite for one in events[place + 1 :])


def _weights(model: nn.Module, module: str) -> str:
    own = [weight for weight in model.get_submodule(module).parameters(recurse=False) if weight.is_floating_point()]
    figures = read([measure(weight) for weight in own])
    if not figures or not all(one.finite for one in figures):  # those that are not finite are told of anyway
        return ""
    return f"; its weights go up to {max(one.largest for one in figures):.4g}"


def _largest(events: Sequence[Event]) -> float:
    return max((event.figures.largest for event in events if event.figures.finite), default=0.0)
