"""`kobart_mini`: KoBART's tokenizer and architecture made small, trained from scratch."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable, Iterator

import tokenizers
import torch
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from dlgsum.config.schema.model import Mini
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.models.tokenizer import TAG

# KoBART's own order, so that every id means the same in both: `<s>` 0, `</s>` 1, … `<mask>` 6.
CONTROL_TOKENS = ("<s>", "</s>", "<usr>", "<pad>", "<sys>", "<unk>", "<mask>")
_SPACE = "▁"


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer of KoBART's make: character BPE, NFKC, Metaspace, no post-processor.

    The same texts give the same tokenizer. No texts at all give one of single characters. Every common Korean
    syllable, ASCII character and newline is a token, so the vocabulary never has fewer than about 2,500 tokens,
    however small `vocab_size` is.
    """
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    backend.normalizer = tokenizers.normalizers.NFKC()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="first")
    backend.decoder = tokenizers.decoders.Metaspace(replacement=_SPACE, prepend_scheme="first")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=sorted(_alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_lines(texts), trainer)
    start, end, _, pad, _, unknown, mask = CONTROL_TOKENS
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        bos_token=start,
        eos_token=end,
        unk_token=unknown,
        pad_token=pad,
        mask_token=mask,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        model_input_names=["input_ids", "attention_mask"],
    )


def build_mini_config(
    mini: Mini, tokenizer: PreTrainedTokenizerFast, *, max_positions: int, pad_to_multiple_of: int = 8
) -> BartConfig:
    """Return the configuration of a small BART that fits the tokenizer.

    Args:
        mini: sizes.
        tokenizer: as prepared, with its tags: the embedding is made large enough for all of them.
        max_positions: longest sequence that the model can read or write.
        pad_to_multiple_of: the embedding's size is rounded up to a multiple of it.

    Raises:
        EnvironmentProblem: the tokenizer lacks a begin mark, end mark or padding token.
    """
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    if start is None or end is None or pad is None:
        raise EnvironmentProblem("kobart_mini needs a tokenizer with bos_token, eos_token and pad_token")
    size = max(tokenizer.get_vocab().values()) + 1
    return BartConfig(
        vocab_size=-(-size // pad_to_multiple_of) * pad_to_multiple_of,
        max_position_embeddings=max_positions,
        d_model=mini.d_model,
        encoder_layers=mini.encoder_layers,
        decoder_layers=mini.decoder_layers,
        encoder_attention_heads=mini.heads,
        decoder_attention_heads=mini.heads,
        encoder_ffn_dim=mini.ffn,
        decoder_ffn_dim=mini.ffn,
        activation_function="gelu",
        dropout=mini.dropout,
        # BART's 0.02 is made for a width of 768. At 128 it leaves the cross-attention so weak that the decoder
        # never learns to look at the source: after 350 steps the loss was the same with a wrong dialogue.
        init_std=mini.d_model**-0.5,
        # Embeddings are normalised right after they are summed, so scaling them only drowns the positions: after
        # 240 steps on made-up dialogues the loss was 0.74 with it and 0.45 without.
        scale_embedding=False,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=pad,
        # Not BART's own choice, the end mark: then one token would mean both "begin" and "stop", and a
        # repetition penalty would count the start as a first stop.
        decoder_start_token_id=start,
        # BART's default is 2, its own end mark; here that is `<usr>`. Forcing is for the generation settings.
        forced_eos_token_id=None,
    )


def build_mini_model(config: BartConfig, seed: int) -> BartForConditionalGeneration:
    """Return the model with weights drawn from `seed`; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BartForConditionalGeneration(config)


def _alphabet() -> set[str]:
    """Return the characters that are tokens whether they occur in the texts or not."""
    letters = set(string.ascii_letters + string.digits + string.punctuation + "\n" + _SPACE)
    letters |= set("…·“”‘’「」『』《》〈〉–—~℃№")
    letters |= {chr(code) for code in range(0x3131, 0x3164)}  # ㄱ … ㅣ: ㅋㅋ, ㅠㅠ
    # KS X 1001's 2,350 syllables take two bytes; the codec writes every other one as a longer sequence of jamo.
    letters |= {chr(code) for code in range(0xAC00, 0xD7A4) if len(chr(code).encode("euc_kr")) == 2}
    # The model sees normalised text: NFKC turns ㅋ into another code point and … into three dots.
    return {letter for text in letters for letter in unicodedata.normalize("NFKC", text) if letter != " "}


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts cut at newlines and tags: no token may grow across either."""
    for text in texts:
        for piece in TAG.split(text):
            yield from filter(None, piece.split("\n"))
