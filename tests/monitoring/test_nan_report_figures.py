from __future__ import annotations

import math

import pytest
import torch

from dlgsum.monitoring.nan.figures import Figures, measure, not_finite, read


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, -2.5, 0.0], Figures(0, 0, 2.5)),
        ([math.nan, -2.5, math.nan], Figures(2, 0, 2.5)),
        ([-math.inf, 1.5, math.inf, math.nan], Figures(1, 2, 1.5)),
        ([math.nan], Figures(1, 0, 0.0)),
        ([], Figures(0, 0, 0.0)),
    ],
)
def test_what_a_tensor_holds(values: list[float], expected: Figures, dtype: torch.dtype) -> None:
    assert read([measure(torch.tensor(values, dtype=dtype))]) == [expected]


def test_many_tensors_keep_their_order() -> None:
    tensors = {"a": torch.ones(3, 2), "b": torch.full((2, 2), math.inf), "c": None, "d": torch.tensor([1, 2])}
    named = {**tensors, "e": torch.tensor(math.nan)}
    found = not_finite(named.items())
    assert [(one.name, one.shape, one.figures) for one in found] == [
        ("b", (2, 2), Figures(0, 4, 0.0)),
        ("e", (), Figures(1, 0, 0.0)),
    ]
    assert read([]) == []
    assert str(Figures(2, 1, 0.0)) == "2 NaN and 1 inf"
