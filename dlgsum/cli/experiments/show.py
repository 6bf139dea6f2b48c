"""`dlgsum experiments show`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dlgsum.cli.output import AsJson, Debug, OutputDir, Run, StoreUrl, place, print_json
from dlgsum.core.console import results

if TYPE_CHECKING:
    from dlgsum.recipes.experiments_show import Details


_WIDE = 160  # columns, however wide the terminal


def show(
    run: Run = "latest",
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show everything that is known of one experiment: what it is, its scores, curves, settings, samples and files.

    latest is the newest of all, whatever it has. Scores are from 0 to 1, as the filters of the list take them.

    Examples:

      dlgsum experiments show

      dlgsum experiments show 356b9f49 --json
    """
    from dlgsum.recipes import experiments_show as recipe
    from dlgsum.recipes.stored import find_place

    details = recipe.show(run, find_place(place(output_dir, store)))
    if as_json:
        print_json(_as_json(details))
        return
    from dlgsum.cli.experiments.cells import put
    from dlgsum.cli.experiments.show_view import sections

    width = min(results().width, _WIDE)
    for section in sections(details):
        put(section, width)


def _as_json(details: Details) -> dict[str, Any]:
    from dlgsum.recipes.experiments import as_plain

    rest = {it.name: getattr(details, it.name) for it in dataclasses.fields(details) if it.name not in ("found",)}
    record = as_plain(details.found.record)
    record["missing"] = details.found.run is None
    return record | {"details": {name: _plain(value) for name, value in rest.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
