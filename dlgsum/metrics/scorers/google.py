"""ROUGE exactly as the `rouge_score` library has it, for English."""

from __future__ import annotations

from collections.abc import Sequence

from dlgsum.metrics.scorer import Scorer


class Google(Scorer):
    """Keeps lower-cased ``a-z0-9`` only, without stemming; Hangul is dropped, so it says little about Korean.

    Equal to ``rouge_score.rouge_scorer.RougeScorer(use_stemmer=False)`` on NFC text. Korean text without
    Latin letters or digits has no units and scores 0 even against itself.
    """

    name = "google"

    def analyse(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the units of each text, cut by the library's own function."""
        from rouge_score.tokenize import tokenize

        return [tokenize(text, None) for text in texts]


PLUGIN = Google
