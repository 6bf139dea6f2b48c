"""The processes of one job as a group: starting it, and the few things that they tell one another."""

from __future__ import annotations

import contextlib
import datetime
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist

from dlgsum.core.errors import EnvironmentProblem, TrainingFailed
from dlgsum.core.world import World

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


class GroupBroken(TrainingFailed):
    """Another process of the group is gone or silent; starting all of them again may help."""


def start_group(world: World, device: str, timeout_seconds: float) -> None:
    """Join the group of all processes; a process that is alone, or in a group already, stays as it is.

    To be called before ``TrainingArguments`` is made: transformers and accelerate take over a group that exists, but
    would start one of gloo without our timeout.

    Args:
        world: the processes; torch.distributed reads the same from the environment (see ``export_slurm``).
        device: "cuda" or "cpu", as ``DevicePlan.device`` has it.
        timeout_seconds: how long a process waits for the others, here and in each exchange later; above 0.

    Raises:
        EnvironmentProblem: there is no card for this process, or the device cannot be shared by several processes.
        GroupBroken: the processes did not find one another in time.
    """
    if world.size == 1 or dist.is_initialized():
        return
    if device == "cuda":
        _take_card(world)
        # Numbers on the CPU go over gloo: what we exchange there must not wait for the card to finish its work, and a
        # process that is gone is noticed at once.
        backend = "cpu:gloo,cuda:nccl"
    elif device == "cpu":
        backend = "gloo"
    else:
        raise EnvironmentProblem(
            f"general.device={device} cannot be used by {world.size} processes together",
            "Use general.device=cuda or cpu, or a single process.",
        )
    logger.info("process %d of %d joins the group (%s)", world.rank, world.size, backend)
    with _in_words("did not find one another"):
        dist.init_process_group(backend, timeout=datetime.timedelta(seconds=timeout_seconds))


def stop_group() -> None:
    """Leave the group; nothing happens without one. A group that is broken already is left as well."""
    if dist.is_initialized():
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def size() -> int:
    """Return the number of processes in the group; 1 without one."""
    return dist.get_world_size() if dist.is_initialized() else 1


def broadcast(value: Value, source: int = 0) -> Value:
    """Return the value that process ``source`` has; it travels pickled, so that any object of ours will do.

    Raises:
        GroupBroken: another process is gone or silent.
    """
    if not dist.is_initialized():
        return value
    box = [value]
    with _in_words("lost one another"):
        dist.broadcast_object_list(box, src=source, device=_device())
    return box[0]


def any_of(flag: bool) -> bool:
    """Say whether the flag is set in any process; all of them must ask.

    Raises:
        GroupBroken: another process is gone or silent.
    """
    if not dist.is_initialized():
        return flag
    with _in_words("lost one another"):
        votes = torch.tensor([int(flag)], dtype=torch.int32, device=_device())
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes.item())


def summed(values: Sequence[int]) -> list[int]:
    """Return the sum of each value over all processes; all of them must ask.

    Raises:
        GroupBroken: another process is gone or silent.
    """
    if not dist.is_initialized():
        return list(values)
    with _in_words("lost one another"):
        numbers = torch.tensor(values, dtype=torch.int64, device=_device())
        dist.all_reduce(numbers)
        return [int(value) for value in numbers.tolist()]


def largest(values: Mapping[str, float]) -> dict[str, float]:
    """Return the largest of each value over the processes that have it; all of them must ask.

    Raises:
        GroupBroken: another process is gone or silent.
    """
    if not dist.is_initialized():
        return dict(values)
    all_values: list[Mapping[str, float]] = [{}] * dist.get_world_size()
    with _in_words("lost one another"):
        dist.all_gather_object(all_values, dict(values))
    names = dict.fromkeys(name for each in all_values for name in each)
    return {name: max(each[name] for each in all_values if name in each) for name in names}


def barrier() -> None:
    """Wait until all processes have come here.

    Raises:
        GroupBroken: another process is gone or silent.
    """
    any_of(False)  # not dist.barrier: under NCCL it takes a card of its own choice, and warns about it


def _take_card(world: World) -> None:
    cards = torch.cuda.device_count()
    if world.local_rank >= cards:
        raise EnvironmentProblem(
            f"Process {world.rank} is number {world.local_rank} on this machine (from 0), which has {cards} "
            f"{'card' if cards == 1 else 'cards'} for {world.local_size} processes.",
            f"Start at most {cards} processes here, or use general.device=cpu." if cards else "Use general.device=cpu.",
        )
    torch.cuda.set_device(world.local_rank)


def _device() -> torch.device:
    """Return where small values are exchanged: the CPU, unless somebody else started a group that cannot do that."""
    backends = str(dist.get_backend_config()).split(",")
    if any(entry.startswith("cpu:") and entry != "cpu:nccl" for entry in backends):
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


@contextlib.contextmanager
def _in_words(what: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's errors of distribution are RuntimeErrors, gloo's nothing more than that
        size = dist.get_world_size() if dist.is_initialized() else None
        who = f"The {size} processes" if size else "The processes"
        # gloo: "[/src/pair.cc:553] Connection closed by peer [127.0.0.1]:902. This is typically caused by …"
        reason = re.sub(r"^\[[^\]]*\] *", "", str(error).strip()).partition("\n")[0].partition(" This is typically")[0]
        raise GroupBroken(
            f"{who} {what}: {reason}", "Usually another one died first; its log says why. Then start all of them again."
        ) from error
