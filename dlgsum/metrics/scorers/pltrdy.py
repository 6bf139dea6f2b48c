"""ROUGE with the arithmetic of the `rouge` package 1.0.1, the one many Korean baselines report."""

from __future__ import annotations

from collections.abc import Sequence

from dlgsum.metrics.korean import normalise
from dlgsum.metrics.scorer import NOTHING, RougeScores, Scorer

Words = list[str]


class Pltrdy(Scorer):
    """Compares SETS of word n-grams, with sentences cut at every full stop and a union LCS over sentences.

    Reproduces the package's numbers (``exclusive=True``, its default) to 1e-8, oddities included: repeated
    n-grams count once, a text scores 0.999999995 against itself, a blank sentence counts as an empty word,
    and ROUGE-L depends on which of several longest subsequences is read out. It differs in one thing: a text
    without any word, such as the empty one or ``.``, gives 0, where the package raises ``ValueError`` or, for
    blanks, compares empty words.
    """

    name = "pltrdy"

    def analyse(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the words of each text, for BLEU and coverage; the scores are computed from sentences."""
        return [[word for sentence in _sentences(text) for word in sentence if word] for text in texts]

    def versions(self) -> tuple[str, ...]:
        """Return the package whose arithmetic is followed."""
        return ("arithmetic:rouge-1.0.1",)

    def score(self, reference: str, prediction: str) -> RougeScores:
        """Return the F1 of ROUGE-1, ROUGE-2 and summary-level ROUGE-L as the package computes them."""
        if not (self.units(reference) and self.units(prediction)):
            return NOTHING
        expected, given = _sentences(normalise(reference)), _sentences(normalise(prediction))
        return RougeScores(_ngram_f1(expected, given, 1), _ngram_f1(expected, given, 2), _lcs_f1(expected, given))


def _sentences(text: str) -> list[Words]:
    # `or [""]`: the package splits the blank sentence by " ", which gives one empty word.
    return [sentence.split() or [""] for sentence in text.split(".") if sentence]


def _ngram_f1(expected: list[Words], given: list[Words], size: int) -> float:
    left, right = (_ngrams([word for words in side for word in words], size) for side in (expected, given))
    return _f1(len(left & right), len(left), len(right))


def _ngrams(words: Words, size: int) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def _lcs_f1(expected: list[Words], given: list[Words]) -> float:
    shared = {word for left in expected for right in given for word in _lcs_words(left, right)}
    return _f1(len(shared), len(set().union(*expected)), len(set().union(*given)))


def _lcs_words(left: Words, right: Words) -> set[str]:
    """Return the words of one longest common subsequence; among several, the one that the package reads out."""
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, word in enumerate(left, 1):
        for j, other in enumerate(right, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if word == other else max(table[i - 1][j], table[i][j - 1])
    found: set[str] = set()
    i, j = len(left), len(right)
    while i and j:
        if left[i - 1] == right[j - 1]:
            found.add(left[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found


def _f1(overlap: int, expected: int, given: int) -> float:
    precision = overlap / given if given else 0.0
    recall = overlap / expected if expected else 0.0
    return 2.0 * (precision * recall / (precision + recall + 1e-8))  # the package's guard against 0/0


PLUGIN = Pltrdy
