"""A table without a frame, which leaves out columns where a terminal is too narrow for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dlgsum.core.console import results

_GAP = 2


@dataclass(frozen=True)
class Column:
    """A column of texts of one row each.

    Attributes:
        numeric: whether it is set to the right.
        least: what must be left of it where it is cut short, in columns of the terminal; None: it is never cut.
        spared: its place among those that are left out, from 1; 0: it never is.
    """

    head: str
    cells: Sequence[str]
    numeric: bool = False
    least: int | None = None
    spared: int = 0

    @property
    def room(self) -> int:
        """The width of the widest cell; a Hangul syllable takes two."""
        from rich.cells import cell_len

        return max(map(cell_len, (self.head, *self.cells)))

    @property
    def needed(self) -> int:
        """The width that it must have."""
        return self.room if self.least is None else min(self.room, self.least)


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """Return the columns that so many columns of a terminal have room for, and the heads of the others."""
    kept, spared = list(columns), []
    for column in sorted((it for it in columns if it.spared), key=lambda it: it.spared):
        if sum(it.needed + _GAP for it in kept) <= width:
            break
        kept.remove(column)
        spared.append(column.head)
    return kept, spared


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """Return the width of each column; what is too much is cut from those that need least first."""
    excess = sum(it.room + _GAP for it in columns) - width
    widths = [it.room for it in columns]
    for index in sorted(range(len(columns)), key=lambda index: columns[index].needed):
        cut = max(0, min(excess, widths[index] - columns[index].needed))
        widths[index] -= cut
        excess -= cut
    return widths


def print_columns(columns: Sequence[Column]) -> list[str]:
    """Print a table on standard output; return the heads of the columns that a terminal has no room for.

    What is written to a pipe is as wide as it needs to be, and has all of them.
    """
    from rich.table import Table
    from rich.text import Text

    from dlgsum.cli.experiments.cells import put

    console = results()
    width = console.width if console.is_terminal else sum(it.room + _GAP for it in columns)
    kept, spared = fit(columns, width)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for column, size in zip(kept, _widths(kept, width), strict=True):
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(column.head, justify=justify, no_wrap=True, overflow="ellipsis", width=size)
    for row in zip(*(it.cells for it in kept), strict=True):
        table.add_row(*map(Text, row))
    put(table, width)
    return spared
