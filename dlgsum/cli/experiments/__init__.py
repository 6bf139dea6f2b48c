"""`dlgsum experiments`: every run that was ever started, found, compared and run again."""

from __future__ import annotations

import typer

from dlgsum.cli.experiments import compare, edit, listing, rerun, show

app = typer.Typer(no_args_is_help=True)
app.command("list")(listing.list_)
app.command("show")(show.show)
app.command("compare")(compare.compare)
app.command("tag")(edit.tag)
app.command("note")(edit.note)
app.command("reindex")(edit.reindex)
app.command("rerun")(rerun.rerun)
