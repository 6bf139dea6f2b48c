"""ROUGE over characters, which needs no analyser and forgives josa."""

from __future__ import annotations

from collections.abc import Sequence

from dlgsum.metrics.scorer import Scorer


class Char(Scorer):
    """Takes every character that is not white space, punctuation included, as a unit; case counts."""

    name = "char"

    def analyse(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the characters of each text."""
        return [list("".join(text.split())) for text in texts]


PLUGIN = Char
