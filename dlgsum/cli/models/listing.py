"""`dlgsum models list` and `best`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dlgsum.cli.completion.completers import METRICS
from dlgsum.cli.models.options import complete_alias, complete_model, moment, number, size_of
from dlgsum.cli.output import AsJson, Debug, OutputDir, StoreUrl, place, print_json, print_table
from dlgsum.core.console import messages

if TYPE_CHECKING:
    from dlgsum.recipes.models import ModelLine


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
    rows; only those can be compared. Models whose files were deleted or changed stay in the list, which says so.

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
        _print(lines)
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
    older model comes first.

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
        _print(lines)
    else:
        messages().print(f"no model in {registry.folder} has a score", markup=False)


def _print(lines: Sequence[ModelLine]) -> None:
    metrics = list(dict.fromkeys(line.metric for line in lines))
    alone = metrics[0] if len(metrics) == 1 else ""
    rows = [
        [
            line.name, str(line.version), ", ".join(line.aliases) or "–",
            number(line.score) + ("" if alone or not line.metric else f" {line.metric}"),
            f"{line.scorer or 'unknown'} {line.scale}", size_of(line.size), moment(line.created),
            line.experiment_id or "–", line.files_words,
        ]
        for line in lines
    ]  # fmt: skip
    columns = ["model", "version", "aliases", alone or "score", "scale", "size", "registered", "run", "files"]
    print_table("", columns, rows, caption="Only scores of one scale can be compared.", justify="left")
