"""Decoding settings as transformers wants them, and as a saved model keeps them."""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig

from dlgsum.config.schema.generation import Generation
from dlgsum.core.errors import ConfigError


def build_generation_config(
    settings: Generation,
    *,
    decoder_max_len: int,
    decoder_start_id: int,
    eos_id: int,
    pad_id: int,
    bos_id: int | None = None,
    num_beams: int | None = None,
) -> GenerationConfig:
    """Return the complete decoding configuration; nothing of a checkpoint's own remains in it.

    Args:
        settings: as configured.
        decoder_max_len: longest summary where `settings.max_length` is empty, end mark included.
        decoder_start_id: token that starts the decoder.
        eos_id: end mark.
        pad_id: padding token.
        bos_id: begin mark, where the tokenizer has one.
        num_beams: beams instead of `settings.num_beams`; for evaluations during training.

    Raises:
        ConfigError: `min_length` is longer than the longest summary.
    """
    longest = settings.max_length or decoder_max_len
    if settings.min_length > longest:
        raise ConfigError(
            [f"generation.min_length={settings.min_length} is longer than the longest summary, {longest} tokens"]
        )
    beams = num_beams or settings.num_beams
    # Only beams rank candidates by length, and transformers warns about settings that greedy search ignores; left
    # unset, they would be taken from the model's own configuration.
    of_beams: dict[str, Any] = {"length_penalty": 1.0, "early_stopping": False}
    if beams > 1:
        of_beams = {"length_penalty": settings.length_penalty, "early_stopping": settings.early_stopping}
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=beams,
        # transformers counts the decoder's start token, which is no part of the summary.
        max_length=longest + 1,
        # Here the start token takes the place of the end mark, which is only allowed after this many tokens:
        # the shortest summary has `min_length` tokens, end mark included.
        min_length=settings.min_length,
        no_repeat_ngram_size=settings.no_repeat_ngram_size,
        repetition_penalty=settings.repetition_penalty,
        decoder_start_token_id=decoder_start_id,
        forced_eos_token_id=eos_id if settings.forced_eos else None,
        bos_token_id=bos_id,
        eos_token_id=eos_id,
        pad_token_id=pad_id,
        **of_beams,
    )


def apply_generation(model: Any, config: GenerationConfig) -> None:
    """Make `config` the model's own, so that a plain `generate()` of the saved model does the same.

    The model's whole generation configuration is replaced: KoBART's carries `forced_eos_token_id=2`, which
    ends a summary that reaches its limit in `<usr>`. The ids in the model's configuration follow, since
    training shifts labels by those.
    """
    model.generation_config = config
    for key in ("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, key, getattr(config, key))
    if hasattr(model.config, "forced_eos_token_id"):  # a field of BART's configuration; its default is 2
        model.config.forced_eos_token_id = config.forced_eos_token_id
    # transformers 5 refuses to save a model whose configuration still holds generation settings.
    for key in model.config._get_generation_parameters():
        delattr(model.config, key)
