"""`dlgsum experiments tag`, `note` and `reindex`: what changes the record of an experiment, or the index of all."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from dlgsum.cli.output import AsJson, Debug, OutputDir, Run, StoreUrl, place, print_json, progress_bar
from dlgsum.core.console import messages, results
from dlgsum.core.errors import UsageError

if TYPE_CHECKING:
    from dlgsum.recipes.experiments import Rebuilt


def tag(
    run: Run,
    words: Annotated[list[str] | None, typer.Argument(metavar="WORD", help="Tags to give.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="WORD", help="Tag to take away.")] = None,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Give tags to an experiment, or take some away; without any, print those it has.

    They are kept in the run's folder, and a run that is running can be tagged too.

    Examples:

      dlgsum experiments tag latest baseline kobart

      dlgsum experiments tag 356b9f49 champion --remove candidate
    """
    from dlgsum.recipes import experiments as recipe
    from dlgsum.recipes.experiments_edit import set_tags
    from dlgsum.recipes.stored import find_place

    where = find_place(place(output_dir, store))
    if words or remove:
        found, absent = set_tags(run, where, words or [], remove or [])
        for word in absent:
            messages().print(f"note: {found.record.id} had no tag {word}", markup=False)
    else:
        found = recipe.find_experiment(run, where)
    if as_json:
        print_json({"id": found.record.id, "tags": found.record.tags})
    else:
        results().print(f"{found.record.id}  {' '.join(found.record.tags) or '(no tags)'}", markup=False)


def note(
    run: Run,
    text: Annotated[str | None, typer.Argument(help="The notes; without it those there are, are printed.")] = None,
    append: Annotated[bool, typer.Option("--append", help="Write TEXT below the notes, in the place of none.")] = False,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Replace the notes of an experiment, write below them, or print them.

    Examples:

      dlgsum experiments note latest "학습률을 낮춘 첫 실험"

      dlgsum experiments note latest "better than expected" --append
    """
    from dlgsum.recipes import experiments as recipe
    from dlgsum.recipes.experiments_edit import set_notes
    from dlgsum.recipes.stored import find_place

    where = find_place(place(output_dir, store))
    if text is None and append:
        raise UsageError("--append needs a text", 'For example: dlgsum experiments note latest "a line" --append')
    found = recipe.find_experiment(run, where) if text is None else set_notes(run, where, text, append=append)
    if as_json:
        print_json({"id": found.record.id, "notes": found.record.notes})
    else:
        results().print(found.record.notes or f"{found.record.id} has no notes.", markup=False)


def reindex(
    output_dir: OutputDir = None, store: StoreUrl = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Rebuild the index of experiments and models from their folders.

    The folders are the truth and the database is only an index: a lost or damaged one is complete again after this.
    What the index remembers of folders of this machine that are gone is dropped.

    Example:

      dlgsum experiments reindex
    """
    from dlgsum.recipes import experiments as recipe
    from dlgsum.recipes.stored import find_place

    where = find_place(place(output_dir, store))
    with progress_bar("reading run folders") as progress:
        rebuilt = recipe.rebuild_index(where, progress=progress)
    if as_json:
        print_json(dataclasses.asdict(rebuilt))
    else:
        _show(rebuilt)


def _show(rebuilt: Rebuilt) -> None:
    console = results()
    for word, ids in (("added", rebuilt.added), ("updated", rebuilt.updated), ("dropped", rebuilt.dropped)):
        console.print(f"{word:<8} {len(ids)}{_some(ids)}", markup=False)
    new = f", {len(rebuilt.registered)} of them registered just now" if rebuilt.registered else ""
    console.print(f"models   {len(rebuilt.models)}{new}", markup=False)
    for text in rebuilt.notes:
        messages().print(f"note: {text}", style="yellow", markup=False)


def _some(ids: list[str], most: int = 5) -> str:
    if not ids:
        return ""
    return f": {', '.join(ids[:most])}" + (f" and {len(ids) - most} more" if len(ids) > most else "")
