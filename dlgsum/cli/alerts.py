"""`dlgsum alerts`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from dlgsum.cli.output import AsJson, ConfigDir, ConfigFile, Debug, Overrides, print_json, request
from dlgsum.core.console import results

if TYPE_CHECKING:
    from dlgsum.recipes.alerts import Tried

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Try who is told of trouble."""


@app.command()
def test(
    overrides: Overrides = None,
    config: ConfigFile = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Send a message to every address that alerts go to, and say what came back.

    Exit code 0 when all were delivered, 4 when one was not, 2 when no address is set.

    Examples:

      SLACK_WEBHOOK_URL=https://hooks.slack.com/services/… dlgsum alerts test

      dlgsum alerts test 'monitoring.alerts.urls=[json://localhost:8000/alerts]'
    """
    from dlgsum.recipes import alerts as recipe

    tried = recipe.try_all(request(overrides, config, config_dir), lambda one: None if as_json else _show(one))
    delivered = all(one.delivered for one in tried)
    if as_json:
        print_json({"delivered": delivered, "targets": [dataclasses.asdict(one) for one in tried]})
    if not delivered:
        raise typer.Exit(4)


def _show(one: Tried) -> None:
    text = f"{one.target}: {one.detail} ({one.seconds:.1f} s)"
    results().print(text, style="green" if one.delivered else "red", markup=False)
