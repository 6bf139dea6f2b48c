"""Search for a batch size by trying few of them; what a try is, the caller says."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CLOSE = 1.05  # the smallest size known to fail over the largest known to fit, at which a search ends
MOST = 10  # probes in one search


@dataclass(frozen=True)
class Probe:
    """One size that was tried.

    Attributes:
        size: rows, or tokens.
        fits: whether it worked within the memory.
        peak_bytes: the most memory it took; where it does not fit, what is known of that.
        tokens_per_second: 0 where nobody measured it, or it does not fit.
        note: what else is to be said, such as why it does not fit.
        seconds: how long the try took.
    """

    size: int
    fits: bool
    peak_bytes: int = 0
    tokens_per_second: float = 0.0
    note: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Found:
    """The outcome of a search: the size, why it is this one, and every try."""

    size: int
    reason: str
    probes: list[Probe]


Try = Callable[[int], Probe]


class DoesNotFit(Exception):
    """Not even the smallest size fits.

    Attributes:
        probe: the try of that size.
    """

    def __init__(self, probe: Probe) -> None:
        super().__init__(f"size {probe.size} does not fit: {probe.note}")
        self.probe = probe


def find_largest(
    probe: Try,
    *,
    limit: int,
    smallest: int = 1,
    largest: int,
    landmarks: Sequence[int] = (),
    most: int = MOST,
) -> Found:
    """Find the largest size that fits, to within 5 %, by trying.

    Two small sizes give a line of memory over size, the line predicts the size that fills the memory, and tries around
    it prove or correct that. A size is only tried where halving the rest would still end within ``most`` tries, so a
    line that misleads (steps, bends, noise) costs tries but not the result. The answer fits, and a size at most 5 %
    larger, or one more, does not, as long as no size fits that is larger than one that does not, and ``largest`` is
    below ``smallest`` times a hundred thousand.

    Args:
        probe: tries a size.
        limit: bytes that there are, for the prediction; whether a size fits, the probe says.
        smallest: the smallest size that makes sense, 1 or more.
        largest: the largest that is wanted.
        landmarks: sizes of which it matters more than 5 % whether they fit; ``largest`` is always one. They are tried
            as far as ``most`` tries allow.

    Raises:
        DoesNotFit: the smallest size does not fit.
        ValueError: sizes out of order.
    """
    if not 1 <= smallest <= largest:
        raise ValueError(f"smallest={smallest} must be 1 or more, and at most largest={largest}")
    search = _Search(probe, limit, smallest, largest, sorted({*landmarks, largest}), most)
    search.run()
    low, high = search.low, search.high
    reason = f"all of {largest:,} fits" if low == largest else f"{low:,} fits and {high:,} does not"
    return Found(low, reason, search.probes)


class _Search:
    def __init__(
        self, probe: Try, limit: int, smallest: int, largest: int, landmarks: Sequence[int], most: int
    ) -> None:
        self._probe = probe
        self._limit = limit
        self._smallest = smallest
        self._largest = largest
        self._landmarks = landmarks
        self._most = most
        self.low = 0  # fits; 0: nothing known
        self.high = largest + 1  # does not fit, or is not wanted
        self.probes: list[Probe] = []

    def run(self) -> None:
        """Try until it is known what fits."""
        # Smaller ones often take no more than the optimizer's own work, which hides the line.
        for size in (4 * self._smallest, 16 * self._smallest):
            if size < self.high:
                self._try(size)
        if not self.low and not self._try(self._smallest):
            raise DoesNotFit(self.probes[-1])
        while len(self.probes) < self._most:
            if not _closed(self.low, self.high):
                self._try(self._next())
            elif between := [size for size in self._landmarks if self.low < size < self.high]:
                self._try(between[len(between) // 2])
            else:
                return

    def _try(self, size: int) -> bool:
        probe = self._probe(size)
        self.probes.append(probe)
        if probe.fits:
            self.low = max(self.low, size)
        else:
            self.high = min(self.high, size)
        return probe.fits

    def _next(self) -> int:
        """Return the size that would be good to try, or the nearest after which halving still ends in time."""
        left = 1 << (self._most - len(self.probes) - 1)
        between = _between(self.low, self.high)
        least, most = between[max(0, len(between) - left)], between[left] if left < len(between) else self.high - 1
        guess = self._guess()
        if guess is None or not self.low < guess < self.high:
            return between[len(between) // 2]
        return min(max(guess, least), most)

    def _guess(self) -> int | None:
        """Return the size that the line of memory over size points to, or None."""
        predicted = self._predict()
        failed = sum(not probe.fits for probe in self.probes)
        if not failed and (predicted is None or predicted >= self._largest):
            return self._largest
        if predicted is None:
            return None
        if predicted >= self.high:
            # The line says that more fits than did. Near the size that failed first; after that it is not trusted.
            return math.ceil(self.high / CLOSE) if failed < 2 else None
        if predicted <= self.low * CLOSE:
            return _step_up(self.low)  # if this one fails, it is done
        # Far from what is known the line is inexact; from a little below the end, the next one is exact.
        return predicted if predicted <= 4 * self.low else math.ceil(0.9 * predicted)

    def _predict(self) -> int | None:
        """Return the size that fills the memory, by a line through the largest that fits; None without a slope.

        The line's other end is the next smaller size that took less: token budgets and blocks of the allocator make
        neighbours take the same.
        """
        fitting = sorted((probe.size, probe.peak_bytes) for probe in self.probes if probe.fits)
        larger, more = fitting[-1]  # the smallest size fits at least
        below = [(size, peak) for size, peak in fitting if peak < more]
        if not below:
            return None
        size, peak = below[-1]
        return math.floor(larger + (self._limit - more) * (larger - size) / (more - peak))


def _closed(low: int, high: int) -> bool:
    return high <= _step_up(low)


def _step_up(low: int) -> int:
    """Return the largest size that need not be told from ``low``."""
    return max(low + 1, math.floor(low * CLOSE))


def _between(low: int, high: int) -> list[int]:
    """Return the sizes worth telling apart, each a step above the one before, from ``low`` to below ``high``."""
    sizes = [low]
    while not _closed(sizes[-1], high):
        sizes.append(_step_up(sizes[-1]))
    return sizes


def find_fastest(probe: Try, sizes: Sequence[int], *, share: float = 0.95, most: int = MOST) -> Found:
    """Find the smallest of ``sizes`` that does at least ``share`` of the best tokens per second, by trying.

    Sizes are doubled until two doublings in a row bring less than 2 %, memory ends, or the sizes do (from 1 at once to
    4); then those left out in between are tried around the answer. In all at most ``most`` are tried, which doubles up
    to 256. Larger sizes are not tried, so a speed that falls and rises again is not seen.

    Args:
        probe: tries a size; one that does not fit ends the doubling.
        sizes: in rising order, at least one.

    Raises:
        DoesNotFit: the first size does not fit.
    """
    search = _Speeds(probe, list(sizes), share)
    search.double(most - 2)
    search.refine(most)
    best, chosen = search.best(), search.chosen()
    reason = (
        f"the fastest tried, {best.tokens_per_second:,.0f} tokens/s"
        if chosen == best
        else f"{chosen.tokens_per_second:,.0f} tokens/s, and no size tried does more than "
        f"{best.tokens_per_second:,.0f} ({best.size:,})"
    )
    if search.blocked is not None:
        reason += f"; {search.blocked.size:,} does not fit"
    return Found(chosen.size, reason, search.probes)


class _Speeds:
    def __init__(self, probe: Try, sizes: list[int], share: float) -> None:
        self._probe = probe
        self._sizes = sizes
        self._share = share
        self.probes: list[Probe] = []
        self.blocked: Probe | None = None

    def double(self, most: int) -> None:
        """Try each size that is at least twice the one before."""
        index, idle, top = 0, 0, 0.0
        while len(self.probes) < most and idle < 2:
            found = self._try(self._sizes[index])
            if not found.fits:
                return
            idle = 0 if found.tokens_per_second > 1.02 * top else idle + 1
            top = max(top, found.tokens_per_second)
            if index == len(self._sizes) - 1:
                return
            next_size = self._sizes[index] * (2 if index else 4)
            index = min(bisect_left(self._sizes, next_size), len(self._sizes) - 1)

    def refine(self, most: int) -> None:
        """Try sizes between: above the best where the next did not fit, then below the chosen one."""
        while len(self.probes) < most:
            tried = sorted(probe.size for probe in self.probes)
            gap: list[int] = []
            if self.blocked is not None and self.best() == self._fitting()[-1]:
                gap = self._between(self.best().size, self.blocked.size)
            if not gap:
                chosen = self.chosen().size
                gap = self._between(max((size for size in tried if size < chosen), default=chosen), chosen)
            if not gap:
                return
            self._try(gap[len(gap) // 2])

    def best(self) -> Probe:
        """Return the fastest; of two as fast, the smaller."""
        return max(self._fitting(), key=lambda probe: (probe.tokens_per_second, -probe.size))

    def chosen(self) -> Probe:
        """Return the smallest that is fast enough."""
        enough = self._share * self.best().tokens_per_second
        return next(probe for probe in self._fitting() if probe.tokens_per_second >= enough)

    def _fitting(self) -> list[Probe]:
        return sorted((probe for probe in self.probes if probe.fits), key=lambda probe: probe.size)

    def _between(self, low: int, high: int) -> list[int]:
        return [size for size in self._sizes if low < size < high]

    def _try(self, size: int) -> Probe:
        found = self._probe(size)
        if not found.fits and not self.probes:
            raise DoesNotFit(found)
        self.probes.append(found)
        if not found.fits and (self.blocked is None or size < self.blocked.size):
            self.blocked = found
        return found


def ladder(largest: int) -> list[int]:
    """Return sizes from 1 to ``largest`` in steps of about a half: 1, 2, 3, 4, 6, 8, 12, 16 …, and ``largest``."""
    powers = [2**exponent for exponent in range(max(largest, 1).bit_length())]
    sizes = {*powers, *(power + power // 2 for power in powers if power > 1), largest}
    return sorted(size for size in sizes if 1 <= size <= largest)


def divisors(number: int) -> list[int]:
    """Return the numbers that divide ``number``, in rising order."""
    low = [part for part in range(1, math.isqrt(number) + 1) if number % part == 0]
    return sorted({*low, *(number // part for part in low)})


def largest_divisor(number: int, at_most: int) -> int:
    """Return the largest divisor of ``number`` that is at most ``at_most`` (1 or more)."""
    return divisors(number)[bisect_left(divisors(number), at_most + 1) - 1]
