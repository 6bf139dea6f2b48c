"""What people call a run or a model, wherever a command takes one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.recipes.stored import Place, opened
from dlgsum.tracking.run import RunFolder, find_run, is_beginning

if TYPE_CHECKING:
    from dlgsum.tracking.record import ExperimentRecord
    from dlgsum.tracking.registry import Found
    from dlgsum.tracking.store.store import Store

logger = logging.getLogger(__name__)

MODELS = "models:"


def run_named(name: str, place: Place) -> RunFolder:
    """Return the run that ``name`` means: as ``tracking.run.find_run`` takes it, or ``models:NAME`` for a model's run.

    A run of another output folder is found through the database that both share, by its id or the beginning of it.

    Raises:
        UsageError: nothing fits, or the model was not trained in a run that is here.
    """
    if not name.startswith(MODELS):
        try:
            return find_run(name, place.output_dir)
        except UsageError:
            run = _run_elsewhere(name, place)
            if run is None:
                raise
            return run
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
    run = run_named(name, place)
    if not (run.best_model / "config.json").is_file():
        raise UsageError(
            f"Run {run.id} has no model in {run.best_model}", "It may not have reached its first evaluation."
        )
    return run.best_model, run.id


def record_named(name: str, store: Store) -> ExperimentRecord | None:
    """Return the one experiment of the index whose id is ``name``, or begins with it; None where none or several do."""
    records = store.records()
    fitting = [it for it in records if it.id == name] or [it for it in records if is_beginning(name, it.id)]
    return fitting[0] if len(fitting) == 1 else None


def folder_of(record: ExperimentRecord) -> RunFolder | None:
    """Return the folder of an experiment; None where it is not there, seen from this machine."""
    run = RunFolder(Path(record.folder))
    return run if run.id == record.id and run.config.is_file() else None


def _run_elsewhere(name: str, place: Place) -> RunFolder | None:
    if place.store is None or name in ("latest", "best"):
        return None
    try:
        with opened(place, create=False) as store:
            record = record_named(name, store)
    except EnvironmentProblem as error:
        logger.warning("whether another output folder has '%s' is not known: %s", name, error.message)
        return None
    return folder_of(record) if record else None


def registered(name: str, place: Place) -> Found:
    """Return the registered model that ``models:NAME`` means.

    Raises:
        UsageError: there is none, or its files are gone.
    """
    from dlgsum.tracking.registry import resolve_reference

    return resolve_reference(name, place.store, place.output_dir)
