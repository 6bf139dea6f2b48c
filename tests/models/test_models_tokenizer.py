from __future__ import annotations

import pickle
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_makers import CORPUS, JOSA, MARKS, TAGS
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dlgsum.config.schema.model import Model, Tokenizer
from dlgsum.core.errors import ConfigError, EnvironmentProblem
from dlgsum.models.choice import ModelChoice
from dlgsum.models.encoding import SummaryTokenizer
from dlgsum.models.loading import load_pretrained
from dlgsum.models.tokenizer import find_tags, make_normaliser, prepare_tokenizer

TEXTS = [f"{tag}{josa}{mark} 밥을 {mark}{tag}{josa} 나{tag}" for tag, josa, mark in product(TAGS, JOSA, MARKS)] + [
    f"{tag} {josa}{mark}" for tag, josa, mark in product(TAGS, JOSA, MARKS)
]


def plain(folder: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(folder)


@pytest.fixture(params=["kobart", "mini", "t5"])
def source(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    if request.param == "mini":
        return request.getfixturevalue("mini_tokenizer")
    return plain(request.getfixturevalue(request.param))


@pytest.fixture
def prepared(source: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return prepare_tokenizer(source, tags=TAGS, settings=Tokenizer())


def round_trip(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[str]:
    summary = SummaryTokenizer(tokenizer, Tokenizer())
    return summary.decode(summary.encode_targets(texts))


def test_every_tag_with_every_josa_and_mark_comes_back(prepared: PreTrainedTokenizerFast) -> None:
    normalise = make_normaliser(prepared)
    wrong = [
        (text, back) for text, back in zip(TEXTS, round_trip(prepared, TEXTS), strict=True) if back != normalise(text)
    ]
    assert not wrong, f"{len(wrong)} of {len(TEXTS)}: {wrong[:3]}"


def test_whole_dialogues_come_back(prepared: PreTrainedTokenizerFast) -> None:
    assert round_trip(prepared, CORPUS) == [make_normaliser(prepared)(text) for text in CORPUS]


def test_normalisation_is_the_identity_on_plain_korean(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = prepare_tokenizer(mini_tokenizer, tags=TAGS, settings=Tokenizer())
    normalise = make_normaliser(tokenizer)
    assert [normalise(text) for text in TEXTS] == [text.strip() for text in TEXTS]


def test_tags_added_to_an_unprepared_tokenizer_gain_a_space(kobart: Path) -> None:
    """What the preparation is for: without it a perfect summary does not survive."""
    tokenizer = plain(kobart)
    tokenizer.add_tokens(TAGS)
    ids = tokenizer("#Person1#은 밥을", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "#Person1# 은 밥을"


def test_tags_are_single_tokens_that_skipping_special_tokens_keeps(prepared: PreTrainedTokenizerFast) -> None:
    ids = prepared("#Person1#은 #Person7#에게", add_special_tokens=False)["input_ids"]
    tokens = prepared.convert_ids_to_tokens(ids)
    assert tokens[0] == "#Person1#" and "#Person7#" in tokens
    assert prepared.decode(ids, skip_special_tokens=True) == "#Person1#은 #Person7#에게"
    assert not set(TAGS) & set(prepared.all_special_tokens)


def test_saved_and_loaded_by_auto_tokenizer_is_the_same(
    prepared: PreTrainedTokenizerFast, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The configuration beside it matters: AutoTokenizer picks a class by model type."""
    source = request.node.callspec.params["source"]
    folder = request.getfixturevalue("t5" if source == "t5" else "kobart")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    prepared.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert '"prepend_scheme":"always"' not in loaded.backend_tokenizer.to_str()
    assert loaded.backend_tokenizer.to_str() == prepared.backend_tokenizer.to_str()
    assert [loaded(t)["input_ids"] for t in CORPUS] == [prepared(t)["input_ids"] for t in CORPUS]
    assert set(loaded("밥을")) == {"input_ids", "attention_mask"}
    added = loaded.backend_tokenizer.get_added_tokens_decoder()
    assert {t.content for t in added.values() if not t.special} >= set(TAGS)
    assert round_trip(loaded, TEXTS[:500]) == round_trip(prepared, TEXTS[:500])
    again = prepare_tokenizer(loaded, tags=TAGS, settings=Tokenizer())
    fingerprints = {SummaryTokenizer(t, Tokenizer()).fingerprint for t in (prepared, loaded, again)}
    assert len(fingerprints) == 1


def test_numbers_of_two_digits_do_not_clash(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    tags = ["#Person1#", "#Person10#", "#Person100#"]
    tokenizer = prepare_tokenizer(mini_tokenizer, tags=tags, settings=Tokenizer(special_tokens=["#Per"]))
    tokens = tokenizer.tokenize("#Person10#과 #Person1#이 #Person100#을")
    assert [t for t in tokens if t.startswith("#")] == ["#Person10#", "#Person1#", "#Person100#"]


def test_special_tokens_of_the_settings_are_ordinary_and_control_tokens_stay(
    mini_tokenizer: PreTrainedTokenizerFast,
) -> None:
    settings = Tokenizer(special_tokens=["[TOPIC]", "</s>", "<usr>"])
    tokenizer = prepare_tokenizer(mini_tokenizer, tags=[], settings=settings)
    assert round_trip(tokenizer, ["[TOPIC]밥을 <usr>이"]) == ["[TOPIC]밥을 <usr>이"]
    assert tokenizer.eos_token == "</s>" and tokenizer.eos_token_id in tokenizer.all_special_ids


def test_text_that_looks_like_a_control_token_is_text(prepared: PreTrainedTokenizerFast) -> None:
    summary = SummaryTokenizer(prepared, Tokenizer())
    [ids] = summary.encode_sources(["나는 </s>밥을 <pad>"])
    assert ids.count(summary.eos_id) == 1 and summary.pad_id not in ids


def test_begin_and_end_marks_can_be_named(kobart: Path) -> None:
    settings = Tokenizer(bos_token="<usr>", eos_token="<sys>")
    tokenizer = prepare_tokenizer(plain(kobart), tags=TAGS, settings=settings)
    summary = SummaryTokenizer(tokenizer, settings)
    assert (summary.bos_id, summary.eos_id) == (2, 4)
    assert summary.decode(summary.encode_targets(["나는 밥을"])) == ["나는 밥을"]


def test_unknown_begin_and_end_marks_are_reported_together(kobart: Path) -> None:
    settings = Tokenizer(bos_token="[BOS]", eos_token="[EOS]")
    with pytest.raises(ConfigError, match=r"(?s)'\[BOS\]'.*'\[EOS\]'"):
        prepare_tokenizer(plain(kobart), tags=[], settings=settings)


def test_a_tokenizer_that_loses_spaces_is_refused() -> None:
    letters = sorted(set("나는밥을은이가와에게absd: ,.") | set("#Person1#"))
    backend = Backend(models.WordLevel({c: i for i, c in enumerate(["<unk>", *letters])}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Split("", "isolated")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    with pytest.raises(EnvironmentProblem, match=r"'#Person1#은 .*' became '.*' after"):
        prepare_tokenizer(tokenizer, tags=["#Person1#"], settings=Tokenizer())


def test_a_tokenizer_that_knows_no_probe_is_said_to_be_unchecked(caplog: pytest.LogCaptureFixture) -> None:
    backend = Backend(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    prepare_tokenizer(tokenizer, tags=["#Person1#"], settings=Tokenizer())
    assert "unchecked" in caplog.text


def test_a_byte_level_tokenizer_with_a_space_before_every_piece_is_corrected() -> None:
    """As pko-t5's: bytes, not SentencePiece."""
    from tokenizers import decoders, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        special_tokens=["<pad>", "</s>"], initial_alphabet=alphabet, show_progress=False, vocab_size=500
    )
    backend.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")
    prepared = prepare_tokenizer(tokenizer, tags=TAGS, settings=Tokenizer())
    assert round_trip(prepared, TEXTS[:2000]) == [text.strip() for text in TEXTS[:2000]]


def test_normalizers_that_trim_pieces_are_taken_out(t5: Path) -> None:
    """As SentencePiece models converted by transformers 4: the space before a tag would be lost."""
    import json

    tokenizer = plain(t5)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["normalizer"] = {"type": "Strip", "strip_left": False, "strip_right": True}
    trimming = PreTrainedTokenizerFast(
        tokenizer_object=Backend.from_str(json.dumps(state)), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    prepared = prepare_tokenizer(trimming, tags=TAGS, settings=Tokenizer())
    assert round_trip(prepared, ["밥을 #Person1# 에게"]) == ["밥을 #Person1# 에게"]


def test_a_tokenizer_without_backend_is_refused() -> None:
    with pytest.raises(EnvironmentProblem, match="no fast backend"):
        prepare_tokenizer(object(), tags=[], settings=Tokenizer())


@pytest.mark.parametrize("missing", ["eos_token", "pad_token"])
def test_missing_marks_are_reported(mini_tokenizer: PreTrainedTokenizerFast, missing: str) -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=mini_tokenizer.backend_tokenizer,
        **{key: value for key, value in mini_tokenizer.special_tokens_map.items() if key != missing},
    )
    with pytest.raises(EnvironmentProblem, match=missing):
        SummaryTokenizer(tokenizer, Tokenizer())


def test_sources_and_targets_end_in_one_end_mark(prepared: PreTrainedTokenizerFast) -> None:
    """T5's own post-processor would add a second one."""
    summary = SummaryTokenizer(prepared, Tokenizer(encoder_max_len=16, decoder_max_len=8), "summarize: ")
    for rows, limit in (
        (summary.encode_sources([*CORPUS, "밥을", ""]), 16),
        (summary.encode_targets([*CORPUS, "밥을", ""]), 8),
    ):
        for ids in rows:
            assert ids[-1] == summary.eos_id and ids.count(summary.eos_id) == 1 and len(ids) <= limit
        assert len(rows[0]) == limit  # cut, and still ended
    assert summary.encode_targets([""]) == [[summary.eos_id]]
    assert summary.encode_sources([]) == [] and summary.decode([]) == []


def test_sources_without_end_mark(prepared: PreTrainedTokenizerFast) -> None:
    summary = SummaryTokenizer(prepared, Tokenizer(encoder_max_len=8, encoder_eos=False))
    [ids] = summary.encode_sources([CORPUS[0]])
    assert len(ids) == 8 and summary.eos_id not in ids


def test_the_prefix_comes_first(prepared: PreTrainedTokenizerFast) -> None:
    summary = SummaryTokenizer(prepared, Tokenizer(), "s: ")
    assert summary.decode(summary.encode_sources(["#Person1#은"])) == ["s: #Person1#은"]


def test_decoding_drops_padding_masks_and_unknown_ids_but_no_speakers(kobart: Path) -> None:
    tokenizer = prepare_tokenizer(plain(kobart), tags=TAGS, settings=Tokenizer())
    summary = SummaryTokenizer(tokenizer, Tokenizer(), extra_skip=[2])
    [ids] = summary.encode_targets(["#Person1#은 밥을"])
    row = [2, 0, *ids, 2, 3, 3, -100, len(tokenizer), len(tokenizer) + 5]
    assert summary.decode([row, []]) == ["#Person1#은 밥을", ""]
    assert summary.decode(torch.tensor([row, row])) == ["#Person1#은 밥을"] * 2
    assert summary.decode(np.array([row])) == ["#Person1#은 밥을"]
    assert summary.decode([torch.tensor(row)]) == ["#Person1#은 밥을"]


def test_the_fingerprint_changes_with_whatever_changes_the_ids(kobart: Path) -> None:
    tokenizer = prepare_tokenizer(plain(kobart), tags=TAGS, settings=Tokenizer())
    other = prepare_tokenizer(plain(kobart), tags=TAGS[1:], settings=Tokenizer())
    variants = [
        SummaryTokenizer(tokenizer, Tokenizer()),
        SummaryTokenizer(other, Tokenizer()),
        SummaryTokenizer(tokenizer, Tokenizer(), "summarize: "),
        SummaryTokenizer(tokenizer, Tokenizer(encoder_max_len=100)),
        SummaryTokenizer(tokenizer, Tokenizer(decoder_max_len=100)),
        SummaryTokenizer(tokenizer, Tokenizer(encoder_eos=False)),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)
    assert SummaryTokenizer(tokenizer, Tokenizer()).fingerprint == variants[0].fingerprint


def test_find_tags() -> None:
    assert find_tags(["#Person2#은 #Person1#", "#Person2# #Email# #1# ## # Person1#"]) == [
        "#Email#",
        "#Person1#",
        "#Person2#",
    ]
    assert find_tags([]) == []


def test_auto_tokenizer_would_replace_kobarts_backend(kobart: Path) -> None:
    """Why loading reads tokenizer.json itself: every BART gets RoBERTa's class, which has bytes for tokens."""
    auto = AutoTokenizer.from_pretrained(kobart)
    choice = ModelChoice("pretrained", "auto", str(kobart), "")
    _, own = load_pretrained(choice, Model(checkpoint=str(kobart)))
    assert "ByteLevel" in auto.backend_tokenizer.to_str()
    assert own.tokenize("나는 밥을") == plain(kobart).tokenize("나는 밥을")
    assert "ByteLevel" not in own.backend_tokenizer.to_str()


def test_lengths_before_cutting(mini_tokenizer):
    prepared = prepare_tokenizer(mini_tokenizer, tags=[], settings=Tokenizer())
    whole = SummaryTokenizer(prepared, Tokenizer(encoder_max_len=900, decoder_max_len=900), "s: ")
    cut = SummaryTokenizer(prepared, Tokenizer(encoder_max_len=8, decoder_max_len=8), "s: ")
    texts = [*CORPUS, "밥을", ""]
    for name in ("sources", "targets"):
        ids, lengths = getattr(cut, f"measure_{name}")(texts)
        assert ids == getattr(cut, f"encode_{name}")(texts)
        assert lengths == [len(row) for row in getattr(whole, f"encode_{name}")(texts)]
        assert max(lengths) > 8 and max(map(len, ids)) == 8
    open_ended = SummaryTokenizer(prepared, Tokenizer(encoder_max_len=8, encoder_eos=False), "s: ")
    _, without = open_ended.measure_sources(texts)
    assert [length + 1 for length in without] == cut.measure_sources(texts)[1], "no end mark, nothing to count"


def test_a_summary_tokenizer_can_be_sent_to_another_process(mini_tokenizer):
    prepared = prepare_tokenizer(mini_tokenizer, tags=["#Person1#"], settings=Tokenizer())
    summary = SummaryTokenizer(prepared, Tokenizer(encoder_max_len=16), "s: ", extra_skip=[7])
    texts = ["#Person1#은 밥을 먹었다.", ""]
    for sent in (summary, summary.portable()):
        again = pickle.loads(pickle.dumps(sent))  # noqa: S301
        assert again.fingerprint == summary.fingerprint
        assert again.measure_sources(texts) == summary.measure_sources(texts)
        assert again.measure_targets(texts) == summary.measure_targets(texts)
    whole = pickle.loads(pickle.dumps(summary))  # noqa: S301
    ids = [[7, *row] for row in summary.encode_targets(texts)]
    assert whole.decode(ids) == summary.decode(ids) and whole.normalise(" ㅋ ") == summary.normalise(" ㅋ ")
