"""`dlgsum models list` and `best`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dlgsum.cli.completion.completers import METRICS
from dlgsum.cli.models.options import complete_alias, complete_model, moment, number, size_of
from dlgsum.cli.output import AsJson, Debug, OutputDir, StoreUrl, place, print_json
from dlgsum.core.console import messages, results

if TYPE_CHECKING:
    from dlgsum.recipes.models import ModelLine
    from dlgsum.tracking.registry import ModelRegistry


_LONGEST = 40  # letters of an id on a terminal


def _complete_metric(incomplete: str) -> list[str]:
    return [name for name in METRICS if name.startswith(incomplete)]


def list_(
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Only this one.", autocompletion=complete_model)
    ] = None,
    architecture: Annotated[
        str | None, typer.Option("--architecture", metavar="NAME", help="Only these, such as kobart.")
    ] = None,
    alias: Annotated[
        str | None,
        typer.Option("--alias", metavar="ALIAS", help="Only what it means.", autocompletion=complete_alias),
    ] = None,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the registered models, oldest first.

    A model is registered when its training completes. Scores of one scale were computed in the same way on the same
    rows; only those can be compared. Models whose files were deleted or changed stay in the list, which says so. A
    narrow terminal shows fewer columns; what is written to a pipe has all.

    Examples:

      dlgsum models list

      dlgsum models list --architecture kobart --json
    """
    from dlgsum.recipes import models

    registry = models.open_registry(place(output_dir, store))
    lines = models.list_models(registry, name=name, architecture=architecture, alias=alias)
    if as_json:
        print_json({"models": models.as_rows(lines)})
    elif lines:
        _print(lines, registry)
    elif name or architecture or alias:
        messages().print(f"no model in {registry.folder} fits", markup=False)
    else:
        messages().print(f"no model is registered in {registry.folder}", markup=False)


def best(
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="What decides.", autocompletion=_complete_metric)
    ] = "rouge_combined_f1",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many are shown.")] = 5,
    signature: Annotated[
        str | None,
        typer.Option("--signature", metavar="TEXT", help="Compare scores of this scale, signature, or part of one."),
    ] = None,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the models with the best scores of one metric, the best first.

    Only scores that were computed in the same way on the same rows are compared: where there are several kinds, the
    command says which, and --signature chooses one. A score that is NaN, or missing, never wins. Of equal scores the
    older model comes first. Models are not ranked by a metric of which it is not known whether larger is better.

    Examples:

      dlgsum models best

      dlgsum models best --metric rougeL_f1 --limit 3 --signature scorer:kiwi
    """
    from dlgsum.recipes import models

    registry = models.open_registry(place(output_dir, store))
    lines, left_out = models.best_models(registry, metric, limit, signature)
    if as_json:
        print_json({"metric": metric, "models": models.as_rows(lines), "left_out": left_out})
        return
    for line in left_out:
        messages().print(line, markup=False)
    if lines:
        _print(lines, registry)
    else:
        messages().print(f"no model in {registry.folder} has a score", markup=False)


def _short(line: ModelLine) -> str:
    """Return a model's id; of a long one the version stays, which its name is nothing without."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(line.id) <= _LONGEST:
        return line.id
    tail = f"…-v{line.version}"
    return set_cell_size(line.name, _LONGEST - len(tail)).rstrip() + tail


def _print(lines: Sequence[ModelLine], registry: ModelRegistry) -> None:
    from dlgsum.cli.columns import Column, print_columns
    from dlgsum.cli.experiments.cells import NOTHING, one_line, short_id
    from dlgsum.recipes.models import run_ids

    metrics = list(dict.fromkeys(line.metric for line in lines))
    alone, narrow = metrics[0] if len(metrics) == 1 else "", results().is_terminal
    scales = {(line.metric, line.scale) for line in lines if line.score is not None}
    runs = {*run_ids(registry), *(line.experiment_id for line in lines if line.experiment_id)}

    def score(line: ModelLine) -> str:
        return number(line.score) + ("" if alone or not line.metric else f" {line.metric}")

    def run(line: ModelLine) -> str:
        if line.experiment_id is None:
            return NOTHING
        return one_line(short_id(line.experiment_id, runs) if narrow else line.experiment_id)

    head = "combined" if narrow and alone == "rouge_combined_f1" else alone or "score"
    columns = [
        Column("model", [_short(line) if narrow else line.id for line in lines]),
        Column("aliases", [", ".join(line.aliases) or NOTHING for line in lines], least=10),
        Column(head, [score(line) for line in lines], numeric=bool(alone)),
        Column("scale", [f"{line.scorer or 'unknown'} {line.scale}" for line in lines], spared=3),
        Column("size", [size_of(line.size) for line in lines], numeric=True, spared=1),
        Column("registered", [moment(line.created) for line in lines], spared=2),
        Column("run", [run(line) for line in lines], spared=4),
        Column("files", [one_line(line.files_words) for line in lines], least=14),
    ]
    spared = print_columns(columns)
    notes = [f"no room here for {', '.join(spared)}: a pipe, or --json, shows all"] if spared else []
    if len(scales) > 1:
        what = "are on different scales, or of different metrics" if len(metrics) > 1 else "are on different scales"
        notes.append(f"The scores {what}; only those of one scale can be compared.")
    for note in notes:
        messages().print(note, style="dim", markup=False)
