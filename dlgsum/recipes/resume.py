"""Find a run that was interrupted, killed or preempted, and check that it can go on as it was."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlgsum.config.compose import compose
from dlgsum.config.overrides import override_value
from dlgsum.config.request import Request
from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.recipes import continuing
from dlgsum.recipes.named import run_named
from dlgsum.recipes.result import TrainingResult, read_result
from dlgsum.recipes.settle import Settled, settle_config
from dlgsum.recipes.stored import Place, find_place
from dlgsum.tracking.run import RunFolder, list_runs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resumable:
    """A run that is not complete, with the configuration that it is to go on with."""

    run: RunFolder
    settled: Settled


def find(name: str, request: Request, *, force: bool = False) -> Resumable | TrainingResult:
    """Find the run that ``name`` means and check that it can go on; a complete one gives its result. No torch yet.

    Args:
        name: as ``recipes.named.run_named`` takes it; ``latest`` is the newest run here, whatever it has.
        request: overrides of the run's own configuration, which may only change what does not decide the result.
        force: let changes of the configuration pass, with a warning.

    Raises:
        UsageError: no run fits, or its configuration would change.
        ConfigError: an override, or the saved configuration, is wrong.
        EnvironmentProblem: the configuration of the run cannot be read.
    """
    run = find_folder(name, request)
    if run.state == "completed":
        result = read_result(run)
        if result is None:
            raise EnvironmentProblem(f"{run.id} is complete, but {run.results} cannot be read", "It may be damaged.")
        if [line for line in request.overrides if not _places([line])] or request.file:
            raise UsageError(
                f"{run.id} is complete; settings cannot change it any more.",
                f"Start a new run with them: dlgsum train --config {shlex.quote(str(run.config))} …",
            )
        return result
    saved = Request(base=run.config, environ={})
    try:
        # What the environment asks for was settled when the run began; only what is said now may change it, and
        # the database that experiments are found by now.
        overrides = [*request.overrides, *_store(request)]
        now = compose(dataclasses.replace(saved, overrides=overrides, file=request.file)).config
    except OSError as error:
        raise EnvironmentProblem(f"{run.config} cannot be read: {error.strerror}", "Start a new run.") from error
    continuing.refuse_changed_settings(run, now, force=force)
    settled = settle_config(now)
    return Resumable(run, settled)


def find_folder(name: str, request: Request) -> RunFolder:
    """Return the run that ``name`` means, whatever state it is in.

    Raises:
        UsageError: no run fits.
    """
    path = Path(name)
    if (path / "config.yaml").is_file():
        return RunFolder(path if path.name not in ("", "..") else path.resolve())
    place = _place(request)
    if name != "latest":
        return run_named(name, place)
    folder = place.output_dir
    runs = list_runs(folder)
    if not runs:
        raise UsageError(f"There are no runs in {folder / 'experiments'}", "Start one with `dlgsum train`.")
    return runs[-1]


def _place(request: Request) -> Place:
    # Only where the runs are: what else a file or a variable says is of no concern to a run that has its settings.
    return find_place(Request(overrides=_places(request.overrides), file=request.file, environ=request.environ))


def _store(request: Request) -> list[str]:
    """Return the override of the database, where one is asked for now."""
    address = _place(request).store
    return [] if address is None else [f"tracking.store={override_value(address)}"]


def _places(overrides: Sequence[str]) -> list[str]:
    return [line for line in overrides if line.startswith(("general.output_dir=", "tracking.store="))]


__all__ = ["Resumable", "find", "find_folder"]
