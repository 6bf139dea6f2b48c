"""`dlgsum sync`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from dlgsum.cli.completion.completers import complete_run
from dlgsum.cli.output import AsJson, Debug, OutputDir, place, print_json, progress_bar
from dlgsum.core.console import messages, results
from dlgsum.core.errors import EnvironmentProblem

if TYPE_CHECKING:
    from dlgsum.recipes.sync import Synced


def sync(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="A run's id or unique prefix, latest, or its folder; without one, every run that W&B lacks.",
            autocompletion=complete_run,
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--all", help="Also runs that W&B has already, such as for another project.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Also runs with wandb.mode=disabled.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; nothing is sent.")] = False,
    output_dir: OutputDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Bring runs to W&B: those trained with wandb.mode=offline, and what it lost of others.

    W&B's own file of a run is uploaded where it holds all of it. A process that was killed takes most of that file with
    it; then the run is rebuilt from its folder, under the same id: metrics, samples, charts, best model, summary.
    A run that is going on is left out. What W&B has is noted in wandb_sync.json, so that a second call does nothing.

    It needs a key: `wandb login`, or WANDB_API_KEY. The exit code is 4 where a run failed.

    Examples:

      dlgsum sync

      dlgsum sync latest --dry-run

      WANDB_PROJECT=other dlgsum sync 20261121_1612 --all
    """
    from dlgsum.recipes import sync as recipe

    with progress_bar("sending rows") as progress:
        found = recipe.sync(
            runs or [], place(output_dir), again=again, force=force, dry_run=dry_run, progress=progress,
            tell=(lambda synced: None) if as_json else _tell,
        )  # fmt: skip
    if as_json:
        print_json({"runs": [dataclasses.asdict(synced) for synced in found]})
    elif not found:
        messages().print("There are no runs.")
    if any(synced.done == "failed" for synced in found):
        raise typer.Exit(EnvironmentProblem.exit_code)


def _tell(synced: Synced) -> None:
    page = f"\n{'':<10}{synced.url}" if synced.url else ""
    results().print(f"{synced.done:<10}{synced.run}  {synced.reason}{page}", markup=False, highlight=False)
