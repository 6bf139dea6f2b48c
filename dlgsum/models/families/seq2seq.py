"""Encoder–decoder models: BART (KoBART), T5, mT5 and their kin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlgsum.config.schema.generation import Generation
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.models.family import ModelFamily

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

_T5_KIN = frozenset({"t5", "mt5", "umt5", "longt5"})


class Seq2Seq(ModelFamily):
    """The encoder reads the dialogue, the decoder writes the summary."""

    name = "seq2seq"

    def handles(self, config: PreTrainedConfig) -> bool:
        """Say whether the model is an encoder–decoder that writes text."""
        from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

        if type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
            return bool(config.is_encoder_decoder)
        # Code that comes with the checkpoint names its class here.
        return "AutoModelForSeq2SeqLM" in (getattr(config, "auto_map", None) or {})

    def default_prefix(self, config: PreTrainedConfig) -> str:
        """Return T5's task name; nothing for BART, which knows one task."""
        return "summarize: " if config.model_type in {"t5", "mt5"} else ""

    def decoder_start_id(self, model: Any, tokenizer: PreTrainedTokenizerFast, settings: Generation) -> int:
        """Return the start token's id; "model" reads the configuration that training shifts labels by."""
        which = settings.decoder_start
        if which == "model":
            sources = (model.config, model.generation_config)
            found = next((i for s in sources if (i := getattr(s, "decoder_start_token_id", None)) is not None), None)
        else:
            found = getattr(tokenizer, f"{which}_token_id")
        if found is None:
            where = "the model's configuration" if which == "model" else "the tokenizer"
            raise EnvironmentProblem(
                f"generation.decoder_start={which}, but {where} names no such token",
                "Set generation.decoder_start to one of: model, bos, eos, pad.",
            )
        rows = model.get_input_embeddings().num_embeddings
        if not 0 <= int(found) < rows:
            raise EnvironmentProblem(
                f"generation.decoder_start={which} is token {found}, but the model knows only 0 to {rows - 1}",
                "Set generation.decoder_start to one of: bos, eos, pad.",
            )
        return int(found)

    def unsafe_in_fp16(self, config: PreTrainedConfig) -> bool:
        """Say yes for T5: its feed-forward layers exceed fp16's largest number, 65504."""
        return config.model_type in _T5_KIN

    def max_positions(self, config: PreTrainedConfig) -> int | None:
        """Return BART's number of learned positions; T5 counts relatively and has no limit."""
        if config.model_type in _T5_KIN:
            return None
        found: int | None = getattr(config, "max_position_embeddings", None)
        return found


PLUGIN = Seq2Seq
