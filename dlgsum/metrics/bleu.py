"""Corpus BLEU by sacreBLEU over the units of a scorer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from dlgsum.metrics.scorer import Scorer


def corpus_bleu(scorer: Scorer, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return BLEU from 0 to 100 over units joined by blanks, without sacreBLEU's own tokenizer.

    Several references go to sacreBLEU together; rows may have different numbers of them. Empty predictions
    count, by the brevity penalty; 0 when no prediction has units. Source: Papineni et al. (2002); smoothing
    ``exp`` as in Post (2018), sacreBLEU's default.

    Args:
        scorer: cuts the texts.
        predictions: one text a row, at least one row.
        references: one or more texts a row.
    """
    from sacrebleu.metrics.bleu import BLEU

    given = [_spaced(scorer, text) for text in predictions]
    expected = [[_spaced(scorer, text) for text in row] for row in references]
    # sacreBLEU wants one stream per reference position, with None where a row has fewer.
    streams = [list(stream) for stream in zip_longest(*expected)]
    # `force` silences its advice to detokenize: the units are meant to be cut already.
    return float(BLEU(tokenize="none", force=True).corpus_score(given, streams).score)


def _spaced(scorer: Scorer, text: str) -> str:
    # A unit may hold a blank (Kiwi knows a few compound words with one); inside BLEU it stays one unit.
    return " ".join("_".join(unit.split()) for unit in scorer.units(text))
