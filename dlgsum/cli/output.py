"""What the commands share: options, tables, JSON, a progress bar."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dlgsum.cli.completion.completers import complete_folder, complete_override, complete_run, complete_yaml
from dlgsum.config.request import Request
from dlgsum.core.console import messages, results
from dlgsum.core.errors import UsageError
from dlgsum.core.files import dumps

if TYPE_CHECKING:
    from dlgsum.recipes.checks import Check

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="OVERRIDES",
        help="GROUP=NAME or SECTION.KEY=VALUE, such as training.learning_rate=3e-5.",
        autocompletion=complete_override,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file laid over the defaults.", autocompletion=complete_yaml),
]
ConfigDir = Annotated[
    Path | None,
    typer.Option(
        "--config-dir",
        metavar="DIR",
        help="Folder searched for configuration files first.",
        autocompletion=complete_folder,
    ),
]
Run = Annotated[
    str,
    typer.Argument(
        help="A run's id or unique prefix, latest, best, or the folder of a run or model.",
        autocompletion=complete_run,
    ),
]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir", metavar="DIR", help="Folder of all results (OUTPUT_DIR).", autocompletion=complete_folder
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Database of experiments and models (DLGSUM_STORE)."),
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Rows in a batch.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


_NUMBER = r"\d+(?:\.\d+)?"
_TIME = re.compile(rf"(?=\d)(?:(?P<d>{_NUMBER})d)?(?:(?P<h>{_NUMBER})h)?(?:(?P<m>{_NUMBER})m)?(?:(?P<s>{_NUMBER})s?)?")


def request(overrides: Sequence[str] | None, file: Path | None, folder: Path | None) -> Request:
    """Return what the user asked the configuration to be."""
    return Request(overrides=list(overrides or []), file=file, config_dir=folder)


def place(output_dir: Path | None, store: str | None = None) -> Request:
    """Return the request for the configuration that says where experiments and models are found."""
    from dlgsum.config.overrides import override_value  # Hydra's grammar: not at every TAB

    given = {"general.output_dir": None if output_dir is None else str(output_dir), "tracking.store": store}
    return Request(overrides=[f"{key}={override_value(value)}" for key, value in given.items() if value is not None])


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    typer.echo(dumps(dict(content), indent=2))


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str = "",
    justify: Literal["left", "right"] = "right",
) -> None:
    """Print a table on standard output; the first column is text, and ``justify`` says where the others stand."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", caption=caption or None, caption_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    results().print(table)


def show_check(check: Check) -> None:
    """Print a check on standard error as soon as it is done: how it went, what was found, how long it took."""
    from rich.text import Text

    style = {"ok": "green", "warning": "yellow", "failed": "red"}[check.status]
    took = f" ({check.seconds:.1f} s)" if check.seconds >= 0.05 else ""
    indented = "\n".ljust(1 + 8 + 30)
    text = f"{check.name:<30}{indented.join(check.details)}{took}"
    messages().print(Text.assemble((f"{check.status:<8}", style), text))


def seconds(text: str) -> float:
    """Return the seconds of a time such as 90, 90s, 45m, 2h, 1h30m or 01:30:00.

    Raises:
        UsageError: it is no time, or not above zero.
    """
    parts = _TIME.fullmatch(text.strip().lower())
    total = sum(
        float(parts[name] or 0) * size for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    ) if parts else 0.0  # fmt: skip
    clock = re.fullmatch(r"(?:(\d+):)?(\d{1,2}):(\d{2})", text.strip())
    if clock:
        total = int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + int(clock[3])
    if total <= 0:
        raise UsageError(f"'{text}' is no time limit", "Write it as 90s, 45m, 2h, 1h30m or 01:30:00.")
    return total


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
