"""ROUGE over the morphemes that MeCab-ko finds, for numbers that are compared with other people's MeCab."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from dlgsum.core.optional import require
from dlgsum.metrics.korean import split_tags
from dlgsum.metrics.scorer import Scorer, Tokenize


class Mecab(Scorer):
    """Takes MeCab-ko's surface morphemes as units; contracted forms such as ``합니다`` stay whole.

    With ``protect_tags`` each tag is a unit and the text between tags is analysed piece by piece.

    Raises:
        EnvironmentProblem: the package ``python-mecab-ko`` is missing; it comes with ``dlgsum[mecab]``.
    """

    name = "mecab"
    protects_tags = True

    def __init__(self, *, protect_tags: bool = True, tokenize: Tokenize | None = None) -> None:
        super().__init__(protect_tags=protect_tags, tokenize=tokenize)
        # The inner module: a folder that happens to be called "mecab" would pass for the package itself.
        self._mecab = require("mecab.mecab", extra="mecab", purpose="metrics.scorer=mecab").MeCab()

    def analyse(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the morphemes of each text."""
        return [self._units_of(text) for text in texts]

    def _units_of(self, text: str) -> list[str]:
        units: list[str] = []
        for piece, is_tag in split_tags(text) if self.protect_tags else [(text, False)]:
            units += [piece] if is_tag else self._mecab.morphs(piece)
        return units

    def versions(self) -> tuple[str, ...]:
        """Return the versions of MeCab-ko, its dictionary and the arithmetic."""
        own = (f"mecab:{version('python-mecab-ko')}", f"dictionary:{version('python-mecab-ko-dic')}")
        return (*own, *super().versions())


PLUGIN = Mecab
