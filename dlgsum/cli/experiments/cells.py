"""How what is known of an experiment is written for people: times, numbers, names, and its status in colour."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import datetime
from typing import Any

import typer
from rich.console import RenderableType
from rich.text import Text

from dlgsum.core.console import results
from dlgsum.core.text import duration
from dlgsum.tracking.run import is_beginning

NOTHING = "–"
_STYLES = {"running": "cyan", "completed": "green", "interrupted": "yellow", "pruned": "yellow"}  # others: red
_SHORTEST = 6  # letters of an id that is shown without its time


def put(content: RenderableType, width: int) -> None:
    """Print on standard output what is set in so many columns, without blanks at the ends of the lines in a pipe."""
    console = results()
    if console.is_terminal:
        console.print(content, soft_wrap=False, crop=False, width=width)
        return
    with console.capture() as captured:
        console.print(content, soft_wrap=False, crop=False, width=width)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def one_line(text: str) -> str:
    """Return a text of one row; control characters of whoever wrote it have no say on a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def moment(value: datetime | None, *, now: datetime | None = None) -> str:
    """Return a time as the clock here showed it, without the year where it is this one."""
    if value is None:
        return NOTHING
    local, today = value.astimezone(), (now or datetime.now()).astimezone()
    return f"{local:%m-%d %H:%M}" if local.year == today.year else f"{local:%Y-%m-%d %H:%M}"


def number(value: float | None) -> str:
    """Return a number with four places; whole ones, and large or tiny ones, as they are."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.4g}"


def status(word: str, *, missing: bool = False) -> Text:
    """Return a status, coloured; ``missing``: the folder is gone."""
    return Text(f"{word}, gone" if missing else word, style=_STYLES.get(word, "red"))


def span(seconds: float | None) -> str:
    """Return how long something took."""
    return NOTHING if seconds is None else duration(seconds)


def plain(value: Any) -> str:
    """Return any value on one row."""
    if value is None or value in ("", []):
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, list):
        return one_line(", ".join(map(str, value)))
    # Settings are shown as they were written: 3e-05 and not 0.0000.
    return one_line(f"{value:.6g}" if isinstance(value, float) else str(value))


def short_id(run_id: str, ids: Collection[str]) -> str:
    """Return the part of an id behind its time, by which commands find the run; the whole id where others fit too."""
    tail = run_id.partition("_")[2].partition("_")[2]
    alone = not any(it != run_id and is_beginning(tail, it) for it in ids)
    return tail if len(tail) >= _SHORTEST and alone else run_id
