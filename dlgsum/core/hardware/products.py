"""Prove that a device computes: a matrix product on it, compared with the CPU's in double precision, and timed."""

from __future__ import annotations

import math
import time
from typing import Any

from dlgsum.core.hardware.facts import Product, TorchFacts

_ROWS = 128  # that are compared, spread over the whole product
_SIZES = {"cuda": 4096, "mps": 2048, "cpu": 1024}
_SECONDS = 0.3  # of timed products
_MOST = 50

# What rounding explains, in standard deviations of an element: a right product of normal numbers stays a few units of
# the type's last place below it, a wrong one is off by whole deviations.
_TOLERANCES = {"fp32": 256 * 2.0**-23, "tf32": 16 * 2.0**-10, "fp16": 16 * 2.0**-10, "bf16": 16 * 2.0**-7}


def planned(facts: TorchFacts) -> list[tuple[str, str]]:
    """Return the device and type of each product: every card in fp32 and its 16-bit type, MPS and the CPU in fp32."""
    pairs = []
    for card in facts.devices:
        pairs += [(f"cuda:{card.index}", "fp32"), (f"cuda:{card.index}", "bf16" if card.bf16 else "fp16")]
    if facts.mps_available:
        pairs.append(("mps", "fp32"))
    return [*pairs, ("cpu", "fp32")]


def compute(device: str, dtype: str, size: int | None = None) -> Product:
    """Multiply two matrices of normal numbers; whatever goes wrong is told in the result.

    Args:
        device: torch's name.
        dtype: "fp32", "fp16" or "bf16".
        size: rows and columns; by default what keeps a device of that kind busy.
    """
    import torch

    size = size or _SIZES[device.partition(":")[0]]
    kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    try:
        generator = torch.Generator().manual_seed(0)
        left, right = (torch.randn(size, size, generator=generator).to(kind) for _ in range(2))
        there_left, there_right = left.to(device), right.to(device)
        result, seconds = _timed(device, there_left, there_right)
        chosen = torch.arange(0, size, max(1, size // _ROWS))
        expected = left[chosen].double() @ right.double()
        error = ((result.cpu()[chosen].double() - expected).abs().max() / math.sqrt(size)).item()
    except Exception as problem:  # drivers fail in many ways, and each of them is an answer
        words = str(problem).strip().splitlines() or [""]
        return Product(device, dtype, size, problem=f"{type(problem).__name__}: {words[0]}")
    return judged(device, dtype, size, error, seconds, torch.get_float32_matmul_precision())


def judged(
    device: str, dtype: str, size: int, error: float, seconds: float, fp32_precision: str = "highest"
) -> Product:
    """Return a product whose ``problem`` says when the error is more than rounding, or NaN.

    Args:
        fp32_precision: torch's setting; "high" lets fp32 products run in TF32, "medium" in bf16.
    """
    rounding = {"high": "tf32", "medium": "bf16"}.get(fp32_precision, "fp32") if dtype == "fp32" else dtype
    tolerance = _TOLERANCES[rounding]
    right = error <= tolerance  # not for NaN
    problem = (
        "" if right else f"the result is wrong: off by {error:.3g} standard deviations, {tolerance:.2g} is rounding"
    )
    return Product(device, dtype, size, error, tolerance, seconds, 2 * size**3 / seconds / 1e12, problem)


def _timed(device: str, left: Any, right: Any) -> tuple[Any, float]:
    """Return the product and the seconds of one, once the device is warm."""
    result = left @ right
    _wait(device)
    count, started = 0, time.perf_counter()
    while count == 0 or (count < _MOST and time.perf_counter() - started < _SECONDS):
        result = left @ right
        count += 1
        _wait(device)
    return result, (time.perf_counter() - started) / count


def _wait(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()
