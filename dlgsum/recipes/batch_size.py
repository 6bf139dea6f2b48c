"""Find batch sizes by trying: the largest that fits a card, the smallest that is fast enough on a CPU."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.origin import Origin, Setting
from dlgsum.config.schema import Config
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.log import route_transformers
from dlgsum.recipes import batch_cache, wiring
from dlgsum.recipes.batch_goals import EVAL, TOKENS, TRAIN, Goal, goals
from dlgsum.recipes.prepare import Prepared, prepare
from dlgsum.recipes.probe import Device, Look, Subject
from dlgsum.recipes.probe_process import Probes
from dlgsum.recipes.settle import Settled
from dlgsum.recipes.space import size_in_words

if TYPE_CHECKING:
    from dlgsum.training.batch_size import Found, Probe

logger = logging.getLogger(__name__)

OnProbe = Callable[[str, "Probe"], None]
"""Told of each try as it is done: ``training`` or ``generation``, and the try."""


@dataclass(frozen=True)
class Memory:
    """The memory that was planned for, in bytes.

    Attributes:
        limit: what a step may take.
        free: what was free at the start, or what ``--memory-limit`` says.
        counting: what is counted, see ``training.memory.Meter``.
        planned: whether it is that of another, smaller device.
    """

    limit: int
    free: int
    counting: str
    planned: bool


@dataclass(frozen=True)
class Choice:
    """A batch size that was chosen.

    Attributes:
        key: the setting.
        what: ``training`` or ``generation``.
        value: the size for the setting.
        found: what the search found; larger than ``value`` where only a divisor of the effective batch will do.
        reason: why it is this one.
        accumulation: batches in one optimizer step; 0 for generation.
        probes: every try.
        reused: whether an earlier search was taken up.
    """

    key: str
    what: str
    value: int
    found: int
    reason: str
    accumulation: int
    probes: list[Probe]
    reused: bool


@dataclass(frozen=True)
class BatchSizes:
    """What was found, on which device, within which memory."""

    device: Device
    memory: Memory
    choices: list[Choice]

    @property
    def overrides(self) -> list[str]:
        """What to put on a command line to have these sizes."""
        return [f"{choice.key}={choice.value}" for choice in self.choices]


def unsettled(config: Config) -> list[str]:
    """Return the settings that are ``auto``."""
    training = config.training
    values = {
        TRAIN: training.per_device_train_batch_size,
        TOKENS: training.tokens_per_batch,
        EVAL: training.per_device_eval_batch_size,
    }
    return [key for key, value in values.items() if value == "auto"]


def settle_batch_size(
    settled: Settled,
    prepared: Prepared,
    *,
    processes: int = 1,
    on_probe: OnProbe | None = None,
    memory_limit: int | None = None,
) -> Settled:
    """Return the configuration with a number for each batch size that is ``auto``; the same where none is.

    With several processes, one of them does this and tells the others.

    Args:
        processes: that train together, each on a device of its own.
        on_probe: told of each try.
        memory_limit: bytes of a smaller device to plan for.

    Raises:
        EnvironmentProblem: not even a single row fits, or a try failed for another reason.
    """
    keys = unsettled(settled.config)
    if not keys:
        return settled
    sizes = find_batch_sizes(
        settled, prepared, keys=keys, processes=processes, on_probe=on_probe, memory_limit=memory_limit
    )
    return with_sizes(settled, sizes, processes=processes)


def with_sizes(settled: Settled, sizes: BatchSizes, *, processes: int = 1) -> Settled:
    """Put what was found into a configuration, with the reasons; say so where the effective batch follows from it."""
    values: dict[str, Any] = {choice.key.rpartition(".")[2]: choice.value for choice in sizes.choices}
    config = dataclasses.replace(settled.config, training=dataclasses.replace(settled.config.training, **values))
    reason = "; ".join(f"{choice.key}={choice.value}: {choice.reason}" for choice in sizes.choices)
    history = dict(settled.history)
    for choice in sizes.choices:
        entry = Setting(choice.value, Origin("choice", f"settled: {choice.reason}"))
        history[choice.key] = (*history.get(choice.key, ()), entry)
    rows = next((choice for choice in sizes.choices if choice.key == TRAIN), None)
    if rows is not None and settled.config.training.effective_batch_size is None:
        effective = rows.value * config.training.accumulation(processes) * processes
        logger.warning(
            "one optimizer step has %d rows, as found by trying; training.learning_rate=%g is as it was. "
            "training.effective_batch_size=N keeps N rows in a step on any device.",
            effective,
            config.training.learning_rate,
        )
    return dataclasses.replace(
        settled, config=config, reasons={**settled.reasons, "batch size": reason}, history=history
    )  # fmt: skip


def find_for(
    settled: Settled, *, on_probe: OnProbe | None = None, memory_limit: int | None = None, cache: bool = True
) -> BatchSizes:
    """Read and tokenize the data of a configuration, and find the batch sizes for it.

    Raises:
        DlgsumError: as ``prepare`` and ``find_batch_sizes``.
    """
    route_transformers()
    prepared = prepare(settled)
    return find_batch_sizes(settled, prepared, on_probe=on_probe, memory_limit=memory_limit, cache=cache)


def find_batch_sizes(
    settled: Settled,
    prepared: Prepared,
    *,
    keys: Sequence[str] | None = None,
    processes: int = 1,
    on_probe: OnProbe | None = None,
    memory_limit: int | None = None,
    cache: bool = True,
) -> BatchSizes:
    """Find batch sizes for a job's data, model and device by real steps, each in a process of its own.

    Args:
        keys: the settings to find; by default the one that training goes by, and that of generation.
        cache: take up what an earlier search found, as far as ``data.cache`` allows.

    Other arguments and errors are those of ``settle_batch_size``.
    """
    config = settled.config
    keys = keys or [TOKENS if config.training.batching == "tokens" else TRAIN, EVAL]
    wanted = goals(config, prepared.datasets, keys, processes=processes)
    folder = wiring.cache_dir(config) if cache else None
    start = prepared.start
    with Probes(Subject(_plain(config), start.config, start.tokenizer)) as probes:
        return search(probes, config, wanted, processes, on_probe, memory_limit, folder=folder, of_model=start.config)


def search(
    probes: Probes,
    config: Config,
    wanted: Sequence[Goal],
    processes: int = 1,
    on_probe: OnProbe | None = None,
    memory_limit: int | None = None,
    *,
    folder: Path | None = None,
    of_model: Any = None,
) -> BatchSizes:
    """Look at the device, then find a size for each goal, or take it from ``folder``."""
    device = probes.run(Look()).device
    assert device is not None
    memory = _memory(config, device, processes, memory_limit)
    choices = []
    for goal in wanted:
        entry = batch_cache.Entry.of(folder, config, of_model, device, memory_limit, processes, goal)
        found, reused = entry.read(memory.free), True
        if found is None:
            found, reused = _find(probes, config, goal, device, memory, on_probe), False
            entry.write(memory.free, found)
        choices.append(_choice(config, goal, found, memory, processes, reused=reused))
    return BatchSizes(device, memory, choices)


def _plain(config: Config) -> Config:
    """Return a configuration with a number for every batch size; each try sets its own."""
    values: dict[str, Any] = {key.rpartition(".")[2]: 64 for key in unsettled(config)}
    training = dataclasses.replace(config.training, effective_batch_size=None, **values)
    return dataclasses.replace(config, training=training)


def _memory(config: Config, device: Device, processes: int, memory_limit: int | None) -> Memory:
    free = device.free
    if device.kind == "cpu" and memory_limit is None:
        free //= processes  # they share it
    if memory_limit is not None:
        free = memory_limit if device.kind == "cpu" else min(memory_limit, free)
    limit = int(free * config.training.batch_size_memory)
    if processes > 1:
        limit -= device.parameters  # the buckets in which gradients are exchanged are as large as the weights
    counting = "device" if device.kind != "cpu" else "process" if memory_limit is None else "tensors"
    return Memory(max(1, limit), free, counting, memory_limit is not None)


def _find(
    probes: Probes, config: Config, goal: Goal, device: Device, memory: Memory, on_probe: OnProbe | None
) -> Found:
    from dlgsum.training import batch_size

    speed_decides = device.kind == "cpu" and not memory.planned

    def probe(size: int) -> Probe:
        task = dataclasses.replace(goal.task(size, speed_decides), limit=memory.limit, counting=memory.counting)
        started = time.perf_counter()
        outcome = probes.run(task)
        done = batch_size.Probe(
            size, outcome.fits, outcome.peak, outcome.tokens_per_second, outcome.note, time.perf_counter() - started
        )
        if on_probe is not None:
            on_probe(goal.what, done)
        return done

    try:
        if speed_decides:
            return batch_size.find_fastest(probe, goal.ladder)
        return batch_size.find_largest(
            probe, limit=memory.limit, smallest=goal.smallest, largest=goal.largest, landmarks=goal.landmarks
        )
    except batch_size.DoesNotFit as error:
        one = f"{goal.smallest:,} tokens" if goal.key == TOKENS else "a single row"
        raise EnvironmentProblem(
            f"Even {one} in a batch of {goal.what} does not fit: {goal.worst} needs more than "
            f"the {_share(config, memory)} ({error.probe.note}).",
            goal.advice,
        ) from None


def _choice(config: Config, goal: Goal, found: Found, memory: Memory, processes: int, *, reused: bool) -> Choice:
    from dlgsum.training.batch_size import largest_divisor

    effective = config.training.effective_batch_size
    value, accumulation, kept = found.size, config.training.gradient_accumulation_steps, ""
    if goal.key == TRAIN and effective is not None:
        value = largest_divisor(effective // processes, found.size)
        accumulation = effective // processes // value
        kept = f"; {value} x {accumulation} x {processes} processes" if processes > 1 else f"; {value} x {accumulation}"
        kept += f" keeps the effective batch of {effective}"
        if value < found.size:
            kept += f" ({value} is its largest divisor that fits)"
    elif goal.what == "generation":
        accumulation = 0
    peak = next((probe.peak_bytes for probe in found.probes if probe.size == found.size), 0)
    took = f", {size_in_words(peak)} of {_share(config, memory)}" if peak else ""
    before = "found earlier" if reused else f"found in {len(found.probes)} tries"
    reason = f"{found.reason} ({before}; {goal.worst}{took}){kept}"
    return Choice(goal.key, goal.what, value, found.size, reason, accumulation, found.probes, reused)


def _share(config: Config, memory: Memory) -> str:
    """Return the memory that may be taken, in words."""
    free = f"{size_in_words(memory.free)} {'planned for' if memory.planned else 'free'}"
    return f"{size_in_words(memory.limit)} ({config.training.batch_size_memory:.0%} of {free})"
