"""The device and the precision that are chosen, and why."""

from __future__ import annotations

import pytest
import torch

from dlgsum.core.device import plan_device
from dlgsum.core.errors import EnvironmentProblem


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretend to be a machine with or without CUDA, bf16 and MPS."""

    def pretend(*, cuda: bool = False, bf16: bool = False, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=0: "Test GPU")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


NONE, OLD, NEW, APPLE = {}, {"cuda": True}, {"cuda": True, "bf16": True}, {"mps": True}


@pytest.mark.parametrize(
    ("here", "device", "precision", "unsafe", "expected"),
    [
        (NONE, "auto", "auto", False, ("cpu", "fp32")),
        (NONE, "cpu", "bf16", False, ("cpu", "bf16")),
        (NONE, "auto", "fp16", False, ("cpu", "fp32")),
        (OLD, "auto", "auto", False, ("cuda", "fp16")),
        (OLD, "auto", "auto", True, ("cuda", "fp32")),
        (OLD, "auto", "fp32", False, ("cuda", "fp32")),
        (OLD, "cpu", "auto", False, ("cpu", "fp32")),
        (NEW, "auto", "auto", False, ("cuda", "bf16")),
        (NEW, "auto", "auto", True, ("cuda", "bf16")),
        (NEW, "cuda", "fp16", False, ("cuda", "fp16")),
        (NEW, "cpu", "fp16", False, ("cpu", "fp32")),
        (APPLE, "auto", "auto", False, ("mps", "fp32")),
        (APPLE, "mps", "fp16", False, ("mps", "fp32")),
        ({"cuda": True, "mps": True}, "auto", "auto", False, ("cuda", "fp16")),
    ],
)
def test_the_plan(machine, here, device, precision, unsafe, expected):
    machine(**here)
    plan = plan_device(device, precision, unsafe_in_fp16=unsafe)
    assert (plan.device, plan.precision) == expected
    assert plan.mixed == (plan.precision != "fp32")
    assert ("Test GPU" in plan.reason) == (plan.device == "cuda")
    assert plan.precision in plan.reason


def test_a_fallback_is_named_as_one(machine):
    machine()
    assert "FALLBACK to fp32: fp16 was asked for" in plan_device("cpu", "fp16").reason
    assert "FALLBACK" not in plan_device("cpu", "auto").reason


def test_emulated_bf16_does_not_count(machine, monkeypatch):
    """torch says yes for cards that only emulate bf16, slowly, unless it is asked the right way."""
    machine(cuda=True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert plan_device("auto", "auto").precision == "fp16"


@pytest.mark.parametrize(
    ("here", "device", "precision", "unsafe", "message", "hint"),
    [
        (NONE, "cuda", "auto", False, "general.device=cuda, but", "general.device=auto or cpu"),
        (NONE, "mps", "auto", False, "no Apple MPS", "general.device=auto"),
        (OLD, "auto", "bf16", False, "This card has no bf16", "training.precision=fp16"),
        (NEW, "auto", "fp16", True, "T5 models overflow in fp16", "training.precision=bf16"),
        (NONE, "cpu", "fp16", True, "T5 models overflow in fp16", "training.precision=bf16"),
    ],
)
def test_what_cannot_be_is_refused(machine, here, device, precision, unsafe, message, hint):
    machine(**here)
    with pytest.raises(EnvironmentProblem) as raised:
        plan_device(device, precision, unsafe_in_fp16=unsafe)
    assert message in raised.value.message and hint in raised.value.hint


def test_a_build_without_cuda_says_so(machine, monkeypatch):
    machine()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(EnvironmentProblem, match="this build of torch has no CUDA"):
        plan_device("cuda", "auto")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(EnvironmentProblem, match="no usable CUDA device"):
        plan_device("cuda", "auto")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="this machine has a GPU")
def test_this_machine():
    plan = plan_device("auto", "auto")
    assert (plan.device, plan.precision) == ("cpu", "fp32")
    assert plan.reason == "cpu: no GPU found; fp32: mixed precision pays only on CUDA"
