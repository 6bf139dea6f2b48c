"""Named cleaning steps: each a pure function from text to text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

# Blanks as people see them; newlines are not among them.
_BLANK = " \t\x0b\x0c\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
# The zero-width joiners U+200C and U+200D stay: emoji families are built with them.
_INVISIBLE = "\u200b\u2060\ufeff"

_NEWLINES = re.compile(r"(?:\\r)?\\n|<br\s*/?>|\r\n|[\r\x85\u2028\u2029]", re.IGNORECASE)
_NEWLINE_SIGNS = "\\<\r\x85\u2028\u2029"
_BLANKS = re.compile(f"[{_BLANK}]+")
_ODD_BLANK = re.compile(f"[{_BLANK.removeprefix(' ')}]")
_ZERO_WIDTH = re.compile(f"[{_INVISIBLE}]+")

_TAG = re.compile(r"#[A-Za-z]+[0-9]*#")
# A `#` that closes a mark must not be the one that opens the next: `Person1 #Address#`.
_CLOSING = rf"\#(?![{_BLANK}]*Person|[A-Za-z]+[0-9]*\#)"
_MARKS = re.compile(
    rf"""
    (?P<whole>\#[A-Za-z]+[0-9]*\#)                          # a correct tag of any kind: left alone
    | (?<![A-Za-z0-9_@\#])                                  # C#Person1 is no mark
      \#[{_BLANK}]*Person[{_BLANK}]?(?P<opened>[0-9]{{1,2}})
      (?![A-Za-z0-9_@]|[.\-][A-Za-z0-9])
      (?:[{_BLANK}]*{_CLOSING})?
    | (?<![A-Za-z0-9_@\#/])(?<![A-Za-z0-9][.\-])            # SuperPerson1, a@Person1 and x.Person1 are words
      Person(?P<bare>[0-9]{{1,2}})
      (?![A-Za-z0-9_@]|[.\-][A-Za-z0-9])                    # and so are Person1@x, Person1.com and Person100
      (?:{_CLOSING})?
    """,
    re.VERBOSE,
)


def nfc(text: str) -> str:
    """Compose Unicode characters, so that Hangul typed as separate letters becomes syllables."""
    return unicodedata.normalize("NFC", text)


def newlines(text: str) -> str:
    r"""Turn a literal ``\n``, ``<br>`` in its spellings, and foreign line ends into newlines."""
    # Ten times as fast as searching, and most texts have none.
    return _NEWLINES.sub("\n", text) if any(sign in text for sign in _NEWLINE_SIGNS) else text


def tags(text: str) -> str:
    """Write malformed speaker marks (``Person1``, ``#Person1``, ``# Person1 #``) as ``#Person1#``.

    Correct tags are left alone, and so are words and addresses that only contain a mark.
    """
    marks = text.count("Person")
    # Nothing to do where each stands in a correct tag, which is how most texts are.
    if not marks or marks == "".join(_TAG.findall(text)).count("Person"):
        return text
    return _MARKS.sub(_whole_mark, text)


def _whole_mark(match: re.Match[str]) -> str:
    number = match["opened"] or match["bare"]
    return f"#Person{number}#" if number else match["whole"]


def blanks(text: str) -> str:
    """Make runs of blanks one space, and drop zero-width characters, blank lines and blanks at line ends."""
    if any(sign in text for sign in _INVISIBLE):
        text = _ZERO_WIDTH.sub("", text)
    # Putting a space in the place of every single space is most of the work where there is none to do.
    if "  " in text or _ODD_BLANK.search(text):
        text = _BLANKS.sub(" ", text)
    return "\n".join(line for line in (line.strip() for line in text.split("\n")) if line)


STEPS: dict[str, Callable[[str], str]] = {"nfc": nfc, "newlines": newlines, "tags": tags, "blanks": blanks}


def clean(text: str, steps: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """Apply cleaning steps in the order given, again and again until none changes the text.

    Cleaning a cleaned text therefore changes nothing, whatever the order. It ends, because every step only
    shortens the text, composes characters or adds whole tags, and none undoes another's work.

    Returns:
        The cleaned text, and the names of the steps that changed it, in the order given.

    Raises:
        KeyError: a step that does not exist.
    """
    steps = tuple(steps)
    changed: set[str] = set()
    while True:
        before = text
        for step in steps:
            cleaned = STEPS[step](text)
            if cleaned != text:
                changed.add(step)
                text = cleaned
        if text == before:
            return text, tuple(dict.fromkeys(step for step in steps if step in changed))
