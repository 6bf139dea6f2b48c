from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from checkpoint_makers import TAGS, make_kobart, make_t5
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import GPT2Config

from dlgsum.config.schema.model import Model, Tokenizer
from dlgsum.core.errors import ConfigError, EnvironmentProblem
from dlgsum.models.choice import KOBART, ModelChoice, choose_checkpoint, is_cached
from dlgsum.models.loading import load_pretrained, resize_for
from dlgsum.models.tokenizer import prepare_tokenizer

SECONDS = 0.6


@pytest.fixture(autouse=True)
def no_hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub at a closed port."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    )
    return cache


def in_cache(cache: Path, name: str, folder: Path) -> None:
    """Lay a checkpoint out as the hub's client does."""
    repo = cache / f"models--{name.replace('/', '--')}"
    commit = "0" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    shutil.copytree(folder, repo / "snapshots" / commit)


def load(folder: Path | str, **settings: object) -> tuple:
    choice = ModelChoice("pretrained", "auto", str(folder), "")
    return load_pretrained(choice, Model(checkpoint=str(folder), **settings))


@pytest.fixture
def copy(kobart: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kobart, tmp_path / "copy"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(404 if "missing" in self.path else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hub) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield asked
        hub.shutdown()
        thread.join()


# Choosing


def test_the_hub_answers(server: list[str]) -> None:
    choice = choose_checkpoint(Model())
    assert (choice.kind, choice.architecture, choice.checkpoint) == ("pretrained", "kobart", KOBART)
    assert "answered in" in choice.reason
    assert server == [f"/{KOBART}/resolve/main/config.json"]


def test_the_hub_does_not_have_it(server: list[str]) -> None:
    choice = choose_checkpoint(Model(revision="missing"))
    assert choice.kind == "mini" and "status 404" in choice.reason


def test_a_closed_port() -> None:
    choice = choose_checkpoint(Model(hub_timeout=SECONDS))
    assert (choice.kind, choice.checkpoint) == ("mini", "kobart_mini")
    assert constants.ENDPOINT in choice.reason and "cannot be reached" in choice.reason


def test_a_hub_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        choice = choose_checkpoint(Model(hub_timeout=SECONDS))
        assert time.monotonic() - started < SECONDS + 0.5
    assert choice.kind == "mini"


def test_a_name_lookup_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up a name knows no timeout; the wait is bounded all the same."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(20) and [])
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    started = time.monotonic()
    choice = choose_checkpoint(Model(hub_timeout=SECONDS))
    assert time.monotonic() - started < SECONDS + 0.5
    assert "did not answer within 0.6 s" in choice.reason
    release.set()


def test_offline_mode_asks_nobody(server: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    choice = choose_checkpoint(Model())
    assert choice.kind == "mini" and "HF_HUB_OFFLINE" in choice.reason and not server


@pytest.mark.parametrize("weights", ["safetensors", "bin"])
def test_cached_weights_are_used_without_asking(tmp_path: Path, no_hub: Path, server: list[str], weights: str) -> None:
    in_cache(no_hub, KOBART, make_kobart(tmp_path / "made", weights=weights))
    choice = choose_checkpoint(Model())
    assert (choice.kind, choice.reason) == ("pretrained", "found in the local cache")
    model, _ = load_pretrained(choice, Model())
    assert model.config.model_type == "bart" and not server


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_half_filled_cache_does_not_count(copy: Path, no_hub: Path, missing: str) -> None:
    (copy / missing).unlink()
    in_cache(no_hub, KOBART, copy)
    assert choose_checkpoint(Model(hub_timeout=SECONDS)).kind == "mini"


def test_what_is_asked_for_is_taken() -> None:
    assert choose_checkpoint(Model(architecture="kobart_mini")).kind == "mini"
    assert choose_checkpoint(Model(checkpoint="kobart_mini")).kind == "mini"
    assert choose_checkpoint(Model(architecture="kobart")).checkpoint == KOBART
    choice = choose_checkpoint(Model(architecture="t5", checkpoint="paust/pko-t5-base"))
    assert choice == ModelChoice("pretrained", "t5", "paust/pko-t5-base", "as asked")


@pytest.mark.parametrize(
    ("architecture", "checkpoint"),
    [("kobart_mini", "some/model"), ("kobart", "kobart_mini"), ("t5", "auto"), ("mt5", "auto"), ("bart", "auto")],
)
def test_contradictions_are_refused(architecture: str, checkpoint: str) -> None:
    with pytest.raises(ConfigError, match=f"model.architecture={architecture}"):
        choose_checkpoint(Model(architecture=architecture, checkpoint=checkpoint))


def test_choosing_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import os, sys; os.environ['HF_HUB_OFFLINE'] = '1'; "
        "from dlgsum.models.choice import choose_checkpoint; from dlgsum.config.schema.model import Model; "
        "choose_checkpoint(Model(checkpoint='kobart_mini')); choose_checkpoint(Model()); "
        "print(sorted({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Loading


@pytest.mark.parametrize("weights", ["safetensors", "bin"])
def test_kobart_loads_in_float32(tmp_path: Path, weights: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_kobart(tmp_path / "kobart", weights=weights)
    model, tokenizer = load(folder)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 3)
    assert "token_type_ids" not in prepare_tokenizer(tokenizer, tags=[], settings=Tokenizer())("나는")
    assert not [record for record in caplog.records if record.name.startswith("dlgsum")]


def test_half_precision_weights_become_float32(copy: Path) -> None:
    weights = {key: value.half() for key, value in load_file(copy / "model.safetensors").items()}
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text()) | {"dtype": "float16"}
    (copy / "config.json").write_text(json.dumps(config))
    for pretrained in (True, False):
        assert {p.dtype for p in load(copy, load_pretrained=pretrained)[0].parameters()} == {torch.float32}


def test_a_pickle_cannot_run_code(copy: Path, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps({"model.shared.weight": Evil()}))
    with pytest.raises(EnvironmentProblem, match=r"weights of .* cannot be loaded"):
        load(copy)
    assert not (tmp_path / "ran").exists()


def test_random_weights_instead_of_the_checkpoints(kobart: Path) -> None:
    trained, _ = load(kobart)
    torch.manual_seed(3)
    first, _ = load(kobart, load_pretrained=False)
    torch.manual_seed(3)
    second, _ = load(kobart, load_pretrained=False)
    shared = "model.shared.weight"
    assert torch.equal(first.state_dict()[shared], second.state_dict()[shared])
    assert not torch.equal(first.state_dict()[shared], trained.state_dict()[shared])


def test_marks_missing_from_the_tokenizer_come_from_the_configuration(copy: Path) -> None:
    (copy / "tokenizer_config.json").unlink()
    _, tokenizer = load(copy)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("</s>", "<pad>")


def test_the_architecture_is_compared(kobart: Path) -> None:
    choice = ModelChoice("pretrained", "t5", str(kobart), "")
    with pytest.raises(ConfigError, match=r"architecture=t5, but .* is a bart model"):
        load_pretrained(choice, Model())


def test_missing_and_unexpected_weights_are_named(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["stranger.weight"] = weights.pop("model.encoder.layers.0.fc1.weight")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    load(copy)
    assert "MISSING" in caplog.text and "model.encoder.layers.0.fc1.weight" in caplog.text
    assert "stranger.weight" in caplog.text


def test_weights_of_another_model_are_refused(copy: Path) -> None:
    save_file({"stranger.weight": torch.zeros(2)}, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EnvironmentProblem, match="None of the weights"):
        load(copy)


def test_weights_of_another_size_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text()) | {"d_model": 64}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(EnvironmentProblem, match=r"weights of .* cannot be loaded"):
        load(copy)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99])
