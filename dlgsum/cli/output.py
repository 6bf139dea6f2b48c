"""What the commands share: options, tables, JSON, a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dlgsum.config.request import Request
from dlgsum.core.console import messages, results
from dlgsum.core.files import dumps

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="OVERRIDES", help="GROUP=NAME or SECTION.KEY=VALUE, such as training.learning_rate=3e-5."),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="YAML file laid over the defaults.")]
ConfigDir = Annotated[
    Path | None, typer.Option("--config-dir", metavar="DIR", help="Folder searched for configuration files first.")
]
Run = Annotated[str, typer.Argument(help="A run's id or unique prefix, latest, best, or the folder of a run or model.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Rows in a batch.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def request(overrides: Sequence[str] | None, file: Path | None, folder: Path | None) -> Request:
    """Return what the user asked the configuration to be."""
    return Request(overrides=list(overrides or []), file=file, config_dir=folder)


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    typer.echo(dumps(dict(content), indent=2))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> None:
    """Print a table on standard output; the first column is text, the others are numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", caption=caption or None, caption_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    results().print(table)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function ``(done, total)`` that moves a bar with rate and time left; silent when not a terminal."""
    console = messages()
    if not console.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn(description),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(description, total=None, rate="")

        def move(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate="" if speed is None else f"{speed:.1f}/s")

        yield move
