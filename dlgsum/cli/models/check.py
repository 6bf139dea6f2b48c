"""`dlgsum models verify` and `export`."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlgsum.cli.completion.completers import complete_folder
from dlgsum.cli.models.options import MODEL_HELP, Model, complete_model, size_of
from dlgsum.cli.output import AsJson, Debug, OutputDir, StoreUrl, place, print_json, progress_bar
from dlgsum.core.console import messages, results

if TYPE_CHECKING:
    from dlgsum.recipes.models_verify import Verification


class Layout(StrEnum):
    """How an exported model lies in its folder."""

    folder = "folder"
    hub = "hub"


def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help=MODEL_HELP, autocompletion=complete_model)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every registered model.")] = False,
    no_load: Annotated[bool, typer.Option("--no-load", help="Only read the files.")] = False,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check that a model's files are what was registered, and that it loads and writes a summary.

    Every file is read. The exit code is 3 where a file is changed or missing, or the model does not load.

    Examples:

      dlgsum models verify champion

      dlgsum models verify --all --no-load
    """
    from dlgsum.core.errors import DataError
    from dlgsum.recipes import models, models_verify

    registry = models.open_registry(place(output_dir, store))
    found = []
    for model in models_verify.models_to_verify(registry, names or [], every=every):
        with progress_bar(f"{model.id} (bytes)") as progress:
            found.append(models_verify.verify_model(registry, model, load=not no_load, on_progress=progress))
        if not as_json:
            _print(found[-1])
    if as_json:
        print_json({"models": [{**asdict(it), "good": it.good} for it in found]})
    elif not found:
        messages().print(f"no model is registered in {registry.folder}", markup=False)
    if not all(it.good for it in found):
        raise typer.Exit(DataError.exit_code)


def export(
    model: Model,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.", autocompletion=complete_folder)],
    layout: Annotated[
        Layout, typer.Option("--layout", help="folder: as it is; hub: what a repository of the hub holds.")
    ] = Layout.folder,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that is not empty.")] = False,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a model to a folder of its own; every file is checked while it is copied.

    --layout hub writes weights, configuration and tokenizer, and a model card with scores, data fingerprints and
    intended use. What is only of concern here stays behind: places of files, notes, hosts, addresses. Look the card
    over before you publish it: the licence is not known.

    Examples:

      dlgsum models export champion kobart-dialogue --layout hub

      dlgsum models export kobart@2 /media/disk/kobart
    """
    from dlgsum.recipes import models, models_export

    registry = models.open_registry(place(output_dir, store))
    with progress_bar("copying (bytes)") as progress:
        done = models_export.export_model(
            registry, model, folder, layout=layout.value, force=force, on_progress=progress
        )
    if as_json:
        print_json(asdict(done))
        return
    results().print(f"{done.model} in {done.folder}: {size_of(done.size)}", markup=False)
    for name in done.files:
        results().print(f"  {name}", markup=False)
    for note in done.notes:
        messages().print(f"note: {note}", markup=False)
    if done.left_out:
        messages().print(f"left out: {', '.join(done.left_out)}", markup=False)


def _print(found: Verification) -> None:
    results().print(f"{found.model}: {'good' if found.good else found.problem}", markup=False, soft_wrap=True)
    if found.additional:
        messages().print(f"  not registered: {', '.join(found.additional)}", markup=False)
    if found.summary is not None:
        results().print(f"  loads; its summary of two turns: {found.summary or '(empty)'}", markup=False)
