"""Registered models are verified, exported and described with real files that transformers loads."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, metadata_load

from dlgsum.config.compose import compose, to_yaml
from dlgsum.config.request import Request
from dlgsum.core.errors import DataError, UsageError
from dlgsum.core.files import read_json
from dlgsum.recipes import models
from dlgsum.recipes.model_card import Card, Part, hub_name, render
from dlgsum.recipes.models_export import Exported, export_model
from dlgsum.recipes.models_verify import models_to_verify, verify_model
from dlgsum.tracking.registry import ModelRegistry

KIWI, CHAR = "rouge_combined_f1|scorer:kiwi|refs:mean", "rouge_combined_f1|scorer:char|refs:mean"
SECRET = "hooks.slack.com/services/T0AAAAAAA/B0BBBBBBB/geheim"
PERFORMANCE = {"rouge1_f1": 0.41, "rouge_combined_f1": 0.34, "bleu": float("nan"), "loss": 1.25, "test_rougeL_f1": 0.3}
INFO = {
    "learning_rate": 0.001, "seed": 7, "test_signature": CHAR, "data": {"train": "e" * 64, "validation": "a" * 64},
    "rows": {"train": 12, "validation": 3}, "wandb_url": "https://example.org/team",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model of random weights, with all that a best model has beside it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("made") / "best_model"
    words = ["<pad>", "<s>", "</s>", "<unk>", "#Person1#:", "#Person2#:", "네,", "/", "/root/x", "회의실에서"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    config = BartConfig(
        vocab_size=16, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=160,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(folder)
    saved = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**saved, "_name_or_path": "/home/kim/start", "vocab_file": "/a/b"}))
    overrides = [
        "model.checkpoint=/home/kim/weights", "data.source=csv", "data.train=/home/kim/train.csv",
        "data.validation=/home/kim/dev.csv", "tracking.notes='for the boss'", "wandb.entity=our-team",
        f"monitoring.alerts.slack_webhook_url='https://{SECRET}'", "general.output_dir=/home/kim/out",
        "tokenizer.encoder_max_len=128", "tokenizer.decoder_max_len=12", "metrics=char", "training.learning_rate=0.001",
    ]  # fmt: skip
    (folder / "dlgsum.yaml").write_text(to_yaml(compose(Request(overrides=overrides, environ={})).config))
    (folder / "README.md").write_text("# trained at /home/kim")
    (folder / "optimizer.pt").write_bytes(b"state of training")
    return folder


@pytest.fixture
def registry(tmp_path: Path, made: Path) -> ModelRegistry:
    registry = ModelRegistry(tmp_path / "outputs")
    folder = shutil.copytree(made, registry.output_dir / "experiments" / "20260101_000000_a" / "models" / "best_model")
    registry.register_model(
        "요약기", "bart", "/home/kim/weights", {"general": {"output_dir": "/home/kim/out"}}, PERFORMANCE, INFO,
        folder, "20260101_000000_a", KIWI, "a" * 64,
    )  # fmt: skip
    return registry


def folder_of(registry: ModelRegistry) -> Path:
    return Path(registry.get_model_info("요약기")["path"])


def test_a_good_model_loads_and_summarizes(registry: ModelRegistry) -> None:
    (folder_of(registry) / "notes.txt").write_text("mine")
    progress: list[tuple[int, int]] = []
    (model,) = models_to_verify(registry, [], every=True)
    found = verify_model(registry, model, on_progress=lambda done, total: progress.append((done, total)))
    assert (found.problem, found.loaded, found.additional) == ("", True, ("notes.txt",))
    assert isinstance(found.summary, str)
    assert progress[-1] == (model.size, model.size)


def test_what_became_of_the_files_is_told(registry: ModelRegistry) -> None:
    folder = folder_of(registry)
    model = registry.resolve("요약기")
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1  # the same size, so that only the hash tells
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "tokenizer.json").unlink()
    found = verify_model(registry, model)
    assert (found.changed, found.missing) == (("model.safetensors",), ("tokenizer.json",))
    assert (found.good, found.loaded) == (False, None)
    with pytest.raises(DataError, match=r"changed: model\.safetensors; missing: tokenizer\.json"):
        models.promote(registry, "요약기", "champion")
    assert models.promote(registry, "요약기", "champion", force=True).warnings
    shutil.rmtree(folder)
    assert "are gone" in verify_model(registry, model).problem


def test_a_model_that_does_not_load_is_told(registry: ModelRegistry) -> None:
    folder = folder_of(registry)
    (folder / "model.safetensors").write_bytes(b"no weights at all")
    registry.register_model("broken", "bart", "", {}, {}, {}, folder)
    found = verify_model(registry, registry.resolve("broken"))
    assert (found.changed, found.loaded) == ((), False)
    assert "it does not load" in found.problem


def test_as_a_folder_a_model_is_copied_as_it_is(registry: ModelRegistry, tmp_path: Path) -> None:
    done = export_model(registry, "요약기@1", tmp_path / "copy")
    source = folder_of(registry)
    assert done.left_out == []
    assert {name: (source / name).read_bytes() for name in done.files} == {
        path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()
    }


@pytest.fixture
def exported(registry: ModelRegistry, tmp_path: Path) -> Exported:
    return export_model(registry, "요약기", tmp_path / "hub", layout="hub")


def test_for_the_hub_nothing_of_this_house_goes_along(exported: Exported) -> None:
    folder = Path(exported.folder)
    assert exported.files == [
        "README.md", "config.json", "dlgsum.yaml", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert exported.left_out == ["optimizer.pt"]
    texts = "".join(
        (folder / it).read_text() for it in exported.files if not it.endswith((".safetensors", "izer.json"))
    )
    for private in (
        "/home",
        "kim",
        "boss",
        "our-team",
        "geheim",
        "slack.com",
        "example.org",
        socket.gethostname() + ".",
    ):
        assert private not in texts
    assert "/root/x" in (folder / "tokenizer.json").read_text()  # a token is no path
    config = compose(Request(base=folder / "dlgsum.yaml", environ={})).config
    assert (config.tokenizer.encoder_max_len, config.training.learning_rate) == (128, 0.001)
    assert (config.data.train, config.general.output_dir) == (None, "./outputs")
    assert config.model.checkpoint == "a local model"
    assert "from a local model." in (folder / "README.md").read_text()


def test_what_was_exported_loads(exported: Exported) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    from dlgsum.recipes.predict import predict, text_input
    from dlgsum.recipes.use import find_model

    AutoModelForSeq2SeqLM.from_pretrained(exported.folder)
    assert AutoTokenizer.from_pretrained(exported.folder).pad_token == "<pad>"
    trained = find_model(exported.folder, Request(environ={}))
    assert len(predict(trained, text_input("#Person1#: 네,", trained), batch_size=1)) == 1


def test_the_hub_can_read_the_card(exported: Exported) -> None:
    path = Path(exported.folder) / "README.md"
    data = ModelCard.load(path).data
    assert (data.language, data.pipeline_tag, data.license, data.base_model) == ("ko", "summarization", "unknown", None)
    results = {(it.dataset_split, it.metric_name): it for it in data.eval_results}
    assert set(results) == {
        ("validation", "rouge1_f1"), ("validation", "rouge_combined_f1"), ("test", "rougeL_f1"),
    }  # fmt: skip  # NaN and the loss are no results
    assert results["validation", "rouge1_f1"].metric_value == 0.41
    assert results["validation", "rouge1_f1"].metric_args == {"signature": KIWI}
    assert results["test", "rougeL_f1"].metric_args == {"signature": CHAR}
    assert results["validation", "rouge1_f1"].dataset_args == {"rows": 3, "fingerprint": "a" * 64}
    assert metadata_load(path)["model-index"][0]["name"] == "요약기-v1"
    text = path.read_text()
    assert all(words in text for words in ("| bleu | nan |", "## Intended use", "## Licence\n\nUnknown", "e" * 16))


def test_a_card_names_its_base_only_where_the_hub_has_it(tmp_path: Path) -> None:
    def card(checkpoint: str) -> str:
        return render(
            Card(
                name="x", checkpoint=checkpoint, metrics={}, signatures={}, data={"train": Part(None, "")},
                dataset="me/dialogues",
            )
        )  # fmt: skip

    known = ModelCard(card("digit82/kobart-summarization")).data
    assert (known.base_model, known.datasets) == ("digit82/kobart-summarization", "me/dialogues")
    assert ModelCard(card(str(tmp_path))).data.base_model is None
    assert str(tmp_path) not in card(str(tmp_path))
    assert "from random weights" in card("kobart_mini")
    assert "a local model" in card(str(tmp_path))
    assert [hub_name(name) for name in ("/a", "..", "a local model")] == [None] * 3
    assert [hub_name(name) for name in ("", "auto", "~/x", "a/b/c", "./a", "C:\\x", "http://x/y")] == [None] * 7


def test_a_folder_of_the_name_of_a_hub_model_changes_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digit82" / "kobart-summarization").mkdir(parents=True)
    assert hub_name("digit82/kobart-summarization") == "digit82/kobart-summarization"


def test_a_relative_folder_is_no_base_wherever_it_is_exported(
    registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(registry)
    text = (folder / "dlgsum.yaml").read_text().replace("/home/kim/weights", "weights/start")
    (folder / "dlgsum.yaml").write_text(text)
    (tmp_path / "weights" / "start").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    registry.register_model("nahe", "bart", "weights/start", {}, {}, {}, folder)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    done = export_model(registry, "nahe", tmp_path / "hub", layout="hub")
    card = ModelCard.load(Path(done.folder) / "README.md")
    assert card.data.base_model is None
    for name in ("README.md", "dlgsum.yaml"):
        written = (Path(done.folder) / name).read_text()
        assert "a local model" in written
        assert "weights/start" not in written


def test_a_folder_in_use_is_not_replaced(
    registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "full"
    target.mkdir()
    (target / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        export_model(registry, "요약기", target)
    monkeypatch.chdir(target)
    for needed in (target, tmp_path, registry.output_dir, folder_of(registry) / "inside", Path("/"), Path.home()):
        with pytest.raises(UsageError, match="cannot be replaced"):
            export_model(registry, "요약기", needed, force=True)
    monkeypatch.chdir(tmp_path)
    (folder_of(registry) / "model.safetensors").write_bytes(b"others")
    with pytest.raises(DataError, match="is not what was registered"):
        export_model(registry, "요약기", target, force=True)
    assert [path.name for path in target.iterdir()] == ["thesis.txt"]  # and no rest of what was begun
    assert not list(tmp_path.glob(".full*"))
    registry.register_model("newer", "bart", "", {}, {}, {}, folder_of(registry))
    export_model(registry, "newer", target, force=True)
    assert not (target / "thesis.txt").exists()


@pytest.mark.parametrize(
    "target",
    ["outputs/models", "outputs/models/new", "outputs/experiments", "outputs/experiments/new", "outputs/experiments/b",
     "outputs/experiments/b/models", "elsewhere/a_run", "elsewhere/a_run/models/best_model", "elsewhere",
     "others", "others/models", "others/experiments", "."],
)  # fmt: skip
def test_no_results_are_replaced_by_an_export(registry: ModelRegistry, tmp_path: Path, target: str) -> None:
    for run in ("outputs/experiments/b", "elsewhere/a_run", "others/experiments/c"):
        (tmp_path / run / "models" / "best_model").mkdir(parents=True)
        (tmp_path / run / "config.yaml").write_text("")
        (tmp_path / run / "status.json").write_text("{}")
    shutil.copytree(registry.folder, tmp_path / "others" / "models")
    before = sorted(tmp_path.rglob("*"))
    for force in (True, False):
        with pytest.raises(UsageError, match="cannot be replaced") as refused:
            export_model(registry, "요약기", tmp_path / target, force=force)
        assert "--force" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_export_can_lie_beside_the_results(registry: ModelRegistry, tmp_path: Path) -> None:
    for _ in range(2):
        assert export_model(registry, "요약기", tmp_path / "outputs" / "exports" / "a", force=True).files


def test_a_model_without_safetensors_has_no_layout_for_the_hub(registry: ModelRegistry, tmp_path: Path) -> None:
    folder = folder_of(registry)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    registry.register_model("pickled", "bart", "", {}, {}, {}, folder)
    with pytest.raises(DataError, match="no weights in safetensors"):
        export_model(registry, "pickled", tmp_path / "hub", layout="hub")


def test_comparison_marks_what_does_not_compare(registry: ModelRegistry) -> None:
    folder, ours = folder_of(registry), compose(Request(environ={})).config
    from dlgsum.config.masking import plain

    same = plain(ours)
    slower = {**same, "training": {**same["training"], "learning_rate": 9e-5}}
    smoothed = {**same, "training": {**same["training"], "label_smoothing_factor": 0.1}}
    for name, config, score, signature in (
        ("a", same, 0.3, KIWI), ("b", slower, 0.4, KIWI), ("c", smoothed, 0.5, CHAR),
    ):  # fmt: skip
        registry.register_model(
            name, "bart", "x", config, {"rouge1_f1": score, "loss": score}, {}, folder, signature=signature
        )
    comparison = models.compare_models(registry, ["a", "b", "c"])
    rouge, loss = comparison.metrics
    assert (rouge.comparable, loss.comparable) == ([True, True, False], [True, True, False])
    assert rouge.differences[:2] == [0.0, pytest.approx(0.1)]
    assert rouge.differences[2] is None
    assert {it.key: it.values for it in comparison.settings} == {
        "training.learning_rate": [5e-5, 9e-5, 5e-5], "training.label_smoothing_factor": [0.0, 0.0, 0.1],
    }  # fmt: skip
    assert read_json(registry.folder / "b-v1.json")["config"]["training"]["learning_rate"] == 9e-5
