from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoint_makers import CORPUS, LEGACY_GENERATION, TAGS
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from dlgsum.config.schema.generation import Generation
from dlgsum.config.schema.model import Mini, Model, Tokenizer
from dlgsum.core.errors import ConfigError
from dlgsum.models.choice import ModelChoice
from dlgsum.models.encoding import SummaryTokenizer
from dlgsum.models.families.seq2seq import Seq2Seq
from dlgsum.models.generation import apply_generation, build_generation_config
from dlgsum.models.loading import load_pretrained, resize_for
from dlgsum.models.mini import build_mini_config, build_mini_model
from dlgsum.models.tokenizer import prepare_tokenizer

IDS = {"decoder_start_id": 0, "eos_id": 1, "pad_id": 3, "bos_id": 0}
LENGTHS = Tokenizer(encoder_max_len=64, decoder_max_len=12)


def ready(name: str, request: pytest.FixtureRequest, settings: Generation | None = None):
    """A model as a recipe would have it just before training."""
    settings = settings or Generation(num_beams=2)
    if name == "mini":
        tokenizer = prepare_tokenizer(request.getfixturevalue("mini_tokenizer"), tags=TAGS, settings=LENGTHS)
        small = Mini(d_model=32, encoder_layers=1, decoder_layers=1, heads=2, ffn=64)
        model = build_mini_model(build_mini_config(small, tokenizer, max_positions=80), 1)
    else:
        folder = str(request.getfixturevalue(name))
        model, raw = load_pretrained(ModelChoice("pretrained", "auto", folder, ""), Model(checkpoint=folder))
        tokenizer = prepare_tokenizer(raw, tags=TAGS, settings=LENGTHS)
        resize_for(model, tokenizer, 8, seed=1)
    start = Seq2Seq().decoder_start_id(model, tokenizer, settings)
    summary = SummaryTokenizer(tokenizer, LENGTHS, extra_skip=[start])
    config = build_generation_config(
        settings, decoder_max_len=LENGTHS.decoder_max_len, decoder_start_id=start,
        eos_id=summary.eos_id, pad_id=summary.pad_id, bos_id=summary.bos_id,
    )  # fmt: skip
    apply_generation(model, config)
    return model.eval(), summary, start


every_model = pytest.mark.parametrize("name", ["kobart", "mini", "t5"])


@every_model
@pytest.mark.parametrize("start", ["model", "pad", "eos"])
def test_training_and_generation_start_the_decoder_alike(name: str, start: str, request: pytest.FixtureRequest) -> None:
    model, summary, start_id = ready(name, request, Generation(num_beams=1, decoder_start=start))
    labels = torch.tensor(summary.encode_targets(["#Person1#은 밥을 먹었다."]))
    shifted = model.prepare_decoder_input_ids_from_labels(labels)
    sources = torch.tensor(summary.encode_sources([CORPUS[0]]))
    generated = model.generate(sources)
    assert shifted[0, 0].item() == generated[0, 0].item() == start_id
    assert torch.equal(shifted[:, 1:], labels[:, :-1])


@every_model
@pytest.mark.parametrize("beams", [1, 3])
def test_a_summary_at_its_limit_ends_in_the_end_mark(name: str, beams: int, request: pytest.FixtureRequest) -> None:
    """KoBART as published ends it in `<usr>`, id 2."""
    model, summary, start = ready(name, request, Generation(num_beams=beams, min_length=12))
    [row] = model.generate(torch.tensor(summary.encode_sources([CORPUS[0]]))).tolist()
    assert row[0] == start and len(row) == 1 + LENGTHS.decoder_max_len
    assert row[-1] == summary.eos_id == 1


def test_the_published_kobart_ends_at_its_limit_in_usr(kobart: Path) -> None:
    """What `apply_generation` is for."""
    model = AutoModelForSeq2SeqLM.from_pretrained(kobart)
    row = model.generate(torch.tensor([[20, 21, 22, 1]]), max_length=6, min_length=6, num_beams=1)[0].tolist()
    assert row[-1] == LEGACY_GENERATION["forced_eos_token_id"] == 2


@every_model
def test_a_saved_model_generates_the_same_through_plain_auto_classes(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model, summary, _ = ready(name, request)
    sources = summary.encode_sources(CORPUS[:1])
    expected = model.generate(torch.tensor(sources))
    model.save_pretrained(tmp_path)
    summary.hf.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    again = SummaryTokenizer(AutoTokenizer.from_pretrained(tmp_path), LENGTHS)
    assert again.encode_sources(CORPUS[:1]) == sources
    assert torch.equal(loaded.generate(torch.tensor(sources)), expected)
    assert loaded.generation_config.to_diff_dict() == model.generation_config.to_diff_dict()
    assert "forced_eos_token_id" not in json.loads((tmp_path / "config.json").read_text()) or (
        loaded.generation_config.forced_eos_token_id == 1
    )


@every_model
def test_nothing_is_forced_when_asked_so(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model, _, _ = ready(name, request, Generation(num_beams=1, forced_eos=False))
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert model.generation_config.forced_eos_token_id is None
    assert loaded.generation_config.forced_eos_token_id is None


def test_lengths_count_the_end_mark_but_not_the_start(request: pytest.FixtureRequest) -> None:
    settings = Generation(num_beams=1, max_length=7, min_length=7)
    model, summary, _ = ready("mini", request, settings)
    [row] = model.generate(torch.tensor(summary.encode_sources([CORPUS[0]]))).tolist()
    assert len(row) == 1 + 7


def test_the_shortest_summary_has_min_length_tokens_with_its_end_mark(request: pytest.FixtureRequest) -> None:
    model, summary, _ = ready("mini", request, Generation(num_beams=1, min_length=5))
    with torch.no_grad():
        model.final_logits_bias[:, summary.eos_id] = 1e4  # it would stop at once
    [row] = model.generate(torch.tensor(summary.encode_sources([CORPUS[0]]))).tolist()
    assert len(row) == 1 + 5 and row[-1] == summary.eos_id


def test_beam_settings_are_given_to_beams_only() -> None:
    settings = Generation(num_beams=4, eval_num_beams=1, length_penalty=1.5)
    beams = build_generation_config(settings, decoder_max_len=20, **IDS)
    greedy = build_generation_config(settings, decoder_max_len=20, num_beams=settings.eval_num_beams, **IDS)
    assert (beams.num_beams, beams.length_penalty, beams.early_stopping) == (4, 1.5, True)
    assert (greedy.num_beams, greedy.length_penalty, greedy.early_stopping) == (1, 1.0, False)
    assert beams.max_length == 21 and beams.do_sample is False


@pytest.mark.parametrize("beams", [1, 4])
def test_greedy_generation_warns_of_nothing(
    beams: int, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also beside a model that uses beams: what is unset would be taken from its own configuration."""
    import logging

    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    settings = Generation(num_beams=beams, length_penalty=2.0)
    model, summary, _ = ready("mini", request, settings)
    greedy = build_generation_config(settings, decoder_max_len=20, num_beams=1, **IDS)
    caplog.clear()
    model.generate(torch.tensor(summary.encode_sources([CORPUS[0]])), generation_config=greedy)
    assert not caplog.records


def test_a_minimum_above_the_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_length=50.*20 tokens"):
        build_generation_config(Generation(min_length=50), decoder_max_len=20, **IDS)


def test_settings_set_on_the_configuration_do_not_stop_saving(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model, _, _ = ready("mini", request)
    config, model.config.num_beams = model.generation_config, 9
    apply_generation(model, config)
    model.save_pretrained(tmp_path)
