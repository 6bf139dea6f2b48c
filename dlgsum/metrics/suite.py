"""Score predictions with everything that `metrics` in the configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlgsum.config.schema import Metrics
from dlgsum.core import plugins
from dlgsum.core.errors import ConfigError, nearest
from dlgsum.metrics.bleu import corpus_bleu
from dlgsum.metrics.extras import ExtraMetric, extra_name
from dlgsum.metrics.korean import TAG, normalise, visible_length
from dlgsum.metrics.scorer import Scorer, Tokenize
from dlgsum.metrics.signature import count_references, describe

ROUGE = ("rouge1_f1", "rouge2_f1", "rougeL_f1")
COMBINED = "rouge_combined_f1"
HEALTH = ("pred_chars", "empty_share", "distinct_share")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """Scores of one set of predictions.

    Attributes:
        metrics: metric name to its value over all rows: F1 and shares from 0 to 1, ``bleu`` from 0 to 100,
            ``pred_chars`` in characters.
        rows: ROUGE metric name to one value a row, shape (rows,), for intervals and comparisons.
        signature: how the ROUGE values came about; only results with the same signature compare.
    """

    metrics: dict[str, float]
    rows: dict[str, Floats]
    signature: str


def known_metric_names(settings: Metrics) -> tuple[str, ...]:
    """Return the metric names that the settings promise, importing nothing heavy.

    An extra metric stands under its short name; its values may be called ``<name>_<key>``.
    """
    extras = dict.fromkeys(extra_name(path) for path in settings.extra)
    return tuple(dict.fromkeys((*_own_names(settings), *extras)))


def settings_problems(settings: Metrics, *, other_names: Sequence[str] = ()) -> list[str]:
    """Return what is wrong with the settings, one sentence a problem, importing nothing heavy.

    Args:
        settings: the section ``metrics``.
        other_names: metrics that others produce and that ``metrics.best`` may name, such as ``loss``.
    """
    problems = []
    if settings.scorer not in plugins.names("scorers"):
        known = plugins.names("scorers")
        problems.append(f"metrics.scorer={settings.scorer}: must be one of {', '.join(known)}")
        problems[-1] += _guess(settings.scorer, known)
    weights = settings.weights
    if weights.rouge1 + weights.rouge2 + weights.rougeL == 0:
        problems.append("metrics.weights are all 0; at least one must be positive")
    short = [extra_name(path) for path in settings.extra]
    problems += [
        f"metrics.extra names '{name}' more than once; their values would share a name"
        for name in sorted({name for name in short if short.count(name) > 1})
    ]
    if not _may_exist(settings.best, settings) and settings.best not in other_names:
        known = (*known_metric_names(settings), *other_names)
        problems.append(f"metrics.best={settings.best}: no such metric among {', '.join(known)}")
        problems[-1] += _guess(settings.best, known)
    return problems


class MetricSuite:
    """Computes every metric of the settings; analysers and libraries load when the first text is scored.

    Args:
        settings: the section ``metrics``.
        subword_tokenize: the model's tokenizer, needed by the scorer ``subword`` only.
        other_names: metrics that others produce and that ``metrics.best`` may name, such as ``loss``.

    Raises:
        ConfigError: unknown scorer or best metric, all weights 0, or an extra metric named twice.
        EnvironmentProblem: the scorer needs a package that is missing.
        UsageError: the scorer ``subword`` has no tokenizer.
    """

    def __init__(
        self,
        settings: Metrics,
        *,
        subword_tokenize: Tokenize | None = None,
        other_names: Sequence[str] = (),
    ) -> None:
        problems = settings_problems(settings, other_names=other_names)
        if problems:
            raise ConfigError(problems)
        self.settings = settings
        plugin = plugins.load("scorers", settings.scorer)
        self.scorer: Scorer = plugin(protect_tags=settings.protect_tags, tokenize=subword_tokenize)
        own = _own_names(settings)
        self._extras = [ExtraMetric(path, reserved=own) for path in settings.extra]
        self._best_is_extra = settings.best not in (*own, *other_names)

    @property
    def names(self) -> tuple[str, ...]:
        """The metric names it promises, as :func:`known_metric_names`."""
        return known_metric_names(self.settings)

    @property
    def signature(self) -> str:
        """How the ROUGE values come about; that of a result also holds the number of references."""
        return describe(self.scorer, self.settings)

    def score(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> SuiteResult:
        """Return all metrics of ``predictions``.

        A row's ROUGE with several references is their mean, or with ``metrics.references=max`` the best of
        each ROUGE type on its own, and its combined score is the weighted mean of the three. Metrics are
        means over rows. Empty predictions score 0 and count.

        Args:
            predictions: one text a row.
            references: one or more texts a row.

        Raises:
            ValueError: no rows, different numbers of rows, a row without references, or a bare text for one.
            ConfigError: ``metrics.best`` names a value that the extra metric turned out not to produce.
            EnvironmentProblem: an extra metric cannot be loaded.
            UsageError: an extra metric does not fit these texts.
        """
        rows = self._rouge_rows(predictions, references)
        metrics = {name: float(values.mean()) for name, values in rows.items()}
        if self.settings.bleu:
            metrics["bleu"] = corpus_bleu(self.scorer, predictions, references)
        metrics |= _health(predictions)
        for extra in self._extras:
            metrics |= extra.compute(predictions, references)
        if self._best_is_extra and self.settings.best not in metrics:
            found = f"metrics.best={self.settings.best}: metrics.extra produced only {', '.join(metrics)}"
            raise ConfigError([found + _guess(self.settings.best, metrics)])
        return SuiteResult(metrics, rows, describe(self.scorer, self.settings, count_references(references)))

    def rouge(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the ROUGE metrics alone, as :meth:`score` has them; raises as it does for unfit rows."""
        return {name: float(values.mean()) for name, values in self._rouge_rows(predictions, references).items()}

    def coverage_warning(self, texts: Sequence[str]) -> str | None:
        """Return a warning when the scorer drops more than half of the visible characters of ``texts``.

        ROUGE then says little, however high it is; None otherwise and without visible characters. A text
        counts as covered by the characters of its units, at most all of it: morphemes may be longer than
        what they stand for.
        """
        # Tags are left out: a scorer that sees nothing but #Person1# would pass on short summaries full of them.
        untagged = [TAG.sub(" ", normalise(text)) for text in texts]
        self.scorer.prepare(untagged)
        visible = covered = 0
        for text in untagged:
            length = visible_length(text)
            visible += length
            covered += min(length, sum(visible_length(unit) for unit in self.scorer.units(text)))
        if not visible or covered * 2 >= visible:
            return None
        return (
            f"The scorer '{self.scorer.name}' ignores {1 - covered / visible:.0%} of the characters of these texts, "
            "so its scores say little about them: a constant sentence can score high. "
            "For Korean choose metrics.scorer=kiwi, or multilingual or char."
        )

    def _rouge_rows(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Floats]:
        _check_rows(predictions, references)
        self.scorer.prepare([*predictions, *(text for row in references for text in row)])
        table = np.empty((len(predictions), len(ROUGE)))
        for index, (prediction, row) in enumerate(zip(predictions, references, strict=True)):
            scores = [self.scorer.score(reference, prediction) for reference in row]
            each = np.array([(score.rouge1, score.rouge2, score.rougeL) for score in scores])
            table[index] = each.max(axis=0) if self.settings.references == "max" else each.mean(axis=0)
        columns = {name: table[:, position].copy() for position, name in enumerate(ROUGE)}
        chosen = self.settings.weights
        weights = np.array([chosen.rouge1, chosen.rouge2, chosen.rougeL])
        # Divided at the end: weights normalised first may sum to a hair beside 1, and a perfect row must score 1.
        return columns | {COMBINED: (table * weights).sum(axis=1) / weights.sum()}