def test_truncated_safetensors(copy: Path, kept: float) -> None:
    file = copy / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(EnvironmentProblem, match=r"weights of .* cannot be loaded[\s\S]*copy it again"):
        load(copy)


def test_truncated_bin(tmp_path: Path) -> None:
    folder = make_kobart(tmp_path / "kobart", weights="bin")
    file = folder / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(EnvironmentProblem, match=r"weights of .* cannot be loaded"):
        load(folder)


def test_missing_weights(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(EnvironmentProblem, match=r"weights of .* cannot be loaded"):
        load(copy)


def test_missing_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").unlink()
    with pytest.raises(EnvironmentProblem, match=r"tokenizer of .* cannot be loaded[\s\S]*tokenizer.json"):
        load(copy)


def test_a_sentencepiece_model_needs_its_package(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "tokenizer.json").rename(copy / "spiece.model")
    monkeypatch.setattr("dlgsum.models.loading.find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="pip install sentencepiece"):
        load(copy)


def test_damaged_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(EnvironmentProblem, match=r"tokenizer of .* cannot be loaded"):
        load(copy)


def test_damaged_configuration(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    with pytest.raises(EnvironmentProblem, match=r"configuration of .* cannot be read"):
        load(copy)


def test_causal_checkpoints_are_refused(copy: Path) -> None:
    GPT2Config().save_pretrained(copy)
    with pytest.raises(EnvironmentProblem, match=r"'gpt2' are not supported[\s\S]*encoder–decoder"):
        load(copy)


def test_code_of_its_own_is_not_run(copy: Path) -> None:
    config = {"model_type": "strange", "auto_map": {"AutoConfig": "code.Config", "AutoModelForSeq2SeqLM": "code.M"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(EnvironmentProblem, match=r"Python code of its own[\s\S]*trust_remote_code=true"):
        load(copy)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "does not exist"),
        ("./models/mine", "does not exist"),
        ("a/b/c", "does not exist"),
        ("mine/", "does not exist"),
    ],
)
def test_folders_that_do_not_exist(name: str, message: str) -> None:
    with pytest.raises(EnvironmentProblem, match=message):
        load(name)


def test_folders_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"has no config\.json"):
        load(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="is a file"):
        load(tmp_path / "file")


def test_a_hub_name_without_network() -> None:
    started = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=r"hub cannot be reached[\s\S]*kobart_mini"):
        load("someone/something")
    assert time.monotonic() - started < 5


