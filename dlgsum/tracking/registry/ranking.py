"""Comparing models by a metric: only where the scores are on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dlgsum.config.metric_direction import direction
from dlgsum.core.errors import UsageError, nearest
from dlgsum.core.files import sha256_text
from dlgsum.core.text import plural
from dlgsum.tracking.registry.loss_scale import is_loss, loss_settings
from dlgsum.tracking.registry.model import RegisteredModel

_TEST = "test_"


@dataclass(frozen=True)
class Scale:
    """How scores were computed, and on which rows; only scores of one scale can be compared.

    Attributes:
        signature: empty where it is not known.
        rows: fingerprint of the rows; empty where it is not known.
        loss: of a loss, the settings that decide what a token is and what its loss is made of.
    """

    signature: str
    rows: str
    loss: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        """Eight characters that stand for the scale."""
        return sha256_text(self.signature, self.rows, *(part for pair in self.loss for part in pair))[:8]

    def __str__(self) -> str:
        return f"{self.id}  {self.signature or 'unknown signature'} on rows {self.rows[:12] or 'unknown'}"

    def fits(self, wanted: str) -> bool:
        """Say whether a user means this scale: its id, its signature, or a part of that."""
        return wanted in (self.id, self.signature) or (bool(wanted) and wanted in self.signature)


def scale_of(model: RegisteredModel, metric: str) -> Scale:
    """Return the scale of a model's metric; those of the test rows have one of their own, and so has a loss."""
    loss = loss_settings(model) if is_loss(metric) else ()
    if metric.startswith(_TEST):
        data = model.training_info.get("data")
        rows = data.get("test", "") if isinstance(data, dict) else ""
        return Scale(str(model.training_info.get("test_signature", "")), str(rows), loss)
    return Scale(model.signature, model.validation_fingerprint, loss)


@dataclass(frozen=True)
class Ranking:
    """Models on one scale, the best first.

    Attributes:
        left_out: why models were left out, in words.
        scale: None where there is no model.
    """

    models: list[RegisteredModel]
    left_out: list[str]
    scale: Scale | None


def rank(models: Sequence[RegisteredModel], metric: str, signature: str | None = None) -> Ranking:
    """Order models by a metric, the best first; of equals, the older first.

    Models without the metric, or whose value is NaN or infinite, are left out.

    Args:
        models: oldest first.
        signature: keep those of one scale: its id, its signature, or a part of that.

    Raises:
        UsageError: the scores are on several scales, no score is on the wanted one, no model has the metric, or it is
            not known whether larger values of it are better.
    """
    having = [model for model in models if metric in model.performance]
    finite = [model for model in having if math.isfinite(model.performance[metric])]
    if models and not having:
        known = list(dict.fromkeys(name for model in models for name in model.performance))
        guess = nearest(metric, known)
        raise UsageError(
            f"No registered model has the metric '{metric}'",
            f"Did you mean {guess}?" if guess else f"Known: {', '.join(known) or 'none'}",
        )
    sign = direction(metric, [model.config for model in models])
    if having and not sign:
        raise UsageError(
            f"It is not known whether larger or smaller values of {metric} are better, so models are not ranked by it",
            "Rank by another metric. Of an extra metric it is known where it chose the best model of a training: "
            "metrics.best and metrics.greater_is_better.",
        )
    scales = list(dict.fromkeys(scale_of(model, metric) for model in finite))
    if signature is not None:
        exact = [scale for scale in scales if signature in (scale.id, scale.signature)]
        scales = exact or [scale for scale in scales if scale.fits(signature)]
        if finite and not scales:
            every = dict.fromkeys(scale_of(model, metric) for model in finite)
            raise UsageError(
                f"No registered model has a {metric} of the signature '{signature}'",
                "There are:\n" + "\n".join(_in_words(list(every))),
            )
    if len(scales) > 1:
        counts = [sum(scale_of(model, metric) == scale for model in finite) for scale in scales]
        lines = [f"{words} ({plural(count, 'model')})" for words, count in zip(_in_words(scales), counts, strict=True)]
        raise UsageError(
            f"The models' {metric} cannot be compared: it is on {len(scales)} scales:\n" + "\n".join(lines),
            f"Choose one by its first eight characters: --signature {scales[0].id}, in Python "
            f"signature='{scales[0].id}'.",
        )
    left_out = _left_out(models, having, finite, metric)
    of_scale = [model for model in finite if scale_of(model, metric) in scales]
    if len(of_scale) < len(finite):
        left_out.append(f"{plural(len(finite) - len(of_scale), 'model')} with scores of another signature left out")
    best = sorted(of_scale, key=lambda model: -sign * model.performance[metric])  # stable: the older of equals first
    return Ranking(best, left_out, scales[0] if scales else None)


def _in_words(scales: Sequence[Scale]) -> list[str]:
    """Return a line a scale; of what decides a loss, only what differs between them."""
    every = [dict(scale.loss) for scale in scales]
    keys = dict.fromkeys(key for one in every for key in one)
    differing = [key for key in keys if len({one.get(key) for one in every}) > 1]
    return [
        "  " + ", ".join([str(scale), *(f"{key}={one.get(key, 'unknown')}" for key in differing)])
        for scale, one in zip(scales, every, strict=True)
    ]


def _left_out(
    models: Sequence[RegisteredModel], having: Sequence[RegisteredModel], finite: Sequence[RegisteredModel], metric: str
) -> list[str]:
    lines = []
    without = [model.id for model in models if model not in having]
    if without:
        lines.append(f"left out, without {metric}: {_some(without)}")
    bad = [f"{model.id} ({model.performance[metric]})" for model in having if model not in finite]
    if bad:
        lines.append(f"left out, whose {metric} is not a finite number: {_some(bad)}")
    return lines


def _some(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def side_by_side(models: Sequence[RegisteredModel]) -> dict[str, list[float]]:
    """Return each metric's values in the order of the models; NaN where a model lacks it."""
    names = dict.fromkeys(name for model in models for name in model.performance)
    return {name: [model.performance.get(name, math.nan) for model in models] for name in names}
