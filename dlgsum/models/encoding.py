"""Turn dialogues and summaries into token ids, and generated ids back into text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import sha256_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from dlgsum.config.schema.model import Tokenizer

Ids = list[list[int]]


@dataclass(frozen=True, eq=False)
class TextLayout:
    """The layout of sources and targets: prefix, text, end mark; cut so that the end mark always fits.

    Small enough to be sent to another process, and there it needs the package `tokenizers` only: importing
    transformers would take each process a second.

    Attributes:
        backend: a tokenizer of the package `tokenizers`.
        prefix: text before every source; empty for none.
        source_limit: most tokens of a source.
        target_limit: most tokens of a target.
        ends_sources: whether sources get an end mark; targets always do.
        eos_id: the end mark.
        control: ids that text must not bring, although a vocabulary may list them as pieces.
    """

    backend: Any
    prefix: str
    source_limit: int
    target_limit: int
    ends_sources: bool
    eos_id: int
    control: frozenset[int]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of everything that decides the ids: the same digest means the same encoding."""
        lengths = f"{self.source_limit} {self.target_limit} {self.ends_sources} {self.eos_id}"
        return sha256_text(self.backend.to_str(), lengths, self.prefix)

    def encode_sources(self, texts: Sequence[str]) -> Ids:
        """Return the ids of dialogues."""
        return self.measure_sources(texts)[0]

    def encode_targets(self, texts: Sequence[str]) -> Ids:
        """Return the ids of summaries."""
        return self.measure_targets(texts)[0]

    def measure_sources(self, texts: Sequence[str]) -> tuple[Ids, list[int]]:
        """Return the ids of dialogues, and how many each would have if nothing were cut."""
        rows = self._encode([self.prefix + text for text in texts] if self.prefix else texts)
        return self._cut(rows, self.source_limit, ended=self.ends_sources)

    def measure_targets(self, texts: Sequence[str]) -> tuple[Ids, list[int]]:
        """Return the ids of summaries, and how many each would have if nothing were cut."""
        return self._cut(self._encode(texts), self.target_limit, ended=True)

    def _encode(self, texts: Sequence[str]) -> Ids:
        # Never the tokenizer's own special tokens: T5 would add an end mark, KoBART none.
        rows = [item.ids for item in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]
        # A Unigram vocabulary lists "</s>" as a piece like any other, so text can contain the end mark's id.
        return [row if self.control.isdisjoint(row) else [i for i in row if i not in self.control] for row in rows]

    def _cut(self, rows: Ids, limit: int, *, ended: bool) -> tuple[Ids, list[int]]:
        if not ended:
            return [ids[:limit] for ids in rows], [len(ids) for ids in rows]
        return [[*ids[: limit - 1], self.eos_id] for ids in rows], [len(ids) + 1 for ids in rows]


class SummaryTokenizer:
    """Encode sources and targets in one stated layout, and decode without losing speakers.

    Source: prefix, text, end mark (when `encoder_eos`). Target: text, end mark. No begin mark anywhere: the
    model itself puts its start token before the target, in training and in generation. It can be pickled.

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
        # Here, so that processes that only tokenize load this module without transformers.
        from dlgsum.models.tokenizer import make_normaliser, special_ids

        self.hf = tokenizer
        self.prefix = prefix
        self.eos_id = _required(tokenizer.eos_token_id, "end mark (eos_token)", "Set tokenizer.eos_token.")
        self.pad_id = _required(
            tokenizer.pad_token_id, "padding token (pad_token)", "Add pad_token to its tokenizer_config.json."
        )
        self._settings = settings
        self._extra_skip = frozenset(extra_skip)
        self._skip = special_ids(tokenizer) | self._extra_skip
        self._size = len(tokenizer)
        self._backend = tokenizer.backend_tokenizer
        self._normalise = make_normaliser(tokenizer)
        self.layout = TextLayout(
            backend=self._backend,
            prefix=prefix,
            source_limit=settings.encoder_max_len,
            target_limit=settings.decoder_max_len,
            ends_sources=settings.encoder_eos,
            eos_id=self.eos_id,
            control=frozenset(i for i in (self.eos_id, self.pad_id, self.bos_id) if i is not None),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.hf, self._settings, self.prefix, self._extra_skip)

    @property
    def bos_id(self) -> int | None:
        """The begin mark's id; None for tokenizers without one, such as T5's."""
        found: int | None = self.hf.bos_token_id
        return found

    @property
    def fingerprint(self) -> str:
        """A digest of everything that decides the ids: the same digest means the same encoding."""
        return self.layout.fingerprint

    def portable(self) -> TextLayout:
        """Return what makes the same ids in another process."""
        return self.layout

    def encode_sources(self, texts: Sequence[str]) -> Ids:
        """Return the ids of dialogues, cut at the end so that the end mark always fits.

        An empty list gives an empty list; an empty text gives the prefix and the end mark.
        """
        return self.layout.encode_sources(texts)

    def encode_targets(self, texts: Sequence[str]) -> Ids:
        """Return the ids of summaries with their end mark, cut so that it always fits."""
        return self.layout.encode_targets(texts)

    def measure_sources(self, texts: Sequence[str]) -> tuple[Ids, list[int]]:
        """Return what `encode_sources` does, and how many tokens each text has before it is cut, end mark included."""
        return self.layout.measure_sources(texts)

    def measure_targets(self, texts: Sequence[str]) -> tuple[Ids, list[int]]:
        """Return what `encode_targets` does, and how many tokens each text has before it is cut, end mark included."""
        return self.layout.measure_targets(texts)

    def decode(self, rows: Any) -> list[str]:
        """Return the texts of generated or label ids, without control tokens and outer spaces.

        Args:
            rows: lists of ids, or the rows of a tensor or array. Ids below zero (masked labels) and ids beyond
                the vocabulary (rows that only pad the embedding) are dropped; an empty row gives "".
        """
        from dlgsum.models.tokenizer import restore_jamo

        kept = [[i for i in _ids(row) if 0 <= i < self._size and i not in self._skip] for row in rows]
        # Skipping is done above, by hand, so that the backend cannot drop a tag as well.
        texts: list[str] = self._backend.decode_batch(kept, skip_special_tokens=False)
        return [restore_jamo(text).strip() for text in texts]

    def normalise(self, text: str) -> str:
        """Return the text as a perfect model could give it back: normalised, without outer spaces."""
        return self._normalise(text)


def _rebuild(
    tokenizer: PreTrainedTokenizerFast, settings: Tokenizer, prefix: str, extra_skip: frozenset[int]
) -> SummaryTokenizer:
    return SummaryTokenizer(tokenizer, settings, prefix, extra_skip=extra_skip)


def _required(found: int | None, what: str, hint: str) -> int:
    if found is None:
        raise EnvironmentProblem(f"The tokenizer has no {what}", hint)
    return found


def _ids(row: Any) -> Iterable[int]:
    if hasattr(row, "tolist"):
        row = row.tolist()
    return (int(i) for i in row)
