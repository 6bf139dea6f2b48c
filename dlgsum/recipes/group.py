"""What the supervisor of `--nproc` starts: torchrun, and in front of each worker what ties it to torchrun.

`python -m dlgsum.recipes.group all …` becomes torchrun; torchrun starts `… one …` for each rank, which becomes the
worker by exec, so that even a worker that dies while it imports is tied and logged.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from dlgsum.core.files import write_json
from dlgsum.core.signals import STOPPING
from dlgsum.core.world import dies_with_parent

# How long the others may go on when one rank is gone. They cannot save: that takes all of them.
_SHUTDOWN_SECONDS = 10
_US = ("-m", "dlgsum.recipes.group")


def command(*, processes: int, report: Path, logs: Path, worker: Sequence[str]) -> list[str]:
    """Return the command that starts ``worker`` as so many processes, as a child of this process.

    Args:
        report: file that takes the ranks that failed, in the order in which torchrun saw them.
        logs: folder that takes the output of torchrun and of all ranks but the first, which keeps the terminal.
        worker: arguments of Python: ``-m``, a module and its arguments, or a script and its own.
    """
    options = ["--parent", os.getpid(), "--processes", processes, "--report", report.absolute(), "--logs", logs]
    return [*_python(*_US), "all", *map(str, options), "--", *worker]


def main(arguments: Sequence[str]) -> None:
    """Become torchrun (``all``) or a worker (``one``)."""
    parser = argparse.ArgumentParser(prog="dlgsum.recipes.group")
    parser.add_argument("role", choices=("all", "one"))
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--logs", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--report", type=Path)
    parser.add_argument("worker", nargs="+")
    options = parser.parse_args(arguments)
    dies_with_parent(options.parent)
    options.logs.mkdir(parents=True, exist_ok=True)
    if options.role == "one":
        _become_worker(options.logs, options.worker)
    else:
        sys.exit(_run_all(options.processes, options.report, options.logs, options.worker))


def _python(*arguments: str) -> list[str]:
    # -P: a torch.py or evaluate.py in the folder where the user works must not be taken for the real one.
    return [sys.executable, "-P", *arguments]


def _become_worker(logs: Path, worker: Sequence[str]) -> None:
    rank = int(os.environ["RANK"])
    if rank:
        title = f"\n--- attempt {os.environ.get('DLGSUM_ATTEMPT', '?')}, rank {rank}, process {os.getpid()}\n"
        log = os.open(logs / f"rank_{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(log, title.encode())
        os.dup2(log, 1)
        os.dup2(log, 2)
    program = _python(*worker)
    os.execv(program[0], program)


def _run_all(processes: int, report: Path, logs: Path, worker: Sequence[str]) -> int:
    """Run torchrun; its own words go to a file, while the first rank inherits the terminal."""
    with (logs / "torchrun.log").open("a", encoding="utf-8", buffering=1) as log:
        print(f"\n--- attempt {os.environ.get('DLGSUM_ATTEMPT', '?')}, process {os.getpid()}", file=log)
        sys.stderr = log  # before torch is imported, whose log handlers keep what they find here
        for number in STOPPING:
            # Where a scheduler signals every process, torchrun must leave it to the workers to save and end. Not
            # SIG_IGN, which they would inherit.
            signal.signal(number, lambda number, frame: None)
        return _torchrun(
            processes, report, [*_python(*_US), "one", "--parent", str(os.getpid()), "--logs", str(logs), "--", *worker]
        )


def _torchrun(processes: int, report: Path, worker: Sequence[str]) -> int:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    # --local-addr: a machine whose own name cannot be resolved, or not to itself, can work as well.
    single = ["--standalone", "--local-addr", "localhost", "--nnodes", "1", "--max-restarts", "0"]
    # "--": argparse looks at every option of the worker's, and stops at those that could be the beginning of its own.
    arguments = [*single, "--nproc-per-node", str(processes), "--no-python", "--", *worker]
    options = parse_args(arguments)  # type: ignore[no-untyped-call]
    for name, value in (("signals_to_handle", "SIGQUIT"), ("shutdown_timeout", _SHUTDOWN_SECONDS)):
        if hasattr(options, name):  # newer than the oldest torch that will do
            setattr(options, name, value)
    try:
        run(options)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        first = min(found.timestamp for found in error.failures.values())
        failures = [
            {"rank": rank, "exit_code": found.exitcode, "stopped": _stopped(found.exitcode, found.timestamp - first)}
            for rank, found in error.failures.items()
        ]
        write_json(report, {"failures": failures})
        return 1
    return 0


def _stopped(exit_code: int, after: float) -> bool:
    """Say whether it was torchrun that ended a rank, so many seconds after the first one was gone."""
    by_force = exit_code == -signal.SIGKILL and after >= _SHUTDOWN_SECONDS - 1
    return exit_code == -signal.SIGTERM or by_force


if __name__ == "__main__":
    main(sys.argv[1:])
