"""What the commands on models share."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

Candidate = tuple[str, str]

MODEL_HELP: Final = "A model's NAME, NAME@3 or alias, such as champion; or the run that trained it, latest, best."


def complete_model(ctx: typer.Context, incomplete: str) -> list[Candidate]:
    """Complete the name or the alias of a model, with or without ``models:`` in front."""
    from dlgsum.tracking.registry.names import PREFIX, model_names

    folder = ctx.params.get("output_dir") or os.environ.get("OUTPUT_DIR") or "outputs"
    head = PREFIX if incomplete.startswith(PREFIX) else ""
    names = [(head + name, words) for name, words in model_names(Path(str(folder)))]
    return [(name, words) for name, words in names if name.startswith(incomplete)]


def complete_alias(ctx: typer.Context, incomplete: str) -> list[Candidate]:
    """Complete an alias that is there, or one of the usual ones."""
    there = [(name, words) for name, words in complete_model(ctx, incomplete) if words.startswith("means ")]
    usual = [(name, "") for name in ("champion", "challenger") if name.startswith(incomplete)]
    return [*there, *(it for it in usual if it[0] not in dict(there))]


Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, autocompletion=complete_model)]
Models = Annotated[list[str], typer.Argument(metavar="MODEL...", help=MODEL_HELP, autocompletion=complete_model)]


def size_of(size: int) -> str:
    """Return a size as people read it: 416 B, 318 kB, 14.1 MB."""
    return f"{size} B" if size < 1e3 else f"{size / 1e3:.0f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"


def moment(time: datetime) -> str:
    """Return a time of this place, to the minute."""
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


def number(value: float | None) -> str:
    """Return a metric to four places; a dash for none."""
    return "–" if value is None else f"{value:.4f}"
