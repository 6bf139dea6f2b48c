"""What a terminal is sent, turned into lines."""

from __future__ import annotations

import re

_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")
# What moves the cursor is a piece of its own; other control sequences are passed over.
_PIECES = re.compile(rf"\n|\r|\x1b\[(?P<up>\d*)A|{_SEQUENCE.pattern}|[^\n\r\x1b]+|\x1b")


class Screen:
    """Turns what is drawn on a terminal into lines: of a bar that is redrawn, only the last state remains.

    Understands carriage returns and cursor-up, which is what bars use, one below the other too; blank lines are
    dropped. A single bar is given out when its line ends. Of several bars, whose lines end at each redrawing, as many
    rows are held back as may still be redrawn.
    """

    def __init__(self) -> None:
        self._rows = [""]
        self._at = 0
        self._height = 1  # rows that are redrawn together
        self._redrawn = False  # the next text takes the place of the row's

    @property
    def holds_back(self) -> bool:
        """Whether lines that ended are held back."""
        return self._height > 1

    def feed(self, text: str) -> list[str]:
        """Draw ``text``; return the lines that this finished."""
        done: list[str] = []
        for piece in _PIECES.finditer(text):
            drawn = piece[0]
            if drawn == "\n":
                done += self._end_line()
            elif drawn == "\r":
                self._redrawn = True
            elif piece["up"] is not None:
                done += self._up(int(piece["up"] or 1))
            elif not drawn.startswith("\x1b"):
                self._rows[self._at] = drawn if self._redrawn else self._rows[self._at] + drawn
                self._redrawn = False
        return _not_blank(done)

    def _up(self, rows: int) -> list[str]:
        self._height = max(self._height, rows + 1)
        self._redrawn = True
        top = max(0, self._at - rows)
        above, self._rows, self._at = self._rows[:top], self._rows[top:], 0
        return above

    def _end_line(self) -> list[str]:
        self._at += 1
        self._redrawn = self._at < len(self._rows)
        if not self._redrawn:
            self._rows.append("")
        over = len(self._rows) - self._height
        if over <= 0:
            return []
        above, self._rows, self._at = self._rows[:over], self._rows[over:], self._at - over
        return above

    def rest(self) -> list[str]:
        """Return the lines that are held back or still open, and forget them."""
        rows = self._rows
        self._rows, self._at, self._height, self._redrawn = [""], 0, 1, False
        return _not_blank(rows)


def _not_blank(lines: list[str]) -> list[str]:
    return [line.rstrip() for line in lines if line.strip()]


def colourless(text: str) -> str:
    """Return ``text`` without colours; what moves the cursor stays."""
    return _COLOURS.sub("", text)


def plain(text: str) -> str:
    """Return ``text`` without any control sequence."""
    return _SEQUENCE.sub("", text)
