"""ROUGE over the model's own tokens."""

from __future__ import annotations

from collections.abc import Sequence

from dlgsum.core.errors import UsageError
from dlgsum.core.files import sha256_text
from dlgsum.metrics.scorer import Scorer, Tokenize

# Different vocabularies cut these differently, so the cuts tell tokenizers apart.
_PROBES = ("#Person1#은 #Person2#에게 내일 오후 2시 회의를 제안합니다.", "안녕하세요 반가워요 ㅋㅋ", "Summarization 🙂")


class Subword(Scorer):
    """Takes the units that the model's tokenizer gives; scores of different models are not comparable.

    The callable must add no special tokens, or every two texts would share them. The signature holds a
    fingerprint of how it cuts a few fixed texts.

    Raises:
        UsageError: no tokenizer was given.
    """

    name = "subword"

    def __init__(self, *, protect_tags: bool = True, tokenize: Tokenize | None = None) -> None:
        super().__init__(protect_tags=protect_tags, tokenize=tokenize)
        if tokenize is None:
            raise UsageError(
                "metrics.scorer=subword compares the model's own tokens and needs its tokenizer; none was given",
                "Choose metrics.scorer=kiwi, or score where a model is loaded.",
            )
        self._cut = tokenize

    def analyse(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the tokens of each text."""
        return [list(self._cut(text)) for text in texts]

    def versions(self) -> tuple[str, ...]:
        """Return the tokenizer's fingerprint and the version of the arithmetic."""
        tokens = [token for units in self.analyse(_PROBES) for token in units]
        return (f"tokenizer:{sha256_text(*tokens)[:8]}", *super().versions())


PLUGIN = Subword
