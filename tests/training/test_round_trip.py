"""Every bundled dialogue and summary survives encoding and decoding, so that a perfect model would score 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlgsum.config.schema import Data, Tokenizer
from dlgsum.data.rows import Split
from dlgsum.data.sources import load_splits, resolve_files
from dlgsum.models.encoding import SummaryTokenizer
from dlgsum.models.mini import train_tokenizer
from dlgsum.models.tokenizer import find_tags, prepare_tokenizer


@pytest.fixture(scope="module")
def splits() -> list[Split]:
    data = Data(source="sample")
    return load_splits(resolve_files(data, folder=Path("/nowhere")), data).all


@pytest.fixture(scope="module")
def tokenizer(splits: list[Split]) -> SummaryTokenizer:
    texts = [text for row in splits[0].rows for text in (row.dialogue, *row.references)]
    settings = Tokenizer(encoder_max_len=4096, decoder_max_len=4096)
    trained = train_tokenizer(texts, vocab_size=6000)
    return SummaryTokenizer(prepare_tokenizer(trained, tags=find_tags(texts), settings=settings), settings)


@pytest.mark.parametrize("number", [0, 1, 2], ids=["train", "validation", "test"])
def test_every_bundled_text_comes_back(splits: list[Split], tokenizer: SummaryTokenizer, number: int) -> None:
    texts = [text for row in splits[number].rows for text in (row.dialogue, *row.references)]
    assert len(texts) >= 300
    assert tokenizer.decode(tokenizer.encode_targets(texts)) == texts
    assert tokenizer.decode(tokenizer.encode_sources(texts)) == texts


def test_lone_letters_come_back_as_people_type_them(tokenizer: SummaryTokenizer) -> None:
    texts = ["#Person1#: ㅋㅋ 네 ㅠㅠ", "ㅎㅎ #Person2#은 ㅇㅋ"]
    assert tokenizer.decode(tokenizer.encode_targets(texts)) == texts
