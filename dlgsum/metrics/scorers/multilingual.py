"""ROUGE over words of any script, without punctuation."""

from __future__ import annotations

from collections.abc import Sequence

from dlgsum.metrics.korean import words_without_punctuation
from dlgsum.metrics.scorer import Scorer


class Multilingual(Scorer):
    """Lower-cases and cuts at white space and Unicode punctuation, which it drops, ``#`` included."""

    name = "multilingual"

    def analyse(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the words of each text."""
        return [words_without_punctuation(text) for text in texts]


PLUGIN = Multilingual
