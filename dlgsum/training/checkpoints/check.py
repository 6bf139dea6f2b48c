"""Whether a checkpoint holds everything that resuming needs, undamaged; each problem in words."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import read_json, sha256_file
from dlgsum.core.text import plural
from dlgsum.training.checkpoints.manifest import MANIFEST, FileFacts, Manifest

STATE = "trainer_state.json"
_NUMBERED = re.compile(r"checkpoint-(\d+)")
_RNG_OF_RANK = re.compile(r"rng_state_(\d+)\.pth")


@dataclass(frozen=True)
class Required:
    """Something that resuming needs; one of several files or folders will do.

    Attributes:
        any_of: names; one that ends in ``/`` is a folder with files in it.
    """

    what: str
    any_of: tuple[str, ...]

    def met_by(self, names: Collection[str]) -> bool:
        """Say whether one of them is among the paths of a checkpoint's files."""
        return any(
            any(name.startswith(wanted) for name in names) if wanted.endswith("/") else wanted in names
            for wanted in self.any_of
        )


def required_files(world_size: int, *, scaler: bool = False) -> list[Required]:
    """Return what resuming needs beside the settings, which are not read from a checkpoint.

    Args:
        world_size: processes that trained; each has random numbers of its own.
        scaler: training was in fp16 on a GPU, which has a loss scale.
    """
    ranks = ["rng_state.pth"] if world_size == 1 else [f"rng_state_{rank}.pth" for rank in range(world_size)]
    return [
        Required(
            "the model's weights",
            # The last two are FSDP's, whole or one part a process.
            ("model.safetensors", "model.safetensors.index.json", "pytorch_model_fsdp.bin", "pytorch_model_fsdp_0/"),
        ),
        Required("the optimizer", ("optimizer.pt", "optimizer.bin", "optimizer_0/")),
        Required("the learning-rate schedule", ("scheduler.pt",)),
        *(Required("the random numbers", (name,)) for name in ranks),
        *([Required("the loss scale", ("scaler.pt",))] if scaler else []),
        Required("the Trainer's state", (STATE,)),
    ]


def step_of(folder: Path) -> int | None:
    """Return the number in a checkpoint's name; None for what is not named as one."""
    match = _NUMBERED.fullmatch(folder.name)
    return int(match[1]) if match else None


def problems_of(folder: Path, *, step: int | None = None, scaler: bool = False) -> list[str]:
    """Say what is wrong with a checkpoint; an empty list when training can be resumed from it.

    With a manifest every listed file is compared by size and checksum; other files are harmless. Without one, as plain
    transformers writes it, the set must be complete and no file cut short; a change inside a file goes unseen.

    Args:
        step: the step it should be of; taken from the folder's name when None.
        scaler: training was in fp16 on a GPU.

    Raises:
        EnvironmentProblem: it cannot be judged here: the manifest is of a later dlgsum, or reading is not permitted.
    """
    try:
        if not folder.is_dir():
            return [f"{folder} is not a folder"]
        step = step_of(folder) if step is None else step
        if (folder / MANIFEST).exists():
            return _with_manifest(folder, step, scaler)
        return _without_manifest(folder, step, scaler)
    except PermissionError as error:
        raise EnvironmentProblem(
            f"{error.filename or folder} cannot be read: {error.strerror}",
            "Give this user the right to read it, or resume as the user who wrote it.",
        ) from error


def world_size_of(folder: Path) -> int:
    """Return how many processes wrote a checkpoint, by its files of random numbers; 1 when there are none."""
    return max((int(match[1]) + 1 for match in map(_RNG_OF_RANK.fullmatch, _files_in(folder)) if match), default=1)


def missing_from(folder: Path, names: Collection[str], world_size: int, *, scaler: bool) -> list[str]:
    """Say which required files are not among the names, in words."""
    problems = [
        f"{needed.any_of[0]} is missing: {needed.what}"
        for needed in required_files(world_size, scaler=scaler)
        if not needed.met_by(names)
    ]
    if "model.safetensors" not in names and "model.safetensors.index.json" in names:
        problems += [f"{shard} is missing: a part of the weights" for shard in _shards(folder) if shard not in names]
    return problems


def state_problem(folder: Path, step: int | None) -> str | None:
    """Say what is wrong with the Trainer's state; None when it is of the step, or of any when that is None."""
    try:
        found = read_json(folder / STATE).get("global_step")
    except ValueError as error:
        return f"{STATE} is not readable: {error}"
    if not isinstance(found, int) or isinstance(found, bool):
        return f"{STATE} gives global_step={found!r}, not a number of steps"
    return None if step in (None, found) else f"{STATE} is of step {found}, not {step}"


def _with_manifest(folder: Path, step: int | None, scaler: bool) -> list[str]:
    try:
        manifest = Manifest.read(folder)
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        return [f"{MANIFEST} is not readable: {error}"]
    problems = []
    if step is not None and manifest.step != step:
        problems.append(f"{MANIFEST} is of step {manifest.step}, not {step}")
    for name, facts in manifest.files.items():
        problem = _damage(folder, name, facts)
        if problem:
            problems.append(problem)
    if problems:
        return problems
    problems = missing_from(folder, manifest.files.keys(), manifest.world_size, scaler=scaler)
    return problems or [problem for problem in [state_problem(folder, manifest.step)] if problem]


def _damage(folder: Path, name: str, facts: FileFacts) -> str | None:
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
        return f"{MANIFEST} lists {name!r}, which is no path in the checkpoint"
    path = folder.joinpath(*parts)
    try:
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != facts.size:
            return f"{name} has {plural(size, 'byte')} instead of {facts.size:,}"
        if sha256_file(path) != facts.sha256:
            return f"{name} is not as it was written: its checksum differs"
    except PermissionError:
        raise
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    return None


def _without_manifest(folder: Path, step: int | None, scaler: bool) -> list[str]:
    names = _files_in(folder)
    try:
        problems = missing_from(folder, names, world_size_of(folder), scaler=scaler)
        if STATE in names:
            problems += [problem for problem in [state_problem(folder, step)] if problem]
        problems += [f"{name} is cut short" for name in sorted(names) if _is_cut_short(folder / name)]
    except PermissionError:
        raise
    except OSError as error:
        problems = [f"{error.filename or folder} cannot be read: {error.strerror}"]
    # Either dlgsum was stopped before it wrote the manifest, or transformers before it had written everything.
    return [*problems, f"{MANIFEST} is missing too: the write was cut short"] if problems else []


def _is_cut_short(path: Path) -> bool:
    """Say whether a file has not the end that its form asks for; no for forms without one."""
    if path.suffix in (".pt", ".pth"):
        return not zipfile.is_zipfile(path)  # the directory of a zip file is at its end
    if path.suffix != ".safetensors":
        return False
    with path.open("rb") as stream:
        head = stream.read(8)
        try:
            (length,) = struct.unpack("<Q", head)
            tensors = json.loads(stream.read(min(length, path.stat().st_size)))
            end = max(
                (tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"), default=0
            )
        except (struct.error, ValueError, LookupError, TypeError, AttributeError):
            return True
    return bool(path.stat().st_size != 8 + length + end)


def _shards(folder: Path) -> list[str]:
    """Return the files that the index of sharded weights names; the index itself when it cannot be read."""
    index = "model.safetensors.index.json"
    try:
        shards = read_json(folder / index)["weight_map"].values()
        return sorted({str(shard) for shard in shards}) or [f"weight_map in {index}"]
    except (ValueError, LookupError, AttributeError):
        return [f"a readable {index}"]


def _files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
