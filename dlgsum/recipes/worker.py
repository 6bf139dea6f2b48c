"""One of several processes that train a run together; `dlgsum train --nproc` starts them through torchrun.

Each goes on with the run folder it is given: from its newest valid checkpoint, or from the start. How it ends is
written down for the supervisor, which cannot tell from torchrun's exit code whether another start would help.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
from pathlib import Path

from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.core.errors import DlgsumError, TrainingFailed
from dlgsum.core.files import write_json
from dlgsum.core.log import show_warnings
from dlgsum.core.world import ATTEMPT, current_world, dies_with_parent
from dlgsum.recipes import continuing
from dlgsum.recipes.failures import failures_in_words
from dlgsum.recipes.limits import Limits
from dlgsum.recipes.settle import settle_config
from dlgsum.recipes.train import DialogueSummarizationTrainer
from dlgsum.tracking.run import RunFolder


def main(arguments: list[str]) -> int:
    """Train in this process's part of the group, and return the exit code."""
    dies_with_parent()
    show_warnings()
    if hasattr(signal, "SIGUSR2"):  # how the supervisor asks a process that hangs where it hangs
        faulthandler.register(signal.SIGUSR2)
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--since", type=float, default=0.0)
    parser.add_argument("--force", action="store_true")
    asked = parser.parse_args(arguments)
    run = RunFolder(asked.run)
    try:
        with failures_in_words(lambda: run):
            settled = settle_config(compose(Request(base=run.config, environ={})).config)
            trainer = DialogueSummarizationTrainer(settled=settled, run=run)
            trainer.train(limits=Limits(asked.seconds, asked.since, asked.force))
    except DlgsumError as error:
        _leave_word(run, error)
        return error.exit_code
    return 0


def _final(error: DlgsumError) -> bool:
    """Say whether another start would end in the same way; a crash that nobody foresaw may be the machine's."""
    from dlgsum.training.parallel import GroupBroken

    unforeseen = isinstance(error, TrainingFailed) and error.__cause__ is not None
    return not unforeseen and not isinstance(error, GroupBroken)


def _leave_word(run: RunFolder, error: DlgsumError) -> None:
    from dlgsum.training.micro_batches import OutOfMemory

    world = current_world()
    cause = error.__cause__
    if isinstance(cause, OutOfMemory):
        continuing.remember_parts(run, cause.parts)
    word = {
        "exit_code": error.exit_code, "kind": type(error).__name__, "message": error.message, "hint": error.hint,
        "final": _final(error),
    }  # fmt: skip
    write_json(run.path / "attempts" / os.environ.get(ATTEMPT, "1") / f"rank_{world.rank}.json", word)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
