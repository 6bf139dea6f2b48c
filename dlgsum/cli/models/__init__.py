"""`dlgsum models`: every trained model, by name, version and alias."""

from __future__ import annotations

import typer

from dlgsum.cli.models import change, check, listing, show

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Find, compare, promote, verify and export trained models."""


app.command("list")(listing.list_)
app.command("best")(listing.best)
app.command("show")(show.show)
app.command("compare")(show.compare)
app.command("promote")(change.promote)
app.command("demote")(change.demote)
app.command("history")(change.history)
app.command("verify")(check.verify)
app.command("export")(check.export)
