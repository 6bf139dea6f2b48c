"""Prepare a tokenizer for dialogues: tags stay whole, and decoding gives back the normalised text."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tokenizers
from transformers import PreTrainedTokenizerFast

from dlgsum.config.schema.model import Tokenizer
from dlgsum.core.errors import ConfigError, EnvironmentProblem
from dlgsum.models.backend import make_reversible, space_marks

log = logging.getLogger(__name__)

TAG = re.compile(r"#[A-Za-z]+\d*#")

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Enough to meet every way in which text beside a tag can change: glued, spaced, before, after, twice, at the end.
_PROBES = (
    "{0}은 {1}에게 밥을",
    "{0} 은 {1} 에게",
    "밥을 {0}",
    "밥{0}이",
    "{0}: 나는, {1}와.",
    "{0}{1}은",
    "은 {0} ",
    "a b {0}s",
)


def find_tags(texts: Iterable[str]) -> list[str]:
    """Return every tag such as `#Person1#` that occurs in the texts, sorted; empty when there is none."""
    return sorted({tag for text in texts for tag in TAG.findall(text)})


def prepare_tokenizer(hf_tokenizer: Any, *, tags: Sequence[str], settings: Tokenizer) -> PreTrainedTokenizerFast:
    """Return a copy of a tokenizer that keeps tags whole and loses no space around them.

    The copy is a plain `PreTrainedTokenizerFast`, whatever class came in: classes such as `T5Tokenizer` build
    their own backend anew when they are loaded, which would undo the changes. Preparing twice changes nothing.

    Args:
        hf_tokenizer: a tokenizer of transformers with a `tokenizers` backend.
        tags: tokens that are never split, such as `#Person1#`; may be empty.
        settings: begin and end marks, further tokens and lengths.

    Raises:
        EnvironmentProblem: the tokenizer has no backend, or changes text beyond its normalisation.
        ConfigError: `bos_token` or `eos_token` is not in the vocabulary.
    """
    if not isinstance(hf_tokenizer, PreTrainedTokenizerFast):
        raise EnvironmentProblem(
            f"The tokenizer {type(hf_tokenizer).__name__} has no fast backend",
            "Use a checkpoint that has a tokenizer.json or a SentencePiece model.",
        )
    backend = tokenizers.Tokenizer.from_str(make_reversible(hf_tokenizer.backend_tokenizer.to_str()))
    named = {key: str(value) for key in _NAMED if (value := getattr(hf_tokenizer, key, None)) is not None}
    named |= _overrides(backend, settings)
    extra = [str(token) for token in hf_tokenizer.all_special_tokens if str(token) not in named.values()]
    wanted = {*tags, *settings.special_tokens} - {*named.values(), ""}
    # Longest first: a tag that begins another one never takes its place.
    ordered = sorted(wanted, key=lambda token: (-len(token), token))
    # Ordinary tokens, not special ones: skipping special tokens while decoding would delete the speakers.
    backend.add_tokens(
        [tokenizers.AddedToken(t, special=False, normalized=False, lstrip=False, rstrip=False) for t in ordered]
    )
    prepared = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        extra_special_tokens=[token for token in extra if token not in wanted],
        clean_up_tokenization_spaces=False,
        model_max_length=settings.encoder_max_len,
        # A dialogue that happens to contain "</s>" is text, not the end of the dialogue.
        split_special_tokens=True,
        # BART and T5 have no token types, and BART's forward rejects them.
        model_input_names=["input_ids", "attention_mask"],
        padding_side="right",
        **named,
    )
    _check_round_trip(prepared, ordered)
    return prepared


_JAMO = str.maketrans(
    {
        combining: letter
        for letter in map(chr, range(0x3131, 0x318F))
        if len(combining := unicodedata.normalize("NFKC", letter)) == 1 and combining != letter
    }
)


def restore_jamo(text: str) -> str:
    """Write lone letters such as ㅋ and ㅠ as people type them.

    NFKC, the normalizer of KoBART's tokenizer, turns them into combining letters that look alike but never match a
    reference; letters that form a syllable are joined to it.
    """
    return unicodedata.normalize("NFC", text).translate(_JAMO)


def make_normaliser(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], str]:
    """Return the function that says what decoding an encoded text gives back when every character is known.

    That is the backend's normalisation (NFKC for KoBART) of everything but added tokens, with lone letters (ㅋㅋ) as
    people type them, and without outer spaces.
    """
    backend = tokenizer.backend_tokenizer
    normalizer, marks = backend.normalizer, space_marks(backend.to_str())
    plain = {token.content for token in backend.get_added_tokens_decoder().values() if not token.special}
    cut = re.compile("|".join(map(re.escape, sorted(plain, key=len, reverse=True))) or "(?!)")

    def clean(piece: str) -> str:
        piece = normalizer.normalize_str(piece) if normalizer is not None else piece
        for mark in marks:
            piece = piece.replace(mark, " ")
        return piece

    def normalise(text: str) -> str:
        # Piece by piece, as the backend does it: a tag is never normalised together with its neighbours.
        result, end = [], 0
        for tag in cut.finditer(text):
            result += [clean(text[end : tag.start()]), tag.group()]
            end = tag.end()
        return restore_jamo("".join([*result, clean(text[end:])])).strip()

    return normalise


def special_ids(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Return the ids of all control tokens: those transformers names, and those only the backend knows."""
    backend: dict[int, Any] = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    return frozenset(tokenizer.all_special_ids) | {index for index, token in backend.items() if token.special}


def _overrides(backend: Any, settings: Tokenizer) -> dict[str, str]:
    """Return the begin and end marks that the settings ask for."""
    asked = {"bos_token": settings.bos_token, "eos_token": settings.eos_token}
    found = {key: token for key, token in asked.items() if token is not None}
    problems = [
        f"tokenizer.{key}: '{token}' is not in the tokenizer's vocabulary"
        for key, token in found.items()
        if backend.token_to_id(token) is None
    ]
    if problems:
        raise ConfigError(problems, "Leave it empty (null) to use the tokenizer's own mark.")
    return found


def _check_round_trip(tokenizer: PreTrainedTokenizerFast, tags: Sequence[str]) -> None:
    """Raise when a short text with tags does not survive encoding and decoding."""
    backend, normalise = tokenizer.backend_tokenizer, make_normaliser(tokenizer)
    unknown = tokenizer.unk_token_id

    def knows(text: str) -> bool:
        ids = backend.encode(text, add_special_tokens=False).ids
        return bool(ids) and unknown not in ids

    names = [*tags[:3], *tags[-1:]] or [""]
    probes = [probe.format(a, b) for probe in _PROBES for a, b in zip(names, reversed(names), strict=True)]
    checked = 0
    for probe in dict.fromkeys(probes):
        if not knows(probe) or not all(knows(letter) for letter in set(TAG.sub("", probe)) - {" "}):
            continue
        checked += 1
        ids = backend.encode(probe, add_special_tokens=False).ids
        back, ideal = backend.decode(ids, skip_special_tokens=False).strip(), normalise(probe)
        if back != ideal:
            raise EnvironmentProblem(
                f"The tokenizer changes text: '{ideal}' became '{back}' after encoding and decoding",
                "Summaries would be scored wrongly. Use another checkpoint.",
            )
    if not checked:
        log.warning("the tokenizer knows none of the test texts, so its round trip is unchecked; is it for Korean?")
