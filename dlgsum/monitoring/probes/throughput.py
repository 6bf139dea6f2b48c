"""How fast training goes: real tokens and samples a second, and what the time was spent on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was trained on so far, in all processes together; padding is not counted.

    Attributes:
        samples: rows.
        source_tokens: tokens of dialogues.
        target_tokens: tokens of summaries.
    """

    samples: int = 0
    source_tokens: int = 0
    target_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Source and target tokens."""
        return self.source_tokens + self.target_tokens


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where an interval begins: step, counts, and seconds of training."""

    step: int
    counts: Counts
    seconds: float


class Throughput:
    """Measure the speed of training on a clock that stands still while nothing is trained.

    The clock runs from ``begin``. The caller pauses it for evaluations, saving and the like.

    Args:
        clock: seconds from any start, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since: float | None = None  # None: paused
        self._seconds = 0.0
        self._tokens = 0
        self._waited = 0.0
        self._mark: _Mark | None = None

    def begin(self, step: int, counts: Counts) -> None:
        """Start the clock and the first interval; what ``counts`` holds already is not counted again.

        Args:
            step: optimizer steps done.
            counts: at this moment; they need not go on from those of an earlier process.
        """
        self.resume()
        self._start(step, counts)

    def pause(self) -> None:
        """Stop the clock; one that is stopped stays so."""
        self._seconds = self._trained()
        self._since = None

    def resume(self) -> None:
        """Let the clock go on; one that runs is left alone."""
        if self._since is None:
            self._since = self._clock()

    def waited(self, seconds: float) -> None:
        """Note time in which training waited for its batches while the clock ran."""
        self._waited += seconds

    def report(self, step: int, counts: Counts) -> dict[str, float]:
        """Return the rates since the last report, and running totals, and begin the next interval.

        Args:
            step: optimizer steps done.
            counts: at this moment.

        Returns:
            Under ``throughput/``: tokens_per_sec, source_tokens_per_sec, target_tokens_per_sec, samples_per_sec,
            steps_per_sec, step_time_ms; data_loading_share, from 0 to 1, of this process; total_tokens, and
            total_time_min of training. Nothing without a step or without time since the last report; the interval then
            goes on. Nothing either where a count went back: a new interval begins there, and so it does where ``begin``
            was never called.
        """
        mark = self._mark
        if mark is None or step < mark.step or _back(mark.counts, counts):
            self._start(step, counts)
            return {}
        seconds, steps = self._trained() - mark.seconds, step - mark.step
        if seconds <= 0 or steps == 0:
            return {}
        tokens = counts.tokens - mark.counts.tokens
        self._tokens += tokens
        rates = {
            "tokens_per_sec": tokens / seconds,
            "source_tokens_per_sec": (counts.source_tokens - mark.counts.source_tokens) / seconds,
            "target_tokens_per_sec": (counts.target_tokens - mark.counts.target_tokens) / seconds,
            "samples_per_sec": (counts.samples - mark.counts.samples) / seconds,
            "steps_per_sec": steps / seconds,
            "step_time_ms": 1000 * seconds / steps,
            "data_loading_share": min(1.0, self._waited / seconds),
            "total_tokens": float(self._tokens),
            "total_time_min": self._trained() / 60,
        }
        self._start(step, counts)
        return {f"throughput/{name}": value for name, value in rates.items()}

    @staticmethod
    def evaluated(seconds: float, samples: int) -> dict[str, float]:
        """Return the duration and the speed of an evaluation; nothing for a duration that is not above 0."""
        if not (math.isfinite(seconds) and seconds > 0):
            return {}
        return {"throughput/eval_time_s": seconds, "throughput/eval_samples_per_sec": samples / seconds}

    def state(self) -> dict[str, Any]:
        """Return the totals: seconds of training until now, and tokens until the last report."""
        return {"seconds": self._trained(), "tokens": self._tokens}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the totals of an earlier ``state``; to be called before ``begin``."""
        self._since, self._mark = None, None
        self._seconds, self._tokens = float(state["seconds"]), int(state["tokens"])

    def _start(self, step: int, counts: Counts) -> None:
        self._mark = _Mark(step, counts, self._trained())
        self._waited = 0.0

    def _trained(self) -> float:
        return self._seconds + (0.0 if self._since is None else self._clock() - self._since)


def _back(before: Counts, now: Counts) -> bool:
    return (
        now.samples < before.samples
        or now.source_tokens < before.source_tokens
        or now.target_tokens < before.target_tokens
    )
