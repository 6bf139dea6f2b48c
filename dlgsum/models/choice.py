"""Decide which model to start from, without torch."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dlgsum.config.schema.model import Model
from dlgsum.core.errors import ConfigError
from dlgsum.core.network import ask

KOBART = "digit82/kobart-summarization"
MINI = "kobart_mini"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer.model")


@dataclass(frozen=True)
class ModelChoice:
    """What a run starts from, and why."""

    kind: Literal["pretrained", "mini"]
    architecture: str
    checkpoint: str
    reason: str


def choose_checkpoint(model: Model) -> ModelChoice:
    """Choose the starting weights; asks the hub at most once, for at most `hub_timeout` seconds.

    Raises:
        ConfigError: as ``model_problems``.
    """
    problems = model_problems(model)
    if problems:
        raise ConfigError(problems)
    wanted, checkpoint = model.architecture, model.checkpoint
    if MINI in (wanted, checkpoint):
        return ModelChoice("mini", MINI, MINI, "as asked")
    if checkpoint != "auto":
        return ModelChoice("pretrained", wanted, checkpoint, "as asked")
    if wanted == "kobart":
        return ModelChoice("pretrained", wanted, KOBART, "as asked: model.architecture=kobart")
    if is_cached(KOBART, model.revision):
        return ModelChoice("pretrained", "kobart", KOBART, "found in the local cache")
    status, why = ask_hub(KOBART, model.revision, model.hub_timeout)
    if status is not None and status < 400:
        return ModelChoice("pretrained", "kobart", KOBART, why)
    return ModelChoice("mini", MINI, MINI, f"{KOBART} is not in the local cache, and {why}")


def model_problems(model: Model) -> list[str]:
    """Say how architecture and checkpoint contradict each other, or that the one needs the other."""
    wanted, checkpoint = model.architecture, model.checkpoint
    if MINI in (wanted, checkpoint):
        if {wanted, checkpoint} <= {MINI, "auto"}:
            return []
        return [
            f"model.architecture={wanted} does not fit model.checkpoint={checkpoint}: "
            f"{MINI} is trained from scratch; set both to {MINI}, or neither"
        ]
    # Only the name itself: /home/gpt/kobart is a KoBART.
    name = checkpoint.rstrip("/").rpartition("/")[2].lower()
    if "gpt" in name and not re.search(r"bart|t5", name):
        return [
            f"model.checkpoint={checkpoint} looks like a model without an encoder (GPT), which cannot be trained here; "
            "choose an encoder-decoder, such as model=kobart or a T5"
        ]
    if checkpoint == "auto" and wanted not in ("auto", "kobart"):
        return [
            f"model.architecture={wanted} needs model.checkpoint: a hub name or a folder, such as "
            "paust/pko-t5-base (t5), google/mt5-small (mt5) or gogamza/kobart-base-v2 (bart)"
        ]
    return []


def is_cached(checkpoint: str, revision: str | None = None) -> bool:
    """Say whether the configuration, the weights and the tokenizer of a hub checkpoint are in the local cache.

    Weights in several files are never said to be cached: one of them could be missing.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    def has(*names: str) -> bool:
        return any(isinstance(try_to_load_from_cache(checkpoint, name, revision=revision), str) for name in names)

    try:
        return has("config.json") and has(*_WEIGHTS) and has(*TOKENIZER_FILES)
    except HFValidationError:  # a folder, or no name at all
        return False


def ask_hub(checkpoint: str, revision: str | None, seconds: float) -> tuple[int | None, str]:
    """Return the hub's status for a checkpoint and what was learnt; None when it was not reached in `seconds`."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return None, "the hub is switched off by HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE"
    return ask(f"{constants.ENDPOINT}/{checkpoint}/resolve/{revision or 'main'}/config.json", seconds)


def saved_model(folder: Path, settings: Model) -> tuple[ModelChoice, Model]:
    """Return the choice of a model that dlgsum saved, and the settings with which it is loaded as it is."""
    as_it_is = dataclasses.replace(
        settings, checkpoint=str(folder), architecture="auto", revision=None, load_pretrained=True
    )
    return ModelChoice("pretrained", "auto", str(folder), "a trained model"), as_it_is
