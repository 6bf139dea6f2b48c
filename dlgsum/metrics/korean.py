"""What the scorers share about Korean text: normal form, speaker tags and word splitting."""

from __future__ import annotations

import re
import unicodedata

TAG = re.compile(r"#[A-Za-z]+\d*#")
"""A placeholder such as ``#Person1#`` or ``#PhoneNumber#``, without the josa glued to it."""

_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


def normalise(text: str) -> str:
    """Return ``text`` in Unicode normal form C.

    Hangul typed on macOS arrives decomposed (NFD) and would match no composed unit. A lone surrogate, which no
    encoder accepts, becomes U+FFFD. An empty text stays empty.
    """
    return unicodedata.normalize("NFC", _LONE_SURROGATES.sub("\ufffd", text))


def split_tags(text: str) -> list[tuple[str, bool]]:
    """Cut ``text`` into pieces in order, each with whether it is a tag.

    The pieces joined give the text again; pieces are never empty, so an empty text gives an empty list.
    """
    pieces: list[tuple[str, bool]] = []
    position = 0
    for match in TAG.finditer(text):
        if match.start() > position:
            pieces.append((text[position : match.start()], False))
        pieces.append((match.group(), True))
        position = match.end()
    if position < len(text):
        pieces.append((text[position:], False))
    return pieces


def words_without_punctuation(text: str) -> list[str]:
    """Return the lower-cased words of ``text``, cut at blanks and at Unicode punctuation, which is dropped.

    Punctuation is general category P; ``#`` is punctuation, ``~`` and ``+`` are symbols and stay. Text of
    punctuation only gives an empty list.
    """
    lowered = text.lower()
    return "".join(" " if unicodedata.category(char).startswith("P") else char for char in lowered).split()


def visible_length(text: str) -> int:
    """Return the number of characters that are not white space; 0 for an empty text."""
    return sum(not char.isspace() for char in text)
