"""How summaries are generated, in evaluation and in prediction."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from dlgsum.config.schema.options import RULES, option


@dataclass(frozen=True, kw_only=True, config=RULES)
class Generation:
    """Decoding settings; saved with the best model."""

    num_beams: int = option(4, "Beams.", ge=1, le=64)
    eval_num_beams: int | None = option(None, "Beams during training's evaluations; null: num_beams.", ge=1, le=64)
    max_length: int | None = option(None, "Longest summary in tokens; null: tokenizer.decoder_max_len.", ge=4, le=4096)
    min_length: int = option(0, "Shortest summary in tokens.", ge=0, le=4096)
    length_penalty: float = option(1.0, "Above 1 favours longer summaries (beams only).")
    no_repeat_ngram_size: int = option(0, "No n-gram of this size occurs twice; 0: off.", ge=0, le=20)
    repetition_penalty: float = option(1.0, "Above 1 discourages repeated tokens.", gt=0)
    early_stopping: bool = option(True, "Stop a beam search once enough candidates have ended.")
    forced_eos: bool = option(True, "A summary that reaches max_length ends with the end mark.")
    decoder_start: Literal["model", "bos", "eos", "pad"] = option(
        "model",
        "Token that starts the decoder, in training and generation; model: as its configuration says.",
    )
