"""What a checkpoint of ours holds beside transformers' own files, and how all processes write it together."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers import TrainerCallback

from dlgsum.core.files import read_json, write_json
from dlgsum.training import checkpoints, parallel

if TYPE_CHECKING:
    from dlgsum.training.trainer import SummarizationTrainer

STATE = "dlgsum_state.json"


class Stateful(Protocol):
    """Something whose memory decides what the run does next, and so must survive it."""

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs, as JSON can hold it."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what an earlier run remembered."""


@dataclass
class CheckpointPlan:
    """What goes into each checkpoint besides weights, optimizer, schedule and random states.

    Attributes:
        stateful: name to what is remembered; names are the keys of ``dlgsum_state.json``.
        fingerprints: of data, tokenizer and configuration, for the manifest.
        texts: further files, name to content, such as the configuration.
        limit: checkpoints to keep; None: all.
        gather: each called by every process before the first one asks for the states.
    """

    stateful: dict[str, Stateful] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    gather: list[Callable[[], None]] = field(default_factory=list)


def save(trainer: SummarizationTrainer, plan: CheckpointPlan) -> float:
    """Write a checkpoint of the trainer's step; every process calls this. Return the seconds it took.

    Raises:
        OSError, RuntimeError: the disk is full or unreadable; earlier checkpoints are untouched.
    """
    started = time.monotonic()
    root, step = Path(str(trainer.args.output_dir)), trainer.state.global_step
    first = trainer.is_world_process_zero()
    token = parallel.broadcast(secrets.token_hex(4))
    for gather in plan.gather:
        gather()
    folder, target = checkpoints.begin(root, step, token), root / f"checkpoint-{step}"
    with checkpoints.whole_or_absent(folder, target):
        trainer.save_parts(folder)
        if first:
            trainer.state.save_to_json(str(folder / "trainer_state.json"))
            write_json(folder / STATE, {name: part.state() for name, part in plan.stateful.items()})
            for name, text in plan.texts.items():
                (folder / name).write_text(text, encoding="utf-8")
        parallel.barrier()
        if first:
            checkpoints.commit(
                folder, target, step=step, world_size=trainer.args.world_size, fingerprints=plan.fingerprints,
                scaler=trainer.accelerator.scaler is not None,
            )  # fmt: skip
    if first:
        checkpoints.rotate(root, plan.limit)
    parallel.barrier()
    return time.monotonic() - started


def read_state(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """Return what was remembered in a checkpoint; empty for one that transformers wrote alone."""
    path = checkpoint / STATE
    return read_json(path) if path.is_file() else {}


class LossSoFar(TrainerCallback):
    """The part of the training loss that was not logged yet, and where the averages begin.

    Without it the first record after a resume, and the mean of the whole run, would speak of the new part only.
    """

    def __init__(self, trainer: SummarizationTrainer) -> None:
        self._trainer = trainer
        self._restored: dict[str, Any] | None = None
        self._each: list[float] = []

    def gather(self) -> None:
        """Learn what each process has summed up since the last record; every process calls this."""
        it = self._trainer
        self._each = it.accelerator.gather(it._tr_loss.reshape(1)).tolist()

    def state(self) -> dict[str, Any]:
        """Return the sums, those since the last record for each process; ``gather`` comes first."""
        it = self._trainer
        # float32 to float and back is exact.
        return {
            "since_log": self._each, "total": float(it._total_loss_scalar),
            "last_logged": it._globalstep_last_logged, "first_step": it._initial_global_step,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Remember the sums until training begins, which sets them to zero first."""
        self._restored = dict(state)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the sums, which training has just set to zero."""
        if self._restored is None:
            return
        it, state = self._trainer, self._restored
        each = [float(value) for value in state["since_log"]]
        mine = each[it.args.process_index] if len(each) == it.args.world_size else sum(each) / len(each)
        it._tr_loss = torch.tensor(mine, device=it.args.device)
        it._total_loss_scalar = float(state["total"])
        it._globalstep_last_logged = int(state["last_logged"])
        it._initial_global_step = int(state["first_step"])
        self._restored = None
