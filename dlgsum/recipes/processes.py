"""One run in one process or in many: who writes, who waits, who holds the run folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dlgsum.config.schema import Config, Training
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.text import plural
from dlgsum.core.world import RELAUNCHED, SUPERVISED, World, current_world, export_slurm
from dlgsum.tracking.lock import RunLock
from dlgsum.tracking.run import RunFolder

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """The processes that train together; in the usual case this one alone."""

    world: World

    @property
    def first(self) -> bool:
        """Whether this process writes, shows and decides for all."""
        return self.world.rank == 0

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.world.size

    @property
    def supervised(self) -> bool:
        """Whether `--nproc` watches over these processes."""
        return bool(os.environ.get(SUPERVISED))

    @property
    def relaunched(self) -> bool:
        """Whether the command that watches over these processes has started them before."""
        return bool(os.environ.get(RELAUNCHED))

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.size > 1:
            from dlgsum.training import parallel

            parallel.barrier()

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what ``make`` gives in the first process; it is called only there.

        Raises:
            GroupBroken: it failed there; the first process raises the error itself.
        """
        if self.size == 1:
            return make()
        from dlgsum.training import parallel

        if not self.first:
            answer: tuple[T, str] = parallel.broadcast(("", ""))  # type: ignore[assignment]
            if answer[1]:
                raise parallel.GroupBroken(f"The first process failed: {answer[1]}")
            return answer[0]
        try:
            value = make()
        except BaseException as error:
            parallel.broadcast((None, f"{type(error).__name__}: {error}"))
            raise
        parallel.broadcast((value, ""))
        return value

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """Let the first process through the block alone, then all others, which find its results in the cache."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def same_run(self, make: Callable[[], RunFolder]) -> RunFolder:
        """Return the run folder that the first process makes, in every process.

        Raises:
            EnvironmentProblem: this process, on another machine, does not see the folder.
        """
        run = RunFolder(Path(self.from_first(lambda: str(make().path.absolute() if self.size > 1 else make().path))))
        if not run.config.is_file():
            raise EnvironmentProblem(
                f"Process {self.world.rank} does not see {run.path}, which the first process made",
                "general.output_dir must be a folder that all machines share.",
            )
        return run

    def folder_held(self, run: RunFolder) -> AbstractContextManager[object]:
        """Hold the run folder against other commands; the supervisor does it for the processes that it starts."""
        return RunLock(run.path) if self.first and not self.supervised else nullcontext()

    def log(self, run: RunFolder) -> Path:
        """Return the log of this process."""
        return run.log if self.first else run.path / "logs" / f"rank_{self.world.rank}.log"

    def describe(self, training: Training) -> str:
        """Return how the batches are shared out, in words."""
        share = f"{self.size} processes"
        batches = training.accumulation(self.size)
        if training.batching == "tokens":
            return f"{share} x {plural(batches, 'batch')} of up to {training.token_budget} tokens make one step"
        rows = training.train_rows
        effective = self.size * batches * rows
        return f"{share} x {plural(batches, 'batch')} of {rows} rows make an effective batch of {effective}"


ALONE = Group(World(0, 1, 0, 1, "none"))


@contextmanager
def together(config: Config) -> Iterator[Group]:
    """Join the processes that torchrun, SLURM or the supervisor started; alone there is nothing to join.

    Raises:
        EnvironmentProblem: the others cannot be reached.
    """
    world = current_world()
    if world.size == 1:
        yield ALONE
        return
    from dlgsum.core.device import plan_device
    from dlgsum.core.log import warnings_to_file_only
    from dlgsum.training import parallel

    if world.launcher == "slurm":
        export_slurm(world)
    if world.rank:
        warnings_to_file_only()
    device = plan_device(config.general.device, "fp32").device
    parallel.start_group(world, device, config.distributed.timeout)
    yield Group(world)
    # Not in a finally: after an error the others may wait forever, and this process ends anyway.
    parallel.stop_group()
