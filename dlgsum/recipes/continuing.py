"""Going on with a run: what must be as it was, and taking up what it remembered."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.compose import compose
from dlgsum.config.explain import leaves, value_of
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.errors import ConfigError, DataError, UsageError
from dlgsum.core.files import read_json, sweep_leftovers, write_json
from dlgsum.tracking.run import RunFolder
from dlgsum.training.checkpoints.check import step_of

if TYPE_CHECKING:
    from dlgsum.recipes.hooks import Hooks
    from dlgsum.recipes.prepare import Prepared
    from dlgsum.training.checkpoints import Checkpoint
    from dlgsum.training.trainer import SummarizationTrainer

logger = logging.getLogger(__name__)

SAVED_CONFIG = "dlgsum.yaml"  # in each checkpoint: the configuration that it was made with

# What may change between two parts of a run: it decides where things lie, how fast they go and what is shown, but not
# what is learned. The rows themselves are compared by content, wherever their files have moved to.
_FREE = (
    "meta.", "monitoring.", "tracking.", "wandb.", "distributed.timeout", "distributed.hang_timeout",
    "distributed.max_relaunches", "general.output_dir", "general.model_name", "data.cache", "data.cache_dir",
    "data.processes", "data.train", "data.validation", "data.test", "data.encoding", "data.allow_leak",
    "training.dataloader_num_workers", "training.save_total_limit", "training.per_device_eval_batch_size",
    "training.batch_size_memory", "training.max_skipped_steps",
)  # fmt: skip
_MEMORY = "micro_batches.json"


def changed_settings(before: Config, now: Config) -> list[str]:
    """Return a line for each setting that decides what is learned and is not what it was; the schema's order."""
    lines = []
    for key in leaves():
        one, other = value_of(before, key), value_of(now, key)
        if one != other and not any(key == free or (free[-1] == "." and key.startswith(free)) for free in _FREE):
            lines.append(f"{key}: {_shown(one)} → {_shown(other)}")
    return lines


def refuse_changed_settings(run: RunFolder, now: Config, *, force: bool) -> None:
    """Compare a configuration with the one that the newest checkpoint was made with.

    Raises:
        UsageError: settings differ that decide what is learned.
    """
    saved = {step_of(folder.parent): folder for folder in run.checkpoints.glob(f"checkpoint-*/{SAVED_CONFIG}")}
    steps = [step for step in saved if step is not None]
    path = saved[max(steps)] if steps else None
    if path is None:
        return
    try:
        before = compose(Request(base=path, environ={})).config
    except ConfigError as error:
        logger.warning("the configuration in %s cannot be read (%s); it is not compared", path.parent, error)
        return
    lines = changed_settings(before, now)
    if not lines:
        return
    told = "\n".join(f"  • {line}" for line in lines)
    if force:
        logger.warning("going on with a changed configuration (--force):\n%s", told)
        return
    raise UsageError(
        f"The configuration is not the one that {run.id} was trained with:\n{told}",
        "Resume without the changes, start a new run with them, or go on regardless with --force.",
    )


def fingerprints(prepared: Prepared) -> dict[str, str]:
    """Return what identifies the rows and the tokenizer, for the manifest of a checkpoint."""
    rows = {f"{split.name} rows": str(len(split)) for split in prepared.splits.all}
    content = {split.name: split.fingerprint for split in prepared.splits.all}
    return {**content, **rows, "tokenizer": prepared.start.tokenizer.fingerprint}


def refuse_changed_data(checkpoint: Checkpoint | None, prepared: Prepared, *, force: bool) -> None:
    """Compare the rows and the tokenizer with those of a checkpoint.

    Raises:
        DataError: they are others.
    """
    from dlgsum.training import checkpoints

    manifest = None if checkpoint is None else checkpoint.manifest
    if manifest is None:
        return
    # Test rows do not reach the weights; a run may get them later.
    before, now = (
        {name: value for name, value in values.items() if not name.startswith("test")}
        for values in (manifest.fingerprints, fingerprints(prepared))
    )
    lines = checkpoints.differences(before, now)
    if not lines:
        return
    told = "\n".join(f"  • {line}" for line in lines)
    if force:
        logger.warning("going on with changed data (--force):\n%s", told)
        return
    raise DataError(
        f"The data are not those that this run was trained on:\n{told}",
        "Put the old files back, start a new run, or go on regardless with --force.",
    )


