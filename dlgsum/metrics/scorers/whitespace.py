"""ROUGE over words cut at blanks, the same cut as the `rouge` package without its arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from dlgsum.metrics.scorer import Scorer


class Whitespace(Scorer):
    """Cuts at white space and keeps punctuation and case: a josa or a full stop makes another word."""

    name = "whitespace"

    def analyse(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the words of each text."""
        return [text.split() for text in texts]


PLUGIN = Whitespace
