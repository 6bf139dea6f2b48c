"""Writing a checkpoint so that it appears whole or not at all, by one process or by several together."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dlgsum.core.errors import TrainingFailed
from dlgsum.core.files import disk_is_full, swap_in, sync_file, sync_folder
from dlgsum.training.checkpoints.check import missing_from, state_problem
from dlgsum.training.checkpoints.manifest import Manifest
from dlgsum.training.checkpoints.store import Checkpoint

_TOKEN = re.compile(r"[0-9a-f]{4,64}")


def temporary_path(checkpoints: Path, step: int, token: str) -> Path:
    """Return where a checkpoint is written before it is complete: a hidden name, the same for all processes.

    Args:
        token: 4 to 64 hexadecimal digits, equal in all processes and different in each start of the run.

    Raises:
        ValueError: the token is something else, and ``sweep_leftovers`` would not know the folder again.
    """
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"token={token!r}: 4 to 64 digits of 0-9 and a-f were expected")
    return checkpoints / f".checkpoint-{step}.{token}.tmp"


def begin(checkpoints: Path, step: int, token: str) -> Path:
    """Make the temporary folder; any process may call this, in any order, and gets the same folder.

    Raises:
        OSError: the folder cannot be made.
        ValueError: the token is not one, see ``temporary_path``.
    """
    folder = temporary_path(checkpoints, step, token)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def commit(
    temporary: Path,
    target: Path,
    *,
    step: int,
    world_size: int = 1,
    fingerprints: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
    scaler: bool = False,
) -> Checkpoint:
    """Make a checkpoint of what all processes have written; one process calls this, after the others are done.

    The manifest comes last, everything is synced to the disk, and only then the folder gets its name. A checkpoint of
    the same step is replaced.

    Args:
        temporary: the folder they wrote into, on the file system of the target.
        target: ``checkpoints/checkpoint-<step>``.
        world_size: processes that train.
        scaler: training is in fp16 on a GPU.

    Raises:
        TrainingFailed: something that resuming needs was not written, or is of another step.
        OSError: a file cannot be read or synced, or the folder cannot be renamed.
    """
    manifest = Manifest.of(temporary, step=step, world_size=world_size, fingerprints=fingerprints, versions=versions)
    problems = missing_from(temporary, manifest.files.keys(), world_size, scaler=scaler)
    if not problems:
        problems = [problem for problem in [state_problem(temporary, step)] if problem]
    if problems:
        raise TrainingFailed(
            f"The checkpoint of step {step} was not written completely: {'; '.join(problems)}.",
            "Earlier checkpoints are as they were.",
        )
    manifest.write(temporary)
    for name in manifest.files:
        sync_file(temporary / name)
    for folder in (temporary, *(path for path in temporary.rglob("*") if path.is_dir())):
        sync_folder(folder)
    swap_in(temporary, target)
    sync_folder(target.parent)
    return Checkpoint(target, step, world_size, manifest)


def abandon(temporary: Path) -> None:
    """Remove a temporary folder; one that is no longer there, or cannot be removed, is no error.

    Where an error led here, ask ``disk_is_full(error, temporary)`` before, not after: this makes room again.
    """
    shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def whole_or_absent(temporary: Path, target: Path) -> Iterator[None]:
    """Remove the temporary folder if the block, which fills and commits it, fails; earlier checkpoints stay.

    Raises:
        OSError: with errno ENOSPC when the disk is full, also where the library that wrote does not say so.
    """
    try:
        yield
    except BaseException as error:
        # Asked before the removal, which makes room again.
        told = getattr(error, "errno", None) is not None
        full = isinstance(error, Exception) and not told and disk_is_full(error, temporary)
        abandon(temporary)
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
        raise


@contextmanager
def writing(
    checkpoints: Path,
    step: int,
    *,
    world_size: int = 1,
    fingerprints: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
    scaler: bool = False,
) -> Iterator[Path]:
    """Give a temporary folder to fill; on success it becomes ``checkpoint-<step>``. For one process.

    On an exception the temporary folder is removed, and earlier checkpoints stay.

    Raises:
        OSError: with errno ENOSPC when the disk is full, also where torch does not say so.
        TrainingFailed: see ``commit``.
    """
    target = checkpoints / f"checkpoint-{step}"
    temporary = begin(checkpoints, step, secrets.token_hex(4))
    with whole_or_absent(temporary, target):
        yield temporary
        commit(
            temporary, target, step=step, world_size=world_size, fingerprints=fingerprints, versions=versions,
            scaler=scaler,
        )  # fmt: skip