def newest_checkpoint(run: RunFolder) -> Checkpoint | None:
    """Return the newest valid checkpoint of a run; broken ones are set aside, with a warning and an event.

    What a killed process left half written is cleaned up on the way. Only for the holder of the run's lock.
    """
    from dlgsum.training import checkpoints

    def broken(path: Path, problems: list[str]) -> None:
        logger.warning(
            "%s cannot be used and was set aside as %s: %s. The one before is tried.",
            path.name.removeprefix("broken-"), path.name, "; ".join(problems),
        )  # fmt: skip
        run.event("broken_checkpoint", checkpoint=path.name, problems=problems)

    for folder in (run.path, run.models, run.predictions):
        sweep_leftovers(folder)
    return checkpoints.find_valid(run.checkpoints, on_broken=broken)


def start_over(run: RunFolder) -> None:
    """Make a run without a checkpoint as if it had just begun; its log and its events stay."""
    run.metrics.unlink(missing_ok=True)
    for folder in (run.models, run.predictions):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)


def take_up(trainer: SummarizationTrainer, hooks: Hooks, checkpoint: Checkpoint) -> None:
    """Restore everything that the run remembered at its checkpoint, and put its files in that order.

    Raises:
        DataError: the checkpoint's own state cannot be read.
    """
    from dlgsum.training.saving import read_state

    try:
        state = read_state(checkpoint.path)
        for name, part in trainer.checkpoint_plan.stateful.items():
            if name in state:
                part.restore(state[name])
            else:
                logger.warning("%s does not say what %s remembered; it begins anew", checkpoint.path.name, name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{checkpoint.path}: its state cannot be read ({type(error).__name__}: {error})", "Resume an earlier one."
        ) from error
    if trainer.is_world_process_zero():
        lost = hooks.keep_best.arrange_models()
        if lost:
            logger.warning("models that were among the best are gone from the disk: steps %s", lost)
    if hooks.stop.owes_evaluation:
        trainer.args.eval_on_start = True


def for_world(config: Config, checkpoint: Checkpoint | None, processes: int) -> Config:
    """Return the configuration for this many processes, with the effective batch of before.

    Raises:
        ConfigError: the effective batch cannot be divided among the processes.
    """
    training = config.training
    before = processes if checkpoint is None else checkpoint.world_size
    if before != processes:
        logger.warning(
            "the checkpoint is of %d processes, this run has %d: it goes on with the same effective batch, but not "
            "bit for bit as it would have", before, processes,
        )  # fmt: skip
        if training.effective_batch_size is None and training.batching != "tokens":
            rows = training.train_rows * training.gradient_accumulation_steps * before
            training = dataclasses.replace(training, effective_batch_size=rows, gradient_accumulation_steps=1)
        elif training.batching == "tokens":
            batches = training.gradient_accumulation_steps * before
            if batches % processes:
                raise ConfigError(
                    [f"{batches} batches make one step of this run, which {processes} processes cannot share evenly"],
                    f"Resume with a number of processes that divides {batches}.",
                )
            training = dataclasses.replace(training, gradient_accumulation_steps=batches // processes)
    return dataclasses.replace(config, training=training.for_processes(processes))


def remember_parts(run: RunFolder, parts: int) -> None:
    """Leave word for the next start that memory takes only micro-batches divided in so many parts."""
    write_json(run.path / _MEMORY, {"parts": parts})


def take_up_parts(trainer: SummarizationTrainer, run: RunFolder) -> None:
    """Divide micro-batches as an earlier start found that it must."""
    try:
        parts = int(read_json(run.path / _MEMORY)["parts"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    trainer.micro_batches.parts = max(trainer.micro_batches.parts, parts)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