def _own_names(settings: Metrics) -> tuple[str, ...]:
    return (*ROUGE, COMBINED, *(("bleu",) if settings.bleu else ()), *HEALTH)


def _may_exist(name: str, settings: Metrics) -> bool:
    extras = [extra_name(path) for path in settings.extra]
    return name in _own_names(settings) or any(name == extra or name.startswith(f"{extra}_") for extra in extras)


def _guess(word: str, candidates: Sequence[str] | dict[str, float]) -> str:
    guess = nearest(word, candidates)
    return f"; did you mean {guess}?" if guess else ""


def _check_rows(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions but {len(references)} rows of references")
    if not predictions:
        raise ValueError("There is nothing to score: no predictions were given")
    for index, row in enumerate(references):
        if isinstance(row, str):
            raise ValueError(f"references[{index}] is a text; it must be a list of the row's references")
        if not row:
            raise ValueError(f"references[{index}] is empty; each row needs at least one reference")


def _health(predictions: Sequence[str]) -> dict[str, float]:
    """Return what shows a broken model at a glance: mean length, and shares of empty and distinct texts."""
    texts = [normalise(text).strip() for text in predictions]
    return {
        "pred_chars": sum(map(len, texts)) / len(texts),
        "empty_share": sum(not text for text in texts) / len(texts),
        "distinct_share": len(set(texts)) / len(texts),
    }