def test_a_hub_name_in_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentProblem, match="hub cannot be reached"):
        load("someone/something")


def test_names_that_no_hub_has() -> None:
    assert not is_cached("with space") and not is_cached("/no/such/folder")
    with pytest.raises(EnvironmentProblem, match="neither a folder nor on the hub"):
        load("with space")


# Resizing


def test_the_embedding_grows_to_a_multiple_and_never_shrinks(kobart: Path) -> None:
    model, raw = load(kobart)
    before = model.model.shared.weight.detach().clone()
    tokenizer = prepare_tokenizer(raw, tags=TAGS, settings=Tokenizer())
    resize_for(model, tokenizer, 64, seed=1)
    rows = model.get_input_embeddings().num_embeddings
    assert rows % 64 == 0 and len(tokenizer) <= rows < len(tokenizer) + 64
    assert model.config.vocab_size == model.lm_head.out_features == model.final_logits_bias.shape[1] == rows
    assert torch.equal(model.model.shared.weight[: len(before)], before)
    assert model.lm_head.weight is model.model.shared.weight
    resize_for(model, raw, 64, seed=1)
    assert model.get_input_embeddings().num_embeddings == rows


def test_new_rows_depend_on_the_seed_alone(kobart: Path) -> None:
    def grown(seed: int) -> torch.Tensor:
        model, raw = load(kobart)
        torch.rand(1)
        state = torch.get_rng_state()
        resize_for(model, prepare_tokenizer(raw, tags=TAGS, settings=Tokenizer()), 8, seed=seed)
        assert torch.equal(state, torch.get_rng_state())
        return model.model.shared.weight.detach()

    assert torch.equal(grown(1), grown(1))
    assert not torch.equal(grown(1), grown(2))


def test_an_output_layer_of_its_own_survives_growing_and_saving(tmp_path: Path) -> None:
    """As in T5 1.1, mT5 and pko-t5: transformers would tie it to the embedding."""
    folder = make_t5(tmp_path / "t5", own_output_layer=True)
    model, raw = load(folder)
    head = model.lm_head.weight.detach().clone()
    assert not torch.equal(head, model.shared.weight)
    tokenizer = prepare_tokenizer(raw, tags=TAGS, settings=Tokenizer())
    resize_for(model, tokenizer, 8, seed=1)
    assert torch.equal(model.lm_head.weight[: len(head)], head)
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    again, _ = load(tmp_path / "saved")
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)
    assert again.config.scale_decoder_outputs == model.config.scale_decoder_outputs is False
