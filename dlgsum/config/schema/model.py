"""Which model is trained, and what it starts from."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from dlgsum.config.schema.options import RULES, nested, option


@dataclass(frozen=True, kw_only=True, config=RULES)
class Mini:
    """Size of `kobart_mini`, the BART that is trained from scratch where no pretrained weights can be had."""

    vocab_size: int = option(6000, "Tokens of the tokenizer that is trained on the training text.", ge=500, le=60_000)
    d_model: int = option(128, "Width; a multiple of `heads`.", ge=16, le=2048)
    encoder_layers: int = option(1, "Layers of the encoder.", ge=1, le=24)
    decoder_layers: int = option(2, "Layers of the decoder.", ge=1, le=24)
    heads: int = option(4, "Attention heads.", ge=1, le=64)
    ffn: int = option(512, "Width of the feed-forward layers.", ge=16, le=16_384)
    dropout: float = option(0.0, "Dropout probability.", ge=0, lt=1)


@dataclass(frozen=True, kw_only=True, config=RULES)
class Model:
    """Architecture, starting weights and loading."""

    architecture: Literal["auto", "kobart", "kobart_mini", "bart", "t5", "mt5"] = option(
        "auto", "Model architecture; auto reads it from the checkpoint."
    )
    checkpoint: str = option(
        "auto",
        "Hub name or folder of the starting weights; auto: KoBART where it can be had, else kobart_mini.",
    )
    revision: str | None = option(None, "Branch, tag or commit of a hub checkpoint.")
    load_pretrained: bool = option(True, "false: the checkpoint's architecture and tokenizer with random weights.")
    trust_remote_code: bool = option(False, "Run Python code that comes with a checkpoint; a security risk.")
    prefix: str | None = option(None, "Text before each dialogue; null: 'summarize: ' for T5, else nothing.")
    hub_timeout: float = option(3.0, "Seconds that model=auto waits for the hub to answer.", gt=0, le=60)
    mini: Mini = nested(Mini, "Size of kobart_mini.")


@dataclass(frozen=True, kw_only=True, config=RULES)
class Tokenizer:
    """Lengths, special tokens and the layout of sequences."""

    encoder_max_len: int = option(
        512, "Longest source in tokens; longer dialogues are cut at the end.", ge=8, le=16_384
    )
    decoder_max_len: int = option(128, "Longest target in tokens, end mark included.", ge=4, le=4096)
    bos_token: str | None = option(None, "Begin mark; null: the tokenizer's own.")
    eos_token: str | None = option(None, "End mark; null: the tokenizer's own.")
    special_tokens: list[str] = option([], "Tokens that are never split, besides those found in the data.")
    find_tags: bool = option(True, "Add every #Tag# of the training text as one token.")
    encoder_eos: bool = option(True, "End the source with the end mark, in training and in generation.")
    pad_to_multiple_of: int = option(8, "Pad embedding size and batches to this multiple (8 helps GPUs).", ge=1, le=512)
