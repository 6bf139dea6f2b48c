"""Explaining a CSV row whose quotes do not match: where the quote was opened, and where it went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlgsum.core.errors import DataError

_HINT = 'Put text with commas, quotes or newlines in "double quotes", and double each quote inside it.'
_SHOWN = 20  # characters


def broken_quoting(path: Path, lines: Sequence[str], begun: int, delimiter: str, problem: str) -> DataError:
    """Return the error for a row that the CSV reader refused.

    Args:
        lines: what the reader took of the row.
        begun: number of the first of them.
        problem: the reader's own words, for what is not about quotes.
    """
    opened, closed, rest = _follow(lines, begun, delimiter)
    where = f"{path} has broken quoting in the row that begins on line {begun:,}"
    if not opened:
        return DataError(f"{where}: {problem}.", _HINT)
    if not closed:
        return DataError(
            f"{where}: the quote opened on line {opened:,} is never closed, so all that follows belongs to it.",
            f"Close it at the end of its cell. {_HINT}",
        )
    wanted = "a tab" if delimiter == "\t" else f"{delimiter!r}"
    message = f"{where}: the quote opened on line {opened:,} is closed on line {closed:,} before {rest!r}"
    guess = f"Most likely the cell that begins on line {opened:,} lacks its closing quote. " if closed > opened else ""
    return DataError(f"{message}, where {wanted} or the end of the line must follow.", f"{guess}{_HINT}")


def _follow(lines: Sequence[str], first: int, delimiter: str) -> tuple[int, int, str]:
    """Return on which lines the last quote was opened and closed, 0 for never, and what wrongly follows it."""
    opened = closed = 0
    inside, at_start = False, True
    for number, line in enumerate(lines, start=first):
        place = 0
        while place < len(line):
            letter = line[place]
            if inside:
                place = line.find('"', place)
                if place < 0:
                    break
                if line[place + 1 : place + 2] == '"':
                    place += 2
                    continue
                inside, closed = False, number
                rest = line[place + 1 :]
                if rest and rest[0] not in (delimiter, "\r", "\n"):
                    return opened, closed, rest[:_SHOWN].rstrip("\r\n")
            elif letter == '"' and at_start:
                inside, opened, closed = True, number, 0
            at_start = not inside and letter in (delimiter, "\r", "\n")
            place += 1
    return (opened, 0, "") if inside else (0, 0, "")
