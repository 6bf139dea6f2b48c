from __future__ import annotations

from pathlib import Path

import pytest
from checkpoint_makers import CORPUS, make_kobart, make_t5
from transformers import PreTrainedTokenizerFast

from dlgsum.models.mini import train_tokenizer


@pytest.fixture(scope="session")
def kobart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kobart(tmp_path_factory.mktemp("hub") / "kobart")


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5(tmp_path_factory.mktemp("hub") / "t5")


@pytest.fixture(scope="session")
def mini_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(CORPUS, vocab_size=3000)
