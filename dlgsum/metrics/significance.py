"""Whether a score, or a difference of scores, is more than luck: bootstrap over rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CHUNK = 4_000_000  # drawn indices held at a time: 32 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over rows and the interval around it; NaN where it cannot be known."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much better the first of two systems is on the same rows.

    Attributes:
        difference: mean of first minus second.
        low: lower end of its interval.
        high: upper end of its interval.
        p: two-sided p-value, above 0 and at most 1: how often luck alone would show such a difference.
    """

    difference: float
    low: float
    high: float
    p: float


def bootstrap_interval(
    values: Sequence[float] | Floats, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Return the mean of ``values`` with its percentile bootstrap interval.

    Fewer than two values say nothing about their spread: the ends are then NaN, and without any value the
    mean is NaN too. The same arguments give the same interval. Source: Efron and Tibshirani (1993), ch. 13.

    Args:
        values: one score a row, shape (rows,).
        samples: number of resamples, at least 1.
        seed: of the random generator.
        level: share of resampled means inside the interval, above 0 and below 1.

    Raises:
        ValueError: a value is NaN or infinite, or another argument is out of range.
    """
    numbers = _finite(values)
    _check(samples, level)
    if numbers.size < 2:
        return Interval(float(numbers[0]) if numbers.size else math.nan, math.nan, math.nan)
    low, high = _ends(_resampled_means(numbers, samples, seed), level)
    return Interval(float(numbers.mean()), low, high)


def paired_bootstrap(
    a: Sequence[float] | Floats,
    b: Sequence[float] | Floats,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Return how much ``a`` exceeds ``b``, two systems scored on the same rows, and whether that is luck.

    Rows are resampled for both systems together. The p-value is twice the share of resamples in which the
    worse system is not worse, each resample and the observation counted, so it is never 0; equal systems give
    1. Fewer than two rows give NaN for the ends and p. Source: Koehn (2004), "Statistical Significance Tests
    for Machine Translation Evaluation", made two-sided.

    Args:
        a: one score a row of the first system, shape (rows,).
        b: one score a row of the second system, shape (rows,).
        samples: number of resamples, at least 1.
        seed: of the random generator.
        level: share of resampled differences inside the interval, above 0 and below 1.

    Raises:
        ValueError: different numbers of rows, a value that is NaN or infinite, or an argument out of range.
    """
    first, second = _finite(a), _finite(b)
    _check(samples, level)
    if first.size != second.size:
        raise ValueError(f"a paired comparison needs the same rows: {first.size} and {second.size} values")
    gaps = first - second
    if gaps.size < 2:
        return Comparison(float(gaps[0]) if gaps.size else math.nan, math.nan, math.nan, math.nan)
    means = _resampled_means(gaps, samples, seed)
    low, high = _ends(means, level)
    fewer = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return Comparison(float(gaps.mean()), low, high, min(1.0, 2 * (fewer + 1) / (samples + 1)))


def _finite(values: Sequence[float] | Floats) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise ValueError(f"expected one value a row, got an array of shape {numbers.shape}")
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise ValueError(f"value {bad[0]} is {numbers[bad[0]]}; a bootstrap needs finite values")
    return numbers


def _check(samples: int, level: float) -> None:
    if samples < 1:
        raise ValueError(f"samples={samples}: must be at least 1")
    if not 0 < level < 1:
        raise ValueError(f"level={level}: must be above 0 and below 1")


def _resampled_means(values: Floats, samples: int, seed: int) -> Floats:
    generator = np.random.default_rng(seed)

    def chunks() -> Iterator[Floats]:
        size = max(1, _CHUNK // values.size)
        for start in range(0, samples, size):
            drawn = generator.integers(0, values.size, size=(min(size, samples - start), values.size))
            yield values[drawn].mean(axis=1)

    return np.concatenate(list(chunks()))


def _ends(means: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
