"""The folder that an export may write, which is none that holds results."""

from __future__ import annotations

from pathlib import Path

from dlgsum.core.errors import UsageError
from dlgsum.tracking.registry import ModelRegistry
from dlgsum.tracking.registry.names import ALIASES, parts_of


def checked_target(target: Path, source: Path, registry: ModelRegistry, *, force: bool) -> Path:
    """Return the folder to write, absolute; one that is not empty may be replaced where ``force`` says so.

    Args:
        source: the model's folder.

    Raises:
        UsageError: it is a file, or not empty, or holds or is part of what nobody wants to be replaced: the working
            folder, the home folder, runs and registries of this folder of results or of any other.
    """
    target = target.expanduser().resolve()
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file", "Name a folder.")
    needed = [source, registry.output_dir, Path.cwd(), Path.home(), *_of_results(registry)]
    inside = [source, *_of_results(registry)]
    if any(it.resolve().is_relative_to(target) for it in needed) or any(
        target.is_relative_to(it.resolve()) for it in inside
    ):
        raise UsageError(f"{target} cannot be replaced by an export: what is needed lies in it", "Name a new folder.")
    if found := _results_in(target) or _run_around(target):
        raise UsageError(f"{target} cannot be replaced by an export: it has results, {found}", "Name a new folder.")
    if not force and target.is_dir() and any(target.iterdir()):
        raise UsageError(f"{target} is not empty", "Name a new folder, or replace it with --force.")
    return target


def _of_results(registry: ModelRegistry) -> list[Path]:
    return [registry.folder, registry.output_dir / "experiments"]


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and (folder / "status.json").is_file()


def _results_in(folder: Path) -> str:
    """Return what of any folder of results a folder is or has, down to the runs of one; empty where it has nothing."""
    for pattern in (".", "*", "experiments/*", "*/experiments/*"):
        for run in folder.glob(pattern) if pattern != "." else (folder,):
            if _is_run(run):
                return f"the run {run.name}"
    for models in (folder, folder / "models", *folder.glob("*/models")):
        registered = [path for path in models.glob("*.json") if parts_of(path.stem)]
        if registered or (models / ALIASES).is_file():
            return f"the models registered in {models}"
    return ""


def _run_around(folder: Path) -> str:
    return next((f"of the run {it.name}" for it in folder.parents if _is_run(it)), "")
