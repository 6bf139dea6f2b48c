"""Small running statistics that one bad value cannot blind, and that survive a resume."""

from __future__ import annotations

import math
from typing import Any, TypeGuard


def usable(value: float | None) -> TypeGuard[float]:
    """Tell whether a value was measured and is finite."""
    return value is not None and math.isfinite(value)


def times(value: float, other: float) -> float:
    """Return how many times ``other`` fits into ``value``, at most a billion; for an ``other`` of 0 too."""
    return min(value / max(other, 1e-12), 1e9)


class Level:
    """The bias-corrected exponential moving average of a positive series, guarded against outliers.

    ``m_t = beta m_(t-1) + (1 - beta) x_t``, divided by ``1 - beta^t`` (Kingma and Ba, 2015, section 3). A value
    enters as at most ``limit`` times the average, or a single loss of 1e6 would hold the average up for a
    thousand steps; a lasting rise is still followed. Before ``history`` values are in, one below the average by the
    same factor starts it anew: what came before was the outlier. Give finite values only.
    """

    def __init__(self, beta: float, *, limit: float, history: int) -> None:
        self._beta, self._limit, self._history = beta, limit, history
        self._sum = self._weight = 0.0
        self.count = 0

    @property
    def value(self) -> float | None:
        """The average; None before the first value."""
        return self._sum / self._weight if self._weight else None

    @property
    def settled(self) -> float | None:
        """The average once ``history`` values are in it; None before."""
        return self.value if self.count >= self._history else None

    def add(self, value: float) -> float:
        """Take a finite value and return the average with it."""
        before = self.value
        if before is not None:
            if self.count < self._history and value * self._limit < before:
                self._sum = self._weight = 0.0
                self.count = 0
            else:
                value = min(value, self._limit * before) if before > 0 else value
        self._sum = self._beta * self._sum + (1 - self._beta) * value
        self._weight = self._beta * self._weight + (1 - self._beta)
        self.count += 1
        return self._sum / self._weight

    def state(self) -> list[Any]:
        """Return the sums as JSON."""
        return [self._sum, self._weight, self.count]

    def restore(self, state: list[Any]) -> None:
        """Go on from an earlier ``state``."""
        total, weight, count = state
        self._sum, self._weight, self.count = float(total), float(weight), int(count)
