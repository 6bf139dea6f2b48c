"""What a run started from, as its folder records it: written when it begins, compared when it is run again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from dlgsum.config.schema import Config
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import read_json, write_json
from dlgsum.models.base import Base, read_base
from dlgsum.models.problems import not_a_folder
from dlgsum.recipes.settle import Settled
from dlgsum.tracking.run import RunFolder

_NAME = "starting_weights.json"


def record(run: RunFolder, settled: Settled, resumed_from: str | None = None) -> None:
    """Save the hashes of what a run starts from; ``kobart_mini`` starts from nothing.

    Args:
        resumed_from: the checkpoint of another run that it begins with instead.
    """
    base = read_base(settled.model, settled.config.model)
    if resumed_from:
        base = Base(str(Path(resumed_from).absolute()), unknown="it began with a checkpoint of another run")
    if base is not None:
        write_json(run.path / _NAME, dataclasses.asdict(base))


def recorded(run: RunFolder) -> Base | None:
    """Return what a run recorded; None where it did not, or where the record cannot be read."""
    try:
        saved = read_json(run.path / _NAME)
    except (OSError, ValueError):
        return None
    files, commit = saved.get("files"), saved.get("commit")
    if not isinstance(files, dict):
        return None
    return Base(
        checkpoint=str(saved.get("checkpoint") or ""),
        commit=commit if isinstance(commit, str) else None,
        files={str(name): str(value) for name, value in files.items()},
        unknown=str(saved.get("unknown") or ""),
    )


def why_unknown(run: RunFolder, then: Config) -> str:
    """Return why it cannot be told whether a run would start from the same weights again; empty where it can.

    Args:
        then: the configuration of the run.
    """
    if then.model.checkpoint in ("auto", "kobart_mini"):
        return ""
    base = recorded(run)
    if base is not None and base.files:
        return ""
    why = base.unknown if base is not None else "it is not recorded"
    return f"what {run.id} started from ({then.model.checkpoint}) is unknown: {why or 'it is not recorded'}"


def changed_files(then: Base | None, now: Base | None) -> list[tuple[str, str, str]]:
    """Return the name, the hash of then and the hash of now of each file that differs; nothing where one is unknown."""
    if then is None or now is None or not then.files or not now.files:
        return []
    again = f" (model.revision={then.commit} has it)" if then.commit and then.commit != now.commit else ""
    return [
        (
            f"{name} of {now.checkpoint}",
            f"{then.files[name][:12]}{again}" if name in then.files else "none",
            now.files.get(name, "none")[:12],
        )
        for name in dict.fromkeys([*then.files, *now.files])
        if then.files.get(name) != now.files.get(name)
    ]


def refuse_missing(run: RunFolder, settled: Settled) -> None:
    """Check that the folder from which a run is to start again is there; a name on the hub is not looked up.

    Raises:
        EnvironmentProblem: it is gone, or its relative name means a folder elsewhere.
    """
    name = settled.config.model.checkpoint
    if settled.model.kind == "mini":
        return
    try:
        not_a_folder(name)
    except EnvironmentProblem as error:
        raise EnvironmentProblem(
            f"{run.id} cannot start from where it started: {error.message}",
            "Put the folder back, or name another: model.checkpoint=FOLDER.",
        ) from error
    if Path(name).expanduser().is_dir():
        return
    there = _working_directory(run) / name
    if there.is_dir():
        raise EnvironmentProblem(
            f"{run.id} started from the folder '{name}' of {there.parent}, which is not here",
            f"Name it: model.checkpoint={there}",
        )


def _working_directory(run: RunFolder) -> Path:
    try:
        found: Any = read_json(run.path / "environment.json").get("working_directory")
    except (OSError, ValueError):
        found = None
    return Path(found) if isinstance(found, str) else Path.cwd()
