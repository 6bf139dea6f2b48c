"""What decides the scale of a loss: what a token is, and what the loss of one is made of."""

from __future__ import annotations

from typing import Any, Final

from dlgsum.config.origin import flatten
from dlgsum.config.schema import defaults
from dlgsum.tracking.registry.model import RegisteredModel

# What decides what a token is, or what its loss is made of.
DECIDING: Final = (
    "model.architecture", "model.checkpoint", "model.revision", "model.prefix", "model.mini.vocab_size", "tokenizer.",
    "training.label_smoothing_factor",
)  # fmt: skip


def is_loss(metric: str) -> bool:
    """Say whether a metric is a loss: of the validation rows, or of the test rows."""
    return metric in ("loss", "test_loss")


def loss_settings(model: RegisteredModel) -> tuple[tuple[str, str], ...]:
    """Return what must be equal for two losses to be compared, as sorted pairs of a setting and its value.

    A setting that is younger than the model counts as its default where the model's configuration has its section.
    The tokenizer of kobart_mini comes from the training rows, so that their fingerprint belongs to it.
    """
    own: dict[str, Any] = dict(flatten(model.config))
    found = {
        "model.architecture": model.architecture, "model.checkpoint": model.checkpoint,
        **{key: it for key, it in flatten(defaults()) if isinstance(model.config.get(key.partition(".")[0]), dict)},
        **own,
    }  # fmt: skip
    kept = {key: str(value) for key, value in found.items() if str(key).startswith(DECIDING)}
    data = model.training_info.get("data")
    if "kobart_mini" in (model.architecture, model.checkpoint, *kept.values()) and isinstance(data, dict):
        kept["training rows"] = str(data.get("train", ""))[:12]
    return tuple(sorted(kept.items()))
