"""What people call a run or a model, wherever a command takes one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dlgsum.core.errors import UsageError
from dlgsum.recipes.stored import Place
from dlgsum.tracking.run import RunFolder, find_run

if TYPE_CHECKING:
    from dlgsum.tracking.registry import Found

MODELS = "models:"


def run_named(name: str, place: Place) -> RunFolder:
    """Return the run that ``name`` means: as ``tracking.run.find_run`` takes it, or ``models:NAME`` for a model's run.

    Raises:
        UsageError: nothing fits, or the model was not trained in a run that is here.
    """
    if not name.startswith(MODELS):
        return find_run(name, place.output_dir)
    folder = registered(name, place).folder
    run = RunFolder(folder.parent.parent)
    if not run.config.is_file():
        raise UsageError(f"{name} is the model in {folder}, which lies in no run", "Name a run by its id.")
    return run


def model_folder_named(name: str, place: Place) -> tuple[Path, str]:
    """Return the folder of the model that ``name`` means, and what to call it.

    Raises:
        UsageError: nothing fits, or the model's files are gone.
    """
    if name.startswith(MODELS):
        found = registered(name, place)
        return found.folder, found.id
    run = find_run(name, place.output_dir)
    if not (run.best_model / "config.json").is_file():
        raise UsageError(
            f"Run {run.id} has no model in {run.best_model}", "It may not have reached its first evaluation."
        )
    return run.best_model, run.id


def registered(name: str, place: Place) -> Found:
    """Return the registered model that ``models:NAME`` means.

    Raises:
        UsageError: there is none, or its files are gone.
    """
    from dlgsum.tracking.registry import resolve_reference

    return resolve_reference(name, place.store, place.output_dir)
