"""The checkpoints of a run: the newest valid one is found, broken ones are set aside, old ones removed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dlgsum.core.errors import UsageError
from dlgsum.core.files import read_json, remove_folder, sweep_leftovers
from dlgsum.training.checkpoints.check import STATE, problems_of, step_of, world_size_of
from dlgsum.training.checkpoints.manifest import MANIFEST, Manifest

# Broken checkpoints are evidence, but each is as large as a whole one.
KEEP_BROKEN = 1
_BROKEN = re.compile(r"broken-checkpoint-(\d+)(?:\.(\d+))?")

OnBroken = Callable[[Path, list[str]], None]
"""Told of a broken checkpoint: where it lies now, and what is wrong with it."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that training can be resumed from.

    Attributes:
        step: optimizer steps taken.
        world_size: processes that wrote it.
        manifest: None for one that plain transformers wrote: complete, but without checksums.
    """

    path: Path
    step: int
    world_size: int
    manifest: Manifest | None


def read(folder: Path, *, scaler: bool = False) -> Checkpoint:
    """Check one checkpoint, which may have any name, and return it.

    Raises:
        UsageError: it is broken; all problems are reported.
        EnvironmentProblem: it cannot be judged here.
    """
    problems = problems_of(folder, scaler=scaler)
    if problems:
        lines = "\n".join(f"  • {problem}" for problem in problems)
        raise UsageError(f"{folder} cannot be resumed from:\n{lines}", "Name an earlier checkpoint, or start anew.")
    return _checkpoint(folder)


def find_valid(checkpoints: Path, *, on_broken: OnBroken, scaler: bool = False) -> Checkpoint | None:
    """Return the newest valid checkpoint, by its number; None when there is none.

    Leftovers of killed writers are cleaned up first. A broken checkpoint is renamed to ``broken-checkpoint-<step>`` and
    reported, then the one before is tried. Only for a holder of the run's lock. An absent folder holds no checkpoint.

    Args:
        on_broken: told of each broken checkpoint.
        scaler: training is in fp16 on a GPU.

    Raises:
        EnvironmentProblem: a checkpoint cannot be judged here: its manifest is of a later dlgsum, or it may not be
            read. It stays as it is.
        OSError: a broken checkpoint cannot be renamed.
    """
    sweep_leftovers(checkpoints)
    for path in reversed(_numbered(checkpoints)):
        problems = problems_of(path, scaler=scaler)
        if not problems:
            return _checkpoint(path)
        on_broken(path.replace(_free_name(path)), problems)
    return None


def rotate(checkpoints: Path, limit: int | None) -> list[Path]:
    """Remove all but the newest checkpoints, by number, and all but the newest broken one; to be called after a commit.

    Broken ones are removed only here, where a later checkpoint has been written already. What cannot be removed stays.

    Args:
        limit: how many are kept, at least 1; None keeps all.

    Returns:
        What was removed.

    Raises:
        ValueError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: at least 1 checkpoint is kept")
    broken = sorted((path for path in _folders(checkpoints) if _BROKEN.fullmatch(path.name)), key=_age_of_broken)
    doomed = broken[:-KEEP_BROKEN]
    if limit is not None:
        doomed = _numbered(checkpoints)[:-limit] + doomed
    for path in doomed:
        remove_folder(path)
    return doomed


def _checkpoint(folder: Path) -> Checkpoint:
    if (folder / MANIFEST).exists():
        manifest = Manifest.read(folder)
        return Checkpoint(folder, manifest.step, manifest.world_size, manifest)
    step = step_of(folder)
    return Checkpoint(folder, _step_in_state(folder) if step is None else step, world_size_of(folder), None)


def _step_in_state(folder: Path) -> int:
    return int(read_json(folder / STATE)["global_step"])


def _folders(checkpoints: Path) -> list[Path]:
    return [path for path in checkpoints.iterdir() if path.is_dir()] if checkpoints.is_dir() else []


def _numbered(checkpoints: Path) -> list[Path]:
    """Return the checkpoints, the newest last. By number: times can be set back, and copying changes them."""
    steps = {path: step for path in _folders(checkpoints) if (step := step_of(path)) is not None}
    return sorted(steps, key=lambda path: steps[path])


def _free_name(path: Path) -> Path:
    name, number = path.with_name(f"broken-{path.name}"), 2
    while name.exists():
        name, number = path.with_name(f"broken-{path.name}.{number}"), number + 1
    return name


def _age_of_broken(path: Path) -> tuple[int, int]:
    match = _BROKEN.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2] or 1)
