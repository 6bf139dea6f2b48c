"""A worker for the tests of the supervisor: speaks its contract, trains nothing. Arguments: run folder, what to do."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import time
from pathlib import Path

run, what = Path(sys.argv[1]), sys.argv[2]
rank, attempt = int(os.environ["RANK"]), int(os.environ["DLGSUM_ATTEMPT"])


def write(path: Path, content: dict[str, object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)


def beat(number: int) -> None:
    if rank == 0:
        content = {"attempt": attempt, "beat": number, "step": number, "pid": os.getpid()}
        write(run / "progress.json", content)


def end(code: int, kind: str, message: str, *, final: bool) -> None:
    content = {"exit_code": code, "kind": kind, "message": message, "hint": "a hint", "final": final}
    write(run / "attempts" / str(attempt) / f"rank_{rank}.json", content)
    sys.exit(code)


def wait_for_ever() -> None:
    (run / f"pid_{rank}").write_text(str(os.getpid()))
    (run / f"waiting_{rank}").touch()
    while True:
        time.sleep(1)


def train_together() -> None:
    """Two steps of a real group; rank 1 dies in the second one of the first attempt if it is told to."""
    from dlgsum.core.world import current_world
    from dlgsum.training import parallel

    world = current_world()
    parallel.start_group(world, "cpu", 60)
    for step in (1, 2):
        beat(step)
        try:
            assert parallel.any_of(rank == 1)
        except parallel.GroupBroken as error:
            end(5, "GroupBroken", error.message, final=False)
        if what == "die_once" and attempt == 1 and rank == 1:
            os._exit(17)
    (run / f"done_{rank}").write_text(f"{world.size} {os.environ['OMP_NUM_THREADS']}")
    parallel.stop_group()


sys.stdout.write(f"rank {rank} speaks\n")
sys.stdout.flush()
if what in ("together", "die_once"):
    train_together()
elif what == "die":
    if rank == 1:
        os._exit(17)
    wait_for_ever()
elif what == "killed":
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    wait_for_ever()
elif what == "final":
    if rank == 1:
        end(3, "DataError", "rank 1 says 3", final=True)
    signal.signal(signal.SIGTERM, lambda number, frame: end(143, "Interrupted", "stopped by torchrun", final=True))
    wait_for_ever()
elif what == "hang":
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    for number in range(1, 4):
        beat(number)
        time.sleep(0.3)
    if attempt == 1:
        if rank == 1:
            (run / "hung").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        wait_for_ever()
elif what == "save_on_signal":
    seen: list[int] = []
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(one, lambda number, frame: seen.append(number))
    (run / f"waiting_{rank}").touch()
    while not seen:
        time.sleep(0.05)
    code = 130 if seen[0] == signal.SIGINT else 143
    end(code, "Interrupted", f"saved after signal {seen[0]}", final=True)
elif what == "stubborn":
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, frame: (run / f"told_{rank}").touch())
    wait_for_ever()
else:
    sys.exit(f"unknown: {what}")
