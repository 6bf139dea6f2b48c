"""Memory that keeps growing."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Any

from dlgsum.config.schema.detectors import MemoryLeak as Options
from dlgsum.monitoring.detector import Detector
from dlgsum.monitoring.finding import Finding
from dlgsum.monitoring.readings import EvaluationReading, StepReading
from dlgsum.monitoring.series import usable

MIB = 2**20
# Each block must bring this share of an even growth: what settles after the start grows less and less.
_STEADY = 0.5


class MemoryLeak(Detector):
    """Finds device or host memory whose smallest value in each of ``blocks`` blocks of readings rises steadily.

    Smallest values, because memory swings with the lengths of batches while a leak lifts the floor. Together the
    blocks must have grown by more than ``share`` and more than ``megabytes``. The first block is left out: caches and
    optimizer states fill up at the start.

    A reading that is None, NaN or infinite changes nothing. The verdict holds until the next block is full; nothing
    is judged before ``blocks`` of them.
    """

    name = "memory_leak"
    quiet = 1  # the verdict changes only with a full block

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._device = _Floor(options)
        self._host = _Floor(options)

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        """Tell whether memory was measured."""
        return isinstance(reading, StepReading) and (usable(reading.device_bytes) or usable(reading.host_bytes))

    def step(self, reading: StepReading) -> Finding | None:
        """Take up what was measured."""
        if usable(reading.device_bytes):
            self._device.add(reading.device_bytes)
        if usable(reading.host_bytes):
            self._host.add(reading.host_bytes)
        if not self.judges(reading):
            return None
        for what, floor in (("device", self._device), ("host", self._host)):
            if floor.leaks:
                first, last = floor.minima[0] / MIB, floor.minima[-1] / MIB
                message = (
                    f"The {what} memory in use keeps growing: from {first:,.0f} to {last:,.0f} MiB over "
                    f"{self.options.blocks * self.options.block} measurements"
                )
                numbers = {f"{what}_mib_before": first, f"{what}_mib": last}
                return self.finding(reading, "warning", message, **numbers)
        return None

    def state(self) -> dict[str, Any]:
        """Return the smallest values of the blocks."""
        return {"device": self._device.state(), "host": self._host.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier ``state``; of more blocks, the last are kept."""
        self._device.restore(state["device"])
        self._host.restore(state["host"])


class _Floor:
    """The smallest value of each of the last blocks."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.minima: deque[float] = deque(maxlen=options.blocks)
        self.leaks = False
        self._smallest: float | None = None
        self._count = 0
        self._first = True

    def add(self, value: float) -> None:
        self._smallest = value if self._smallest is None else min(self._smallest, value)
        self._count += 1
        if self._count < self._options.block:
            return
        if not self._first:
            self.minima.append(self._smallest)
            self.leaks = self._grows()
        self._first, self._smallest, self._count = False, None, 0

    def _grows(self) -> bool:
        minima = list(self.minima)
        growth = minima[-1] - minima[0]
        if len(minima) < self._options.blocks or growth <= self._options.megabytes * MIB:
            return False
        even = growth / (len(minima) - 1)
        steady = all(after - before >= _STEADY * even for before, after in pairwise(minima))
        return steady and growth > self._options.share * minima[0]

    def state(self) -> dict[str, Any]:
        return {
            "minima": list(self.minima), "leaks": self.leaks, "smallest": self._smallest,
            "count": self._count, "first": self._first,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.minima = deque(map(float, state["minima"]), maxlen=self._options.blocks)
        self.leaks = bool(state["leaks"]) and len(self.minima) > 1
        self._smallest, self._count, self._first = state["smallest"], int(state["count"]), bool(state["first"])


PLUGIN = MemoryLeak
