"""`dlgsum models promote`, `demote` and `history`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from dlgsum.cli.models.options import Model, complete_alias
from dlgsum.cli.output import AsJson, Debug, OutputDir, StoreUrl, place, print_json, progress_bar
from dlgsum.core.console import messages, results


def promote(
    model: Model,
    alias: Annotated[
        str, typer.Option("--alias", metavar="ALIAS", help="The alias it gets.", autocompletion=complete_alias)
    ] = "champion",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; kept in the history.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Also where its files are gone or changed.")] = False,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Give an alias to a model; the history keeps what it meant before.

    Every file is read first: a model whose files are gone or changed is refused. Wherever a command takes a run, a
    model is named as models:ALIAS.

    Examples:

      dlgsum models promote kobart@3 --note "best on the new test rows"

      dlgsum models promote latest --alias challenger
    """
    from dlgsum.recipes import models

    registry = models.open_registry(place(output_dir, store))
    with progress_bar("reading (bytes)") as progress:
        done = models.promote(registry, model, alias, note=note, force=force, on_progress=progress)
    for warning in done.warnings:
        messages().print(f"warning: {warning}", style="yellow", markup=False)
    if as_json:
        print_json(asdict(done))
    elif done.before == done.model:
        results().print(f"{alias} means {done.model} already", markup=False)
    else:
        before = f"; it meant {done.before} before" if done.before else ""
        results().print(f"{alias} means {done.model} now{before}", markup=False)


def demote(
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="The alias.", autocompletion=complete_alias)],
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Take an alias away from its model; its history stays.

    Example:

      dlgsum models demote challenger
    """
    from dlgsum.recipes import models

    before = models.open_registry(place(output_dir, store)).demote(alias)
    if as_json:
        print_json({"alias": alias, "model": None, "before": before})
    else:
        results().print(f"{alias} means nothing now; it meant {before}", markup=False)


def history(
    alias: Annotated[
        str | None, typer.Argument(metavar="[ALIAS]", help="Only this one.", autocompletion=complete_alias)
    ] = None,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show which model an alias meant, since when, and who changed it.

    Example:

      dlgsum models history champion
    """
    from dlgsum.cli.models.show import print_history
    from dlgsum.recipes import models

    events = models.history_of(models.open_registry(place(output_dir, store)), alias)
    if as_json:
        print_json({"history": events})
    elif events:
        print_history("", events)
    else:
        messages().print("no alias was ever given")
