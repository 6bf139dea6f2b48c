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
from dlgsum.core.errors import ConfigError, DataError, DlgsumError, UsageError
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
        same = one == other or (key == "model.checkpoint" and _may_be_one_folder(one, other))
        if not same and not any(key == free or (free[-1] == "." and key.startswith(free)) for free in _FREE):
            lines.append(f"{key}: {_shown(one)} → {_shown(other)}")
    return lines


def _may_be_one_folder(one: str, other: str) -> bool:
    """Say whether a folder is named twice: once absolute, and once as it was given, wherever that was.

    A run that was begun before folders were saved absolute goes on; its weights come from its own checkpoint.
    """
    given, absolute = sorted((Path(one).expanduser(), Path(other).expanduser()), key=lambda path: path.is_absolute())
    if given.is_absolute() == absolute.is_absolute():
        return given == absolute
    return given.resolve() == absolute.resolve() or absolute.parts[-len(given.parts) :] == given.parts


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
    _refuse(
        lines,
        UsageError,
        f"The configuration is not the one that {run.id} was trained with",
        "Resume without the changes, start a new run with them",
        force=force,
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
    _refuse(
        lines,
        DataError,
        "The data are not those that this run was trained on",
        "Put the old files back, start a new run",
        force=force,
    )


def _refuse(lines: list[str], kind: type[DlgsumError], what: str, cure: str, *, force: bool) -> None:
    """Raise an error with what has changed, or only warn of it; nothing at all where nothing has."""
    told = "".join(f"\n  • {line}" for line in lines)
    if lines and force:
        logger.warning("%s; going on all the same (--force):%s", what, told)
    elif lines:
        raise kind(f"{what}:{told}", f"{cure}, or go on regardless with --force.")


def newest_checkpoint(run: RunFolder) -> Checkpoint | None:
    """Return the newest valid checkpoint of a run; broken ones are set aside, with a warning and an event.

    What a killed process left half written is cleaned up on the way. Only for the holder of the run's lock.
    """
    from dlgsum.training import checkpoints

    def broken(path: Path, problems: list[str]) -> None:
        logger.warning(
            "%s cannot be used and was set aside as %s: %s. An earlier one is looked for.",
            path.name.removeprefix("broken-"), path.name, "; ".join(problems),
        )  # fmt: skip
        run.event("broken_checkpoint", checkpoint=path.name, problems=problems)

    for folder in (run.path, run.models, run.predictions):
        sweep_leftovers(folder)
    return checkpoints.find_valid(run.checkpoints, on_broken=broken)


def start_over(run: RunFolder) -> None:
    """Let a run without a valid checkpoint begin again; its log and events stay, and its models are put aside."""
    for path in (run.metrics, run.path / _MEMORY):
        path.unlink(missing_ok=True)
    shutil.rmtree(run.predictions, ignore_errors=True)
    run.predictions.mkdir(exist_ok=True)
    if any(run.models.glob("*")):
        aside, number = run.path / "models-before", 2
        while aside.exists():
            aside, number = run.path / f"models-before-{number}", number + 1
        run.models.replace(aside)
        logger.warning("the models that this run had are kept in %s", aside)
    run.models.mkdir(exist_ok=True)
    logger.warning("%s has no valid checkpoint: it begins again at step 0", run.id)
    run.event("start_over")


def take_up(trainer: SummarizationTrainer, hooks: Hooks, checkpoint: Checkpoint) -> None:
    """Restore everything that the run remembered at its checkpoint, and put its files in that order.

    Raises:
        DataError: the checkpoint's own state cannot be read.
    """
    from dlgsum.training.saving import read_state

    first = trainer.is_world_process_zero()
    try:
        state = read_state(checkpoint.path)
        if not state:
            _take_up_plain(hooks, checkpoint, first=first)
        for name, part in trainer.checkpoint_plan.stateful.items():
            if name in state and (first or part is not hooks.stream):  # one process writes the metrics
                part.restore(state[name])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{checkpoint.path}: its state cannot be read ({type(error).__name__}: {error})", "Resume an earlier one."
        ) from error
    if first:
        lost = hooks.keep_best.arrange_models()
        if lost:
            logger.warning("models that were among the best are gone from the disk: steps %s", lost)
    if hooks.stop.owes_evaluation:
        trainer.args.eval_on_start = True


def _take_up_plain(hooks: Hooks, checkpoint: Checkpoint, *, first: bool) -> None:
    """Take up a checkpoint that says nothing of what we remember: from the ranking on the disk, as far as it goes."""
    logger.warning(
        "%s says nothing of best models, metrics and early stopping: the ranking is taken from models/ranking.json, "
        "and patience begins anew", checkpoint.path.name,
    )  # fmt: skip
    hooks.keep_best.adopt_ranking(checkpoint.step)
    if first:
        hooks.stream.keep_until(checkpoint.step)


class BatchOfAStep:
    """How many rows and batches make one optimizer step, whatever number of processes share them."""

    def __init__(self, trainer: SummarizationTrainer) -> None:
        self._batches = trainer.args.gradient_accumulation_steps * trainer.args.world_size
        self._rows = self._batches * trainer.config.training.train_rows

    def state(self) -> dict[str, Any]:
        """Return the counts."""
        return {"batches": self._batches, "rows": self._rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing: ``for_world`` has read the counts before there was a trainer."""


def for_world(config: Config, checkpoint: Checkpoint | None, processes: int) -> Config:
    """Return the configuration for this many processes, with the effective batch of before.

    Raises:
        ConfigError: the effective batch cannot be divided among the processes.
    """
    training = config.training
    if checkpoint is not None:
        from dlgsum.training.saving import read_state

        before = checkpoint.world_size
        if before != processes:
            logger.warning(
                "the checkpoint is of %d processes, this run has %d: it goes on with the same effective batch, but not "
                "bit for bit as it would have", before, processes,
            )  # fmt: skip
        saved = read_state(checkpoint.path).get("batch", {})
        batches = int(saved.get("batches", training.accumulation(before) * before))
        if training.batching == "tokens":
            if batches % processes:
                raise ConfigError(
                    [f"{batches} batches make one step of this run, which {processes} processes cannot share evenly"],
                    f"Resume with a number of processes that divides {batches}.",
                )
            training = dataclasses.replace(training, gradient_accumulation_steps=batches // processes)
        elif training.effective_batch_size is None:
            rows = int(saved.get("rows", batches * training.train_rows))
            if rows != training.train_rows * training.gradient_accumulation_steps * processes:
                training = dataclasses.replace(training, effective_batch_size=rows, gradient_accumulation_steps=1)
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
