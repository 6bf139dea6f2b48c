from __future__ import annotations

import pytest
import torch
from checkpoint_makers import CORPUS, TAGS
from transformers import PreTrainedTokenizerFast

from dlgsum.config.schema.model import Mini, Tokenizer
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.models.mini import CONTROL_TOKENS, build_mini_config, build_mini_model, train_tokenizer
from dlgsum.models.tokenizer import prepare_tokenizer

SMALL = Mini(d_model=32, encoder_layers=1, decoder_layers=1, heads=2, ffn=64)


def test_control_tokens_have_kobarts_ids(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    assert mini_tokenizer.convert_tokens_to_ids(list(CONTROL_TOKENS)) == list(range(7))
    tokenizer = mini_tokenizer
    named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
    assert named == (0, 1, 3, 5)


def test_the_same_texts_give_the_same_tokenizer() -> None:
    first, second, reordered = (
        train_tokenizer(texts, vocab_size=3000).backend_tokenizer.to_str()
        for texts in (CORPUS, iter(CORPUS), list(reversed(CORPUS)))
    )
    assert first == second == reordered


def test_the_alphabet_is_known_whatever_the_texts() -> None:
    tokenizer = train_tokenizer([], vocab_size=500)
    text = "괜찮아 얹혀 ㅋㅋㅠㅠ “인용” ‘따옴’ … · ABC xyz 0-9 {~}\n뷰"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    syllables = [token for token in tokenizer.get_vocab() if len(token) == 1 and "가" <= token <= "힣"]
    assert len(syllables) == 2350


def test_newline_is_a_token_of_its_own(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    assert "\n" in mini_tokenizer.tokenize("밥을\n나는")
    assert [token for token in mini_tokenizer.get_vocab() if "\n" in token] == ["\n"]


def test_frequent_words_become_tokens(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = train_tokenizer(["나는 밥을 먹었다"] * 5, vocab_size=3000)
    assert tokenizer.tokenize("나는 밥을") == ["▁나는", "▁밥을"]


def test_the_configuration_fits_the_tokenizer(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = prepare_tokenizer(mini_tokenizer, tags=TAGS, settings=Tokenizer())
    config = build_mini_config(SMALL, tokenizer, max_positions=40, pad_to_multiple_of=64)
    assert config.vocab_size % 64 == 0 and config.vocab_size >= len(tokenizer)
    ids = (config.bos_token_id, config.eos_token_id, config.pad_token_id, config.decoder_start_token_id)
    assert ids == (0, 1, 3, 0)
    assert config.forced_eos_token_id is None
    model = build_mini_model(config, 1)
    model(input_ids=torch.ones(1, 40, dtype=torch.long), labels=torch.ones(1, 40, dtype=torch.long))


def test_a_tokenizer_without_marks_is_refused(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=mini_tokenizer.backend_tokenizer)
    with pytest.raises(EnvironmentProblem, match="pad_token"):
        build_mini_config(SMALL, bare, max_positions=40)


def test_the_seed_alone_decides_the_weights(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    config = build_mini_config(SMALL, mini_tokenizer, max_positions=40)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = build_mini_model(config, 1).state_dict()
    assert torch.equal(torch.rand(1), expected)
    second, other = build_mini_model(config, 1).state_dict(), build_mini_model(config, 2).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["model.shared.weight"], other["model.shared.weight"])
