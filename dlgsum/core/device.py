"""Choose the device and the precision, and say why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dlgsum.core.errors import EnvironmentProblem

Precision = Literal["bf16", "fp16", "fp32"]


@dataclass(frozen=True)
class DevicePlan:
    """Where a job runs and in which precision, with the reason for both."""

    device: str
    precision: Precision
    reason: str

    @property
    def mixed(self) -> bool:
        """Whether forward passes run in a 16-bit type."""
        return self.precision != "fp32"


def plan_device(device: str, precision: str, *, unsafe_in_fp16: bool = False) -> DevicePlan:
    """Choose device and precision.

    Args:
        device: "auto", "cuda", "mps" or "cpu".
        precision: "auto", "bf16", "fp16" or "fp32".
        unsafe_in_fp16: the model overflows in fp16 (T5), so that auto avoids it.

    Raises:
        EnvironmentProblem: a device was asked for that this machine does not offer, or fp16 for a model that
            overflows in it.
    """
    import torch

    chosen, why = _device(device)
    if chosen == "cuda":
        index = torch.cuda.current_device()
        why = f"{torch.cuda.get_device_name(index)}; {why}"
    supports_bf16 = chosen == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "fp16" and unsafe_in_fp16:
        raise EnvironmentProblem(
            "T5 models overflow in fp16 and end in NaN", "Use training.precision=bf16, fp32 or auto."
        )
    if precision == "auto":
        if chosen != "cuda":
            return DevicePlan(chosen, "fp32", f"{why}; fp32: mixed precision pays only on CUDA")
        if supports_bf16:
            return DevicePlan(chosen, "bf16", f"{why}; bf16: the card supports it")
        if unsafe_in_fp16:
            return DevicePlan(chosen, "fp32", f"{why}; fp32: the card has no bf16 and this model overflows in fp16")
        return DevicePlan(chosen, "fp16", f"{why}; fp16: the card has no bf16")
    if precision == "fp16" and chosen != "cuda":
        return DevicePlan(chosen, "fp32", f"{why}; FALLBACK to fp32: fp16 was asked for, but needs CUDA")
    if precision == "bf16" and chosen == "cuda" and not supports_bf16:
        raise EnvironmentProblem("This card has no bf16", "Use training.precision=fp16, fp32 or auto.")
    return DevicePlan(chosen, precision, f"{why}; {precision}: as asked")  # type: ignore[arg-type]


def _device(wanted: str) -> tuple[str, str]:
    import torch

    has_cuda = torch.cuda.is_available()
    has_mps = torch.backends.mps.is_available()
    if wanted == "cuda" and not has_cuda:
        build = "this build of torch has no CUDA" if torch.version.cuda is None else "no usable CUDA device was found"
        raise EnvironmentProblem(f"general.device=cuda, but {build}", "Use general.device=auto or cpu.")
    if wanted == "mps" and not has_mps:
        raise EnvironmentProblem("general.device=mps, but this machine has no Apple MPS", "Use general.device=auto.")
    if wanted != "auto":
        return wanted, f"{wanted}: as asked"
    if has_cuda:
        return "cuda", "cuda: available"
    if has_mps:
        return "mps", "mps: available, no CUDA"
    return "cpu", "cpu: no GPU found"
