"""The random KoBART has the real one's shape, ids and layout, and the real job runs on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from dlgsum.config.schema import Model
from dlgsum.models.choice import KOBART, choose_checkpoint, is_cached
from dlgsum.models.loading import load_pretrained

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
TRIAL = [
    "model=kobart", "data=sample", "training.max_steps=2", "training.per_device_train_batch_size=2",
    "data.max_train_samples=16", "data.max_eval_samples=2", "generation.num_beams=1", "generation.max_length=8",
    "metrics=char",
]  # fmt: skip

sys.path.append(str(SCRIPTS))

import make_kobart_like  # noqa: E402


def process(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, _ = make_kobart_like.write_folder(tmp_path_factory.mktemp("tiny") / "model", make_kobart_like.TINY)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cache")
    make_kobart_like.write_hub_cache(path, make_kobart_like.TINY)
    return path


def test_the_tokenizer_has_kobarts_ids_and_make(folder: Path) -> None:
    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = {index: token for token, index in state["model"]["vocab"].items()}
    assert [tokens[index] for index in range(7)] == ["<s>", "</s>", "<usr>", "<pad>", "<sys>", "<unk>", "<mask>"]
    assert [tokens[index] for index in (7, 106)] == ["<unused0>", "<unused99>"]
    assert state["normalizer"]["type"] == "NFKC"
    assert state["pre_tokenizer"]["type"] == "Metaspace"
    assert state["pre_tokenizer"]["prepend_scheme"] == "always"
    assert state["post_processor"] is None
    assert "\n" in state["model"]["vocab"]
    hf = PreTrainedTokenizerFast.from_pretrained(folder)
    assert (hf.bos_token_id, hf.eos_token_id, hf.pad_token_id, hf.unk_token_id, hf.mask_token_id) == (0, 1, 3, 5, 6)
    ids = hf("안녕하세요\n반갑습니다", add_special_tokens=True)["input_ids"]
    assert hf.unk_token_id not in ids
    assert ids[-1] != hf.eos_token_id


def test_the_full_vocabulary_has_every_id_once() -> None:
    text, learned = make_kobart_like.make_tokenizer(30_000)
    ids = json.loads(text)["model"]["vocab"].values()
    assert sorted(ids) == list(range(30_000))
    assert learned > 5000


def test_a_vocabulary_without_room_for_characters_is_refused() -> None:
    with pytest.raises(ValueError, match="over 200"):
        make_kobart_like.make_tokenizer(200)


def test_the_configuration_keeps_kobarts_oddities(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["decoder_start_token_id"] == config["forced_eos_token_id"] == 2
    assert config["max_position_embeddings"] == 1026
    assert not (folder / "generation_config.json").exists()
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert model.config.decoder_start_token_id == 2
    assert model.num_parameters() < 2e6


def test_the_folder_says_that_it_is_useless(folder: Path) -> None:
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "knows nothing" in readme
    assert "random weights" in readme


def test_the_full_sizes_are_kobarts() -> None:
    assert make_kobart_like.FULL == {"vocab_size": 30_000, "d_model": 768, "layers": 6, "heads": 16, "ffn": 3072}


def test_the_hub_cache_is_found_and_loaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    assert is_cached(KOBART)
    choice = choose_checkpoint(Model())
    assert (choice.kind, choice.checkpoint, choice.reason) == ("pretrained", KOBART, "found in the local cache")
    model, tokenizer = load_pretrained(choice, Model())
    assert model.config.vocab_size == len(tokenizer) == make_kobart_like.TINY["vocab_size"]


def test_the_same_sizes_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again, _ = make_kobart_like.write_folder(tmp_path / "again", make_kobart_like.TINY)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_its_own_work_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    own = tmp_path / "own"
    make_kobart_like.write_folder(own, make_kobart_like.TINY)
    make_kobart_like.write_folder(own, make_kobart_like.TINY)
    for content in ("{}", "[]", "no JSON"):
        (own / "config.json").write_text(content, encoding="utf-8")
        with pytest.raises(FileExistsError, match="left alone"):
            make_kobart_like.write_folder(own, make_kobart_like.TINY)
    real = tmp_path / "cache" / "models--digit82--kobart-summarization" / "refs"
    real.mkdir(parents=True)
    (real / "main").write_text("0" * 40, encoding="utf-8")
    with pytest.raises(FileExistsError, match="left alone"):
        make_kobart_like.write_hub_cache(tmp_path / "cache", make_kobart_like.TINY)


def test_the_cache_of_all_programs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="random weights"):
        make_kobart_like.write_hub_cache(tmp_path / "hub", make_kobart_like.TINY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_real_job_runs_on_it(tmp_path: Path) -> None:
    cache = tmp_path / "a cache"
    made = process(str(SCRIPTS / "make_kobart_like.py"), "--hub-cache", str(cache), "--tiny")
    assert made.returncode == 0, made.stderr
    assert f"HF_HUB_CACHE='{cache}' HF_HUB_OFFLINE=1 dlgsum train model=kobart" in made.stdout
    assert "model.safetensors" in made.stdout
    output = tmp_path / "out"
    trained = process(
        "-m", "dlgsum", "train", *TRIAL, f"general.output_dir={output}", HF_HUB_CACHE=str(cache), HF_HUB_OFFLINE="1"
    )
    assert trained.returncode == 0, trained.stderr
    assert list(output.glob("experiments/*/models/best_model/model.safetensors"))


@pytest.mark.slow
def test_the_command_that_is_printed_for_a_folder_works(folder: Path, tmp_path: Path) -> None:
    trained = process(
        "-m", "dlgsum", "train", *TRIAL, f"model.checkpoint={folder}", f"general.output_dir={tmp_path}",
        HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
