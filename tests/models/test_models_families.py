"""Every model family, found by discovery, keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForSeq2SeqLM, BartConfig, GPT2Config, MT5Config, PreTrainedTokenizerFast

from dlgsum.config.schema.generation import Generation
from dlgsum.core import plugins
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.models.families.seq2seq import Seq2Seq
from dlgsum.models.family import ModelFamily, family_for

every_family = pytest.mark.parametrize("name", plugins.names("families"))


def test_seq2seq_is_found() -> None:
    assert "seq2seq" in plugins.names("families")


@every_family
def test_a_family_fulfils_the_contract(name: str) -> None:
    kind = plugins.load("families", name)
    assert issubclass(kind, ModelFamily) and kind.name == name
    family = kind()
    handled = [c for c in (BartConfig(), MT5Config(), GPT2Config()) if family.handles(c)]
    assert handled, "a family that handles nothing cannot be tested"
    for config in handled:
        assert isinstance(family.default_prefix(config), str)
        assert isinstance(family.unsafe_in_fp16(config), bool)
        limit = family.max_positions(config)
        assert limit is None or limit > 0


@every_family
@pytest.mark.parametrize("folder", ["kobart", "t5"])
def test_the_start_token_is_a_token_of_the_model(name: str, folder: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(folder)
    family = plugins.load("families", name)()
    if not family.handles(AutoConfig.from_pretrained(path)):
        pytest.skip("another family's model")
    model = AutoModelForSeq2SeqLM.from_pretrained(path)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    for setting, expected in {
        "model": model.config.decoder_start_token_id,
        "eos": tokenizer.eos_token_id,
        "pad": tokenizer.pad_token_id,
    }.items():
        assert family.decoder_start_id(model, tokenizer, Generation(decoder_start=setting)) == expected
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    with pytest.raises(EnvironmentProblem, match="decoder_start=model"):
        family.decoder_start_id(model, tokenizer, Generation())
    model.config.decoder_start_token_id = 10**6
    with pytest.raises(EnvironmentProblem, match="knows only 0 to"):
        family.decoder_start_id(model, tokenizer, Generation())


def test_a_tokenizer_without_begin_mark_cannot_start_with_it(t5: Path) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(t5)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(t5)
    with pytest.raises(EnvironmentProblem, match=r"decoder_start=bos.*the tokenizer names no such token"):
        Seq2Seq().decoder_start_id(model, tokenizer, Generation(decoder_start="bos"))


def test_what_t5_and_bart_differ_in() -> None:
    bart, mt5 = BartConfig(max_position_embeddings=1026), MT5Config()
    family = Seq2Seq()
    assert (family.default_prefix(bart), family.default_prefix(mt5)) == ("", "summarize: ")
    assert (family.unsafe_in_fp16(bart), family.unsafe_in_fp16(mt5)) == (False, True)
    assert (family.max_positions(bart), family.max_positions(mt5)) == (1026, None)


def test_causal_models_are_refused() -> None:
    with pytest.raises(EnvironmentProblem, match=r"'gpt2' are not supported[\s\S]*encoder–decoder"):
        family_for(GPT2Config())
