"""Turn dialogues and summaries into token ids, and generated ids back into text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerFast

from dlgsum.config.schema.model import Tokenizer
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import sha256_text
from dlgsum.models.tokenizer import make_normaliser, restore_jamo, special_ids


class SummaryTokenizer:
    """Encode sources and targets in one stated layout, and decode without losing speakers.

    Source: prefix, text, end mark (when `encoder_eos`). Target: text, end mark. No begin mark anywhere: the
    model itself puts its start token before the target, in training and in generation.

    Args:
        tokenizer: as `prepare_tokenizer` returns it.
        settings: lengths and layout.
        prefix: text before every dialogue; empty for none.
        extra_skip: further ids that decoding drops, such as a decoder start token that is not marked as special.

    Raises:
        EnvironmentProblem: the tokenizer has no end mark or no padding token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        settings: Tokenizer,
        prefix: str = "",
        *,
        extra_skip: Collection[int] = (),
    ) -> None:
        self.hf = tokenizer
        self.prefix = prefix
        self.eos_id = _required(tokenizer.eos_token_id, "end mark (eos_token)", "Set tokenizer.eos_token.")
        self.pad_id = _required(
            tokenizer.pad_token_id, "padding token (pad_token)", "Add pad_token to its tokenizer_config.json."
        )
        self._settings = settings
        self._control = frozenset(i for i in (self.eos_id, self.pad_id, self.bos_id) if i is not None)
        self._skip = special_ids(tokenizer) | frozenset(extra_skip)
        self._size = len(tokenizer)
        self._backend = tokenizer.backend_tokenizer
        self._normalise = make_normaliser(tokenizer)

    @property
    def bos_id(self) -> int | None:
        """The begin mark's id; None for tokenizers without one, such as T5's."""
        found: int | None = self.hf.bos_token_id
        return found

    @cached_property
    def fingerprint(self) -> str:
        """A digest of everything that decides the ids: the same digest means the same encoding."""
        settings = self._settings
        lengths = f"{settings.encoder_max_len} {settings.decoder_max_len} {settings.encoder_eos} {self.eos_id}"
        return sha256_text(self._backend.to_str(), lengths, self.prefix)

    def encode_sources(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of dialogues, cut at the end so that the end mark always fits.

        An empty list gives an empty list; an empty text gives the prefix and the end mark.
        """
        limit = self._settings.encoder_max_len
        rows = self._encode([self.prefix + text for text in texts])
        return [self._ended(ids, limit) if self._settings.encoder_eos else ids[:limit] for ids in rows]

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of summaries with their end mark, cut so that it always fits."""
        return [self._ended(ids, self._settings.decoder_max_len) for ids in self._encode(texts)]

    def decode(self, rows: Any) -> list[str]:
        """Return the texts of generated or label ids, without control tokens and outer spaces.

        Args:
            rows: lists of ids, or the rows of a tensor or array. Ids below zero (masked labels) and ids beyond
                the vocabulary (rows that only pad the embedding) are dropped; an empty row gives "".
        """
        kept = [[i for i in _ids(row) if 0 <= i < self._size and i not in self._skip] for row in rows]
        # Skipping is done above, by hand, so that the backend cannot drop a tag as well.
        texts: list[str] = self._backend.decode_batch(kept, skip_special_tokens=False)
        return [restore_jamo(text).strip() for text in texts]

    def normalise(self, text: str) -> str:
        """Return the text as a perfect model could give it back: normalised, without outer spaces."""
        return self._normalise(text)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        # Never the tokenizer's own special tokens: T5 would add an end mark, KoBART none.
        rows = [item.ids for item in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]
        # A Unigram vocabulary lists "</s>" as a piece like any other, so text can contain the end mark's id.
        return [row if self._control.isdisjoint(row) else [i for i in row if i not in self._control] for row in rows]

    def _ended(self, ids: list[int], limit: int) -> list[int]:
        if ids[-1:] == [self.eos_id]:
            ids = ids[:-1]
        return [*ids[: limit - 1], self.eos_id]


def _required(found: int | None, what: str, hint: str) -> int:
    if found is None:
        raise EnvironmentProblem(f"The tokenizer has no {what}", hint)
    return found


def _ids(row: Any) -> Iterable[int]:
    if hasattr(row, "tolist"):
        row = row.tolist()
    return (int(i) for i in row)
