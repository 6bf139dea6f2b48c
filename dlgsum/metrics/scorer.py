"""The seam "scorers": cut two texts into units and compare them by ROUGE."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, ClassVar

from dlgsum.metrics.korean import normalise

Tokenize = Callable[[str], list[str]]

# References come back at every evaluation while predictions change, so the cache needs a bound, not a policy.
CACHE_LIMIT = 50_000


@dataclass(frozen=True, slots=True)
class RougeScores:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L, each from 0 to 1."""

    rouge1: float
    rouge2: float
    rougeL: float


NOTHING = RougeScores(0.0, 0.0, 0.0)


class Scorer(ABC):
    """Cuts texts into units and gives the ROUGE F1 of a prediction against one reference.

    To add a scorer, write ``dlgsum/metrics/scorers/<name>.py`` with a subclass and ``PLUGIN = <the class>``,
    implement :meth:`analyse`, and add to :meth:`versions` whatever changes its numbers. Every scorer, however
    made, is constructed with the same two keywords and keeps these promises, which
    ``tests/metrics/test_scorer_conformance.py`` checks:

    * scores are finite and within 0 to 1, and the same texts always give the same scores;
    * a text without units scores 0 on either side, two empty texts too: nothing was conveyed;
    * a text of two or more units scores 1 against itself (``pltrdy``: 0.999999995; ROUGE-2 of a single unit
      is 0, as in ``rouge_score``);
    * no text raises, whatever it consists of;
    * both sides are brought to NFC first;
    * importing the module and constructing the scorer load nothing slow.

    Scoring from several threads is safe: the cache of units only ever gains entries or is replaced as a whole.

    Args:
        protect_tags: keep ``#Person1#`` and the like as one unit; only morpheme scorers heed it.
        tokenize: the model's own tokenizer; only ``subword`` heeds it.
    """

    name: ClassVar[str]
    protects_tags: ClassVar[bool] = False
    """Whether the scorer heeds ``protect_tags``."""

    def __init__(self, *, protect_tags: bool = True, tokenize: Tokenize | None = None) -> None:
        self.protect_tags = protect_tags
        self._tokenize = tokenize
        self._known: dict[str, tuple[str, ...]] = {}

    @abstractmethod
    def analyse(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the units of each text; the texts are in NFC and none is blank."""

    def versions(self) -> tuple[str, ...]:
        """Return ``package:version`` for everything whose version can change the numbers."""
        return (f"rouge_score:{version('rouge_score')}",)

    def signature_parts(self) -> tuple[str, ...]:
        """Return the parts of the signature that this scorer decides, in a fixed order."""
        tags = (f"tags:{'protected' if self.protect_tags else 'plain'}",) if self.protects_tags else ()
        return (f"scorer:{self.name}", *tags, *self.versions())

    def prepare(self, texts: Iterable[str]) -> None:
        """Analyse all ``texts`` that are not known yet in one batch, which morpheme analysers do in parallel."""
        wanted = dict.fromkeys(normalise(text) for text in texts)
        new = [text for text in wanted if text not in self._known]
        if not new:
            return
        speaking = [text for text in new if text.strip()]
        analysed = dict(zip(speaking, self.analyse(speaking) if speaking else [], strict=True))
        if len(self._known) + len(new) > CACHE_LIMIT:
            self._known = {text: units for text, units in self._known.items() if text in wanted}
        self._known.update((text, tuple(analysed.get(text, ()))) for text in new)

    def units(self, text: str) -> list[str]:
        """Return the units that are compared; an empty list for a text without any."""
        key = normalise(text)
        found = self._known.get(key)
        if found is None:
            found = tuple(self.analyse([key])[0]) if key.strip() else ()
            self._known[key] = found
        return list(found)

    def score(self, reference: str, prediction: str) -> RougeScores:
        """Return the F1 of ROUGE-1, ROUGE-2 and sentence-level ROUGE-L, computed by ``rouge_score``.

        Each is from 0 to 1; 0 when either text has no units. ROUGE-2 is 0 when either has fewer than two.
        Source: Lin (2004), "ROUGE: a Package for Automatic Evaluation of Summaries".
        """
        scores = self._arithmetic.score(reference, prediction)
        return RougeScores(*(float(scores[kind].fmeasure) for kind in ("rouge1", "rouge2", "rougeL")))

    @cached_property
    def _arithmetic(self) -> Any:
        from rouge_score.rouge_scorer import RougeScorer  # brings nltk: 1 s, so only when the first text is scored

        return RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=_Units(self))


class _Units:
    """The tokenizer interface that ``rouge_score`` expects, over a scorer's cached units."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def tokenize(self, text: str) -> list[str]:
        return self._scorer.units(text)
