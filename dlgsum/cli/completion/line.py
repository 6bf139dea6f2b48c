"""Words as shells write them: quotes, backslashes, and the pieces into which bash cuts a word."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_UNSAFE = re.compile(r"([^\w@%+=:,./~-])")


@dataclass
class Line:
    """A command line up to the cursor.

    Attributes:
        words: the finished words, without their quotes.
        word: the word at the cursor, without its quotes.
        cut: where in ``word`` the piece begins that bash takes for the word, and will replace.
        piece: that piece as it was typed.
        quote: the quote that is still open at the cursor, or nothing.
    """

    words: list[str] = field(default_factory=list)
    word: str = ""
    cut: int = 0
    piece: str = ""
    quote: str = ""


def read_line(text: str, breaks: str = "") -> Line:
    """Cut a command line into words.

    Args:
        text: the line up to the cursor.
        breaks: the characters at which bash begins a new piece, besides blanks and quotes: ``=`` and ``:``.
    """
    line = Line()
    started = escaped = False
    for char in text:
        if char in " \t\n" and not line.quote and not escaped:
            if started:
                line.words.append(line.word)
            line.word, line.piece, line.cut, started = "", "", 0, False
            continue
        started = True
        line.piece += char
        if escaped:
            line.word += f"\\{char}" if line.quote == '"' and char not in '"\\$`' else char
            escaped = False
        elif char == "\\" and line.quote != "'":
            escaped = True
        elif char == line.quote:
            line.quote = ""
        elif char in "'\"" and not line.quote:
            line.quote, line.cut, line.piece = char, len(line.word), ""
        else:
            line.word += char
            if char in breaks and not line.quote:
                line.cut, line.piece = len(line.word), ""
    return line


def escape(text: str) -> str:
    """Return text with a backslash before everything that bash would not take literally."""
    return _UNSAFE.sub(r"\\\1", text)
