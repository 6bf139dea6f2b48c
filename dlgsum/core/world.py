"""Which of several processes this one is, and the promise that it does not outlive its parent."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Literal

from dlgsum.core.errors import EnvironmentProblem

# What the supervisor of `--nproc` tells the processes that it starts: that it watches over them and holds the run
# folder, and which start of theirs this is, from 1.
SUPERVISED = "DLGSUM_SUPERVISED"
ATTEMPT = "DLGSUM_ATTEMPT"
RELAUNCHED = "DLGSUM_RELAUNCHED"

_PR_SET_PDEATHSIG = 1
_PORTS = range(15000, 35000)  # below the ports that Linux gives to outgoing connections
_BATCH_STEPS = {"4294967291", "4294967294"}  # the script of sbatch, and what is outside of any step


@dataclass(frozen=True)
class World:
    """The processes of a job, and the place of this one among them.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes on all machines.
        local_rank: number of this process on its machine, from 0.
        local_size: number of processes on this machine.
        launcher: who started them.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launcher: Literal["none", "torchrun", "slurm"] = "none"

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and shows what all of them have in common."""
        return self.rank == 0


def current_world(environ: Mapping[str, str] = os.environ) -> World:
    """Return the place that torchrun or srun gave to this process; alone when neither started it.

    torchrun's variables win over srun's. A batch script of SLURM is one process, however many tasks it may start.

    Raises:
        EnvironmentProblem: the variables are incomplete or contradict one another.
    """
    if "WORLD_SIZE" in environ and ("LOCAL_RANK" in environ or environ["WORLD_SIZE"] != "1"):
        return _placed(
            "torchrun",
            rank=_number(environ, "RANK"),
            size=_number(environ, "WORLD_SIZE", least=1),
            local_rank=_number(environ, "LOCAL_RANK"),
            local_size=_number(environ, "LOCAL_WORLD_SIZE", least=1, default="WORLD_SIZE"),
        )
    if environ.get("SLURM_STEP_NUM_TASKS", "1") == "1" or "SLURM_PROCID" not in environ:
        return World()
    if environ.get("SLURM_STEP_ID") in _BATCH_STEPS:
        return World()
    return _placed(
        "slurm",
        rank=_number(environ, "SLURM_PROCID"),
        size=_number(environ, "SLURM_STEP_NUM_TASKS", least=1),
        local_rank=_number(environ, "SLURM_LOCALID"),
        local_size=_tasks_here(environ),
    )


def export_slurm(world: World, environ: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables from which torch.distributed and accelerate learn what srun knows.

    A ``MASTER_ADDR`` or ``MASTER_PORT`` that is set already stays. Nothing happens where srun is not the launcher.

    Raises:
        EnvironmentProblem: SLURM's list of machines or its job number cannot be understood.
    """
    if world.launcher != "slurm":
        return
    environ["RANK"] = str(world.rank)
    environ["WORLD_SIZE"] = str(world.size)
    environ["LOCAL_RANK"] = str(world.local_rank)
    environ["LOCAL_WORLD_SIZE"] = str(world.local_size)
    if not environ.get("MASTER_ADDR"):
        environ["MASTER_ADDR"] = _first_host(environ)
    if not environ.get("MASTER_PORT"):
        job, step = _number(environ, "SLURM_JOB_ID"), _number(environ, "SLURM_STEP_ID", default=None)
        # All processes must find the same port; two steps of one job must not.
        environ["MASTER_PORT"] = str(_PORTS[(job + 9973 * step) % len(_PORTS)])


def dies_with_parent(parent: int | None = None) -> None:
    """See to it that this process is killed when its parent is gone, however the parent ended.

    On Linux the kernel does it, for this process and what it turns into by exec, but not for its children. Elsewhere a
    thread looks every second.

    Args:
        parent: process number of the parent, as the parent itself named it; a parent that is gone already is then
            noticed as well. None: whichever it is now.
    """
    expected = os.getppid() if parent is None else parent
    if not _killed_by_kernel():
        threading.Thread(target=_watch, args=(expected,), daemon=True, name="dies-with-parent").start()
    if os.getppid() != expected:  # it died before the kernel knew
        os.kill(os.getpid(), signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def _killed_by_kernel() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) == 0)
    except (AttributeError, OSError):
        return False


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def _placed(launcher: Literal["torchrun", "slurm"], *, rank: int, size: int, local_rank: int, local_size: int) -> World:
    if rank >= size or local_rank >= local_size or local_size > size:
        raise EnvironmentProblem(
            f"{launcher} says that this is process {rank} of {size}, and {local_rank} of {local_size} on this machine "
            "(both counted from 0), which cannot be.",
            "Look for variables such as RANK, WORLD_SIZE or SLURM_PROCID that were set by hand.",
        )
    return World(rank, size, local_rank, local_size, launcher)


def _number(environ: Mapping[str, str], name: str, *, least: int = 0, default: str | None = "") -> int:
    """Return a variable as a number.

    Args:
        default: the variable that stands in for a missing one; "": there must be one; None: 0 stands in.
    """
    text = environ.get(name)
    if text is None and default is None:
        return 0
    if text is None and default:
        name, text = default, environ.get(default)
    if text is None:
        raise EnvironmentProblem(
            f"This process is to be one of several, but {name} is not set.",
            "Start them with `dlgsum train --nproc N`, torchrun or srun, which set it.",
        )
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise EnvironmentProblem(
            f"{name}={text!r}: a whole number from {least} on is needed.",
            "The launcher (torchrun or srun) sets it; unset it if you did.",
        )
    return int(text)


def _tasks_here(environ: Mapping[str, str]) -> int:
    """Return the number of tasks on this machine, from lists such as ``4(x2),3``."""
    name = "SLURM_STEP_TASKS_PER_NODE"
    text = environ.get(name, "")
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip(), re.ASCII)
        if found is None:
            raise EnvironmentProblem(
                f"{name}={text!r} cannot be understood.", "srun sets it, as in 4(x2),3; unset it if you did."
            )
        counts += [int(found[1])] * int(found[2] or 1)
    node = _number(environ, "SLURM_NODEID", default=None)
    if node >= len(counts):
        raise EnvironmentProblem(f"SLURM_NODEID={node}, but {name}={text} speaks of {len(counts)} machines.")
    return counts[node]


def _first_host(environ: Mapping[str, str]) -> str:
    """Return the first machine of lists such as ``gpu[03-05,09],cpu1``: the one that runs process 0."""
    text = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
    first = re.match(r"(?:[^\s,\[\]]|\[\d[\d,-]*\])+(?=,|$)", text, re.ASCII)
    if first is None:
        raise EnvironmentProblem(
            f"SLURM_STEP_NODELIST={text!r} names no machine.", "Set MASTER_ADDR to the machine that runs process 0."
        )
    return re.sub(r"\[(\d+)[\d,-]*\]", r"\1", first[0])
