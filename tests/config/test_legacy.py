"""Old files in today's terms: what each key means now, and that none is dropped without being named."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dlgsum.cli.migrate import migrate as migrate_command
from dlgsum.config import legacy_keys
from dlgsum.config.compose import compose, to_yaml
from dlgsum.config.groups import load_yaml, packaged_conf
from dlgsum.config.legacy import Migration, is_legacy, migrate, notice
from dlgsum.config.legacy_yaml import experiment_yaml
from dlgsum.config.request import Request
from dlgsum.config.schema import Config, key_names
from dlgsum.core.errors import ConfigError, UsageError
from dlgsum.recipes.configurations import check

ASSETS = Path(__file__).parent / "legacy"
OLD = ["baseline", "new_names", "t5", "dotted", "korean", "stray"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder without a ./conf."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asset(name: str) -> dict[str, Any]:
    return load_yaml(ASSETS / f"{name}.yaml")


def composed(migration: Migration) -> Config:
    return compose(Request(values=migration.as_file(), environ={})).config


def value_of(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def old_file(**changes: Any) -> dict[str, Any]:
    """A small file that is surely old; ``section__key=value`` adds keys."""
    content: dict[str, Any] = {
        "training": {"evaluation_strategy": "epoch", "predict_with_generate": True},
        "inference": {"num_beams": 4, "generate_max_length": 100},
    }
    for name, value in changes.items():
        section, _, key = name.partition("__")
        content.setdefault(section, {})[key] = value
    return content


def with_files(content: Mapping[Any, Any]) -> Migration:
    """Migrate as where every file is there."""
    return migrate(content, exists=lambda path: True)


def became(migration: Migration, old: str) -> list[str]:
    return [change.new for change in migration.changes if change.old == old]


def lost(migration: Migration) -> set[str]:
    return {loss.key for loss in migration.warnings}


# --- frozen files ---

EXPECTED: dict[str, dict[str, Any]] = {
    "baseline": {
        "general.seed": 42, "general.output_dir": "./", "general.device": "auto",
        "model.architecture": "kobart", "model.checkpoint": "digit82/kobart-summarization", "model.prefix": None,
        "tokenizer.bos_token": "<s>", "tokenizer.eos_token": "</s>", "tokenizer.encoder_max_len": 512,
        "tokenizer.decoder_max_len": 100,
        "tokenizer.special_tokens": [
            "#Person1#", "#Person2#", "#Person3#", "#PhoneNumber#", "#Address#", "#PassportNumber#",
        ],
        "data.source": "csv", "data.train": "../data/train.csv", "data.validation": "../data/dev.csv",
        "data.test": "../data/test.csv",
        "training.num_train_epochs": 20, "training.learning_rate": 1e-5, "training.per_device_train_batch_size": 50,
        "training.per_device_eval_batch_size": 32, "training.warmup_steps": 0.1, "training.warmup_ratio": None,
        "training.weight_decay": 0.01, "training.lr_scheduler_type": "cosine", "training.optim": "adamw_torch",
        "training.gradient_accumulation_steps": 1, "training.batching": "random", "training.precision": "fp16",
        "training.eval_strategy": "epoch", "training.save_strategy": "epoch", "training.save_total_limit": 5,
        "training.logging_strategy": "epoch", "training.load_best_model_at_end": True,
        "training.early_stopping_patience": 3, "training.early_stopping_threshold": 0.001,
        "generation.num_beams": 4, "generation.eval_num_beams": 1, "generation.max_length": 100,
        "generation.no_repeat_ngram_size": 2, "generation.early_stopping": True,
        "generation.decoder_start": "model",
        "metrics.scorer": "pltrdy", "metrics.best": "loss", "metrics.bleu": False,
        "wandb.mode": "online", "wandb.project": "dialogue-summary", "wandb.name": "baseline", "wandb.entity": None,
    },
    "new_names": {
        "general.seed": 7, "general.output_dir": "./runs", "model.checkpoint": "gogamza/kobart-base-v2",
        "model.architecture": "kobart", "tokenizer.bos_token": None, "tokenizer.special_tokens": ["#Person1#"],
        "tokenizer.encoder_max_len": 400, "tokenizer.decoder_max_len": 120, "data.train": "/data/dialogsum/train.csv",
        "training.num_train_epochs": 5, "training.learning_rate": 3e-5, "training.per_device_train_batch_size": 8,
        "training.per_device_eval_batch_size": 16, "training.warmup_steps": 200, "training.weight_decay": 0,
        "training.lr_scheduler_type": "linear", "training.optim": "adamw_torch",
        "training.gradient_accumulation_steps": 4, "training.activation_checkpointing": True,
        "training.label_smoothing_factor": 0.1, "training.batching": "samples", "training.eval_strategy": "steps",
        "training.eval_steps": 100, "training.save_strategy": "steps", "training.save_steps": 100,
        "training.logging_strategy": "steps", "training.logging_steps": 100, "training.save_total_limit": None,
        "training.precision": "fp32", "training.early_stopping_patience": 4,
        "generation.num_beams": 5, "generation.eval_num_beams": 2, "generation.max_length": 100,
        "generation.no_repeat_ngram_size": 3, "generation.early_stopping": False, "generation.length_penalty": 1.2,
        "generation.repetition_penalty": 1.1, "metrics.best": "rouge1_f1", "metrics.greater_is_better": None,
        "wandb.mode": "disabled", "wandb.project": "sum", "wandb.name": None,
    },
    "t5": {
        "general.device": "cpu", "model.architecture": "t5", "model.checkpoint": "paust/pko-t5-base",
        "model.prefix": "summarize: ", "tokenizer.bos_token": None, "tokenizer.eos_token": "</s>",
        "data.validation": "data/dev.csv", "training.num_train_epochs": 3, "training.learning_rate": 1e-4,
        "training.eval_strategy": "no", "training.save_strategy": "epoch", "training.precision": "auto",
        "training.load_best_model_at_end": False, "training.early_stopping_patience": None,
        "training.per_device_train_batch_size": 4, "training.per_device_eval_batch_size": 8,
        "training.dataloader_num_workers": 4, "generation.num_beams": 1, "generation.eval_num_beams": None,
        "generation.max_length": 100, "wandb.mode": "online",
    },
    "dotted": {
        "data.train": "./data/train.csv", "model.checkpoint": "ainize/kobart-news", "model.architecture": "kobart",
        "training.learning_rate": 1e-5, "training.num_train_epochs": 10, "training.eval_strategy": "epoch",
        "training.early_stopping_patience": None, "training.warmup_steps": 0.05, "training.weight_decay": 0.05,
        "training.label_smoothing_factor": 0, "generation.num_beams": 6, "generation.no_repeat_ngram_size": 2,
    },
    "korean": {
        "data.train": "../데이터: 원본/train.csv", "general.output_dir": "./결과 #1",
        "tokenizer.special_tokens": ["#Person1#", "a: b", "${x}", "- c"],
        "training.load_best_model_at_end": False, "metrics.best": "rouge_combined_f1",
        "wandb.entity": "우리팀", "wandb.project": "1e5", "wandb.name": '실험: "하나" # ${USER} \\ 끝',
        "wandb.mode": "online",
    },
    "stray": {
        "data.train": "./data/train.csv", "model.checkpoint": "./kobart_finetuned/checkpoint-500",
        "model.architecture": "kobart", "tokenizer.encoder_max_len": 300, "training.per_device_train_batch_size": 8,
        "training.per_device_eval_batch_size": 16, "generation.num_beams": 2, "generation.eval_num_beams": 1,
        "training.learning_rate": 3e-5,
    },
    "base_config": {
        "meta.description": "대화 요약: 기본 실험", "model.architecture": "kobart",
        "model.checkpoint": "digit82/kobart-summarization", "general.model_name": None,
        "training.learning_rate": 5e-5, "training.warmup_steps": 0.1, "training.warmup_ratio": None,
        "training.precision": "fp16", "training.fp16": None, "training.num_train_epochs": 3,
        "training.batching": "samples", "tokenizer.decoder_max_len": 128, "generation.max_length": 100,
        "generation.no_repeat_ngram_size": 2, "metrics.scorer": "kiwi", "metrics.best": "rouge_combined_f1",
        "wandb.mode": "online", "wandb.entity": None, "data.source": "auto",
    },
}  # fmt: skip

GROUPS = {
    "baseline": {"model": "kobart", "data": "csv", "metrics": "baseline"},
    "new_names": {"model": "kobart_base", "data": "csv", "metrics": "baseline"},
    "t5": {"model": "auto", "data": "csv", "metrics": "baseline"},
    "dotted": {"model": "kobart", "data": "csv", "metrics": "baseline"},
    "korean": {"model": "kobart", "data": "csv", "metrics": "baseline"},
    "stray": {"model": "kobart", "data": "csv", "metrics": "baseline"},
    "base_config": {},
}

LOST = {
    "baseline": {"training.logging_dir", "wandb.entity", "inference.result_path"},
    "new_names": {
        "tokenizer.sep_token", "training.fp16_opt_level", "training.generation_max_length", "training.do_eval",
        "inference.ckt_path", "inference.result_path", "inference.batch_size", "inference.remove_tokens",
    },
    "t5": {
        "tokenizer.bos_token", "training.fp16", "training.load_best_model_at_end", "training.early_stopping_patience",
        "training.report_to", "inference.max_new_tokens",
    },
    "dotted": {"parameters.training.label_smoothing.values"},
    "korean": set(),
    "stray": {
        "general.num_beams", "training.learning_rat", "training.gradient_checkpointing_kwargs.use_reentrant",
        "training.hub_token", "training.learning_rate.start", "training.per_gpu_train_batch_size",
        "training.metric_for_best_model", "inference.num_beams", "decoding.top_k",
    },
    "base_config": set(),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_a_frozen_file_means_today_what_it_meant(name: str):
    migration = with_files(asset(name))
    config = composed(migration)
    assert {key: value_of(config, key) for key in EXPECTED[name]} == EXPECTED[name]
    assert migration.groups == GROUPS[name]
    assert lost(migration) == LOST[name]
    assert migration.legacy == (name != "base_config")


def small(migration: Migration, target: str = "NEW.yaml") -> str:
    groups = [f"{group}={name}" for group, name in migration.groups.items() if group != "data"]
    base = compose(Request(groups, environ={})).config
    return experiment_yaml(migration, base, composed(migration), source="old.yaml", target=target)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("name", EXPECTED)
def test_the_small_file_gives_the_same_configuration(empty_folder: Path, name: str, complete: bool):
    """With --config, and as an experiment in ./conf."""
    migration = migrate(asset(name), exists=lambda path: complete)
    whole = composed(migration)
    file = empty_folder / "conf/experiment/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(small(migration), encoding="utf-8")
    assert compose(Request(file=file, environ={})).config == whole
    assert compose(Request(["experiment=mine"], environ={})).config == whole


def test_the_small_file_holds_only_what_differs():
    text = small(migrate(asset("baseline")))
    assert "num_train_epochs: 20\n" in text and "learning_rate: 1.0e-05" in text
    # What model=kobart and the defaults give anyway:
    for key in (
        "warmup_steps",
        "lr_scheduler_type",
        "checkpoint:",
        "seed",
        "encoder_max_len",
        "scorer",
        "num_beams: 4",
    ):
        assert key not in text
    assert text.startswith("# @package _global_\n# The settings of old.yaml")
    assert "dlgsum train --config NEW.yaml" in text and "dlgsum train experiment=NEW " in text
    assert "- override /model: kobart\n" in text
    assert re.search(r"best: loss +# \S", text), "a value that needs a word has one"
    assert "#   training.logging_dir (./logs): " in text


def test_the_baseline_equals_our_experiment_baseline():
    """But for what the file says and the experiment leaves to its user."""
    ours = dataclasses.asdict(compose(Request(["experiment=baseline"], environ={})).config)
    theirs = dataclasses.asdict(composed(with_files(asset("baseline"))))
    differing = {
        f"{section}.{key}" for section in ours for key in ours[section] if ours[section][key] != theirs[section][key]
    }
    assert differing == {
        "meta.experiment_name", "meta.description", "general.output_dir", "tokenizer.bos_token", "tokenizer.eos_token",
        "tokenizer.special_tokens", "data.source", "data.train", "data.validation", "data.test", "training.precision",
        "wandb.mode", "wandb.project", "wandb.name",
    }  # fmt: skip


def test_a_file_of_ours_composes_to_the_same_after_migration():
    content = asset("base_config")
    before = compose(Request(values=content, environ={})).config
    after = composed(migrate(content))
    assert dataclasses.replace(after.training, precision="auto", fp16=True) == before.training
    assert dataclasses.replace(after.general, model_name=before.general.model_name) == before.general
    for section in ("meta", "model", "tokenizer", "data", "generation", "metrics", "wandb"):
        assert getattr(after, section) == getattr(before, section)


# --- which files are old ---


@pytest.mark.parametrize("name", OLD)
def test_old_files_are_recognised(name: str):
    assert is_legacy(asset(name))


@pytest.mark.parametrize(
    "file", sorted(packaged_conf().rglob("*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_no_shipped_file_is_taken_for_an_old_one(file: Path):
    assert not is_legacy(load_yaml(file))


@pytest.mark.parametrize("choice", ["model=auto", "experiment=baseline", "model=kobart_mini"])
def test_the_output_of_config_show_is_not_taken_for_an_old_one(empty_folder: Path, choice: str):
    file = empty_folder / "shown.yaml"
    file.write_text(to_yaml(compose(Request([choice], environ={})).config), encoding="utf-8")
    content = load_yaml(file)
    assert not is_legacy(content)
    for section, key in (("training", "evaluation_strategy"), ("training", "predict_with_generate"),
                         ("general", "data_path"), ("inference", "num_beams")):  # fmt: skip
        content.setdefault(section, {})[key] = "epoch"
    assert not is_legacy(content), "four old names in a complete file of ours are mistakes"


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"training": {"learning_rat": 1e-5}},
        {"training": {"evaluation_strategy": "epoch"}},
        {"training": {"evaluation_strategy": "epoch", "label_smoothing": 0.1, "learning_rate": 1e-5}},
        {"general": {"data_path": "data"}},
        {"inference": {"num_beams": 4}},
        {"inference": None, "general": {"seed": 1}},
        {"model": "kobart", "metrics": "kiwi", "training": {"evaluation_strategy": "epoch", "seed": 1}},
        {"defaults": [{"model": "kobart"}], "training": {"seed": 1}},
        {"data": {"train": "a", "validation": "b"}, "general": {"data_path": "x"}, "training": {"seed": 1}},
    ],
)
def test_a_file_of_ours_with_mistakes_is_no_old_file(content: dict[str, Any]):
    assert not is_legacy(content)


def test_base_config_is_no_old_file():
    assert not is_legacy(asset("base_config"))


# --- single keys ---

ONE_KEY: list[tuple[str, Any, str, Any]] = [
    ("training__fp16", True, "training.precision", "fp16"),
    ("training__fp16", False, "training.precision", "fp32"),
    ("training__fp16", None, "training.precision", "auto"),
    ("training__bf16", True, "training.precision", "bf16"),
    ("training__optim", "adamw_hf", "training.optim", "adamw_torch"),
    ("training__adafactor", True, "training.optim", "adafactor"),
    ("training__warmup_steps", 300, "training.warmup_steps", 300),
    ("training__use_cpu", True, "general.device", "cpu"),
    ("training__no_cuda", False, "general.device", "auto"),
    ("general__device", "cuda:1", "general.device", "cuda"),
    ("training__group_by_length", False, "training.batching", "random"),
    ("training__train_sampling_strategy", "group_by_length", "training.batching", "samples"),
    ("training__save_strategy", False, "training.save_strategy", "no"),
    ("training__save_strategy", "best", "training.save_strategy", "no"),
    ("training__save_strategy", "steps", "training.save_steps", 500),
    ("training__early_stopping_patience", 0, "training.early_stopping_patience", None),
    ("training__use_early_stopping", True, "training.early_stopping_patience", 3),
    ("training__early_stopping", True, "training.early_stopping_patience", 3),
    ("training__load_best_model_at_end", True, "metrics.best", "loss"),
    ("training__metric_for_best_model", "eval_loss", "metrics.best", "loss"),
    ("training__metric_for_best_model", "rouge-l", "metrics.best", "rougeL_f1"),
    ("training__metric_for_best_model", "eval_rougeLsum", "metrics.best", "rougeL_f1"),
    ("training__metric_for_best_model", "eval_rouge2_f1", "metrics.best", "rouge2_f1"),
    ("training__metric_for_best_model", "rouge_1_fmeasure", "metrics.best", "rouge1_f1"),
    ("training__metric_for_best_model", "rouge_avg", "metrics.best", "rouge_combined_f1"),
    ("training__metric_for_best_model", "bleu", "metrics.bleu", True),
    ("training__report_to", "wandb", "wandb.mode", "online"),
    ("training__report_to", "none", "wandb.mode", "disabled"),
    ("training__report_to", None, "wandb.mode", "disabled"),
    ("training__report_to", [], "wandb.mode", "disabled"),
    ("training__report_to", ["all"], "wandb.mode", "online"),
    ("training__disable_tqdm", True, "monitoring.progress", "lines"),
    ("training__seed", 3, "general.seed", 3),
    ("training__run_name", "a", "wandb.name", "a"),
    ("general__model_name", "google/mt5-small", "model.architecture", "mt5"),
    ("general__model_name", "google/umt5-small", "model.architecture", "auto"),
    ("general__model_name", "google/long-t5-local-base", "model.architecture", "auto"),
    ("general__model_name", "facebook/bart-base", "model.architecture", "bart"),
    ("general__model_name", "facebook/mbart-large-cc25", "model.architecture", "auto"),
    ("general__model_name", "./t5-runs/kobart_v2", "model.architecture", "kobart"),
    ("general__data_path", "/", "data.train", "/train.csv"),
    ("training__encoder_prefix", "요약: ", "model.prefix", "요약: "),
    ("inference__max_new_tokens", 60, "generation.max_length", 60),
    ("inference__min_new_tokens", 5, "generation.min_length", 5),
    ("tokenizer__special_tokens", "#Person1#", "tokenizer.special_tokens", ["#Person1#"]),
    ("tokenizer__additional_special_tokens", ["#A#"], "tokenizer.special_tokens", ["#A#"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "value", "key", "expected"), ONE_KEY)
def test_a_key_becomes(old: str, value: Any, key: str, expected: Any):
    content = old_file(**{old: value})
    if old == "inference__max_new_tokens":
        del content["inference"]["generate_max_length"]
    migration = migrate(content)
    assert value_of(composed(migration), key) == expected
    assert old.replace("__", ".") not in lost(migration)
    assert any(change.old == old.replace("__", ".") for change in migration.changes)


@pytest.mark.parametrize(
    ("old", "value", "word"),
    [
        ("training__do_train", False, "dlgsum predict"),
        ("training__predict_with_generate", False, "training.eval_strategy=no"),
        ("training__logging_strategy", False, "training.logging_steps"),
        ("training__logging_dir", "./logs", "metrics.jsonl"),
        ("training__report_to", "tensorboard", "metrics.jsonl"),
        ("training__warmup_ratio", 1.0, "training.warmup_steps"),
        ("training__eval_steps", 0.1, "training.eval_steps"),
        ("training__neftune_noise_alpha", 5, "transformers"),
        ("training__deepspeed", "ds.json", "one device"),
        ("training__fp16", "O1", "training.precision"),
        ("training__resume_from_checkpoint", "./c", "when training starts"),
        ("general__data_path", "train.csv", "data.train"),
        ("general__data_path", "path/to/data", "placeholder"),
        ("wandb__project", "project_name", "placeholder"),
        ("wandb__entity", ["a"], "wandb.entity"),
        ("wandb__api_key", "0123456789", "wandb login"),
        ("tokenizer__sep_token", "<sep>", "newlines"),
        ("tokenizer__special_tokens", {"#A#": 1}, "takes a value"),
        ("inference__ckt_path", "./best", "dlgsum predict ./best test.csv"),
        ("inference__do_sample", True, "does not sample"),
        ("inference__early_stopping", "never", "generation.early_stopping"),
        ("inference__remove_tokens", ["<s>", "!"], "not !"),
        ("inference__num_beam", 4, "did you mean inference.num_beams?"),
    ],
)
def test_a_key_that_cannot_be_carried_is_named_with_what_to_do(old: str, value: Any, word: str):
    migration = migrate(old_file(**{old: value}))
    key = old.replace("__", ".")
    losses = [loss for loss in migration.warnings if loss.key == key or loss.key.startswith(f"{key}.")]
    assert len(losses) == 1
    assert word in losses[0].reason
    composed(migration)


def test_two_keys_of_one_meaning_with_different_values_are_not_both_silent():
    migration = migrate(old_file(training__generation_max_length=60, training__per_device_eval_batch_size=4,
                                 inference__batch_size=8, training__bf16=True, training__fp16=True))  # fmt: skip
    assert {"training.generation_max_length", "inference.batch_size", "training.fp16"} <= lost(migration)
    config = composed(migration)
    assert (config.generation.max_length, config.training.per_device_eval_batch_size) == (100, 4)
    assert config.training.precision == "bf16"


def test_a_summary_longer_than_any_trained_on_is_cut_to_that():
    migration = migrate(old_file(tokenizer__decoder_max_len=80))
    assert composed(migration).generation.max_length == 80
    assert lost(migration) == {"inference.generate_max_length"}


def test_a_secret_is_never_shown():
    migration = migrate(old_file(training__hub_token="verysecret", wandb__api_key="alsosecret",
                                 inference__ckt_path="https://me:third@host/x"))  # fmt: skip
    shown = json.dumps([dataclasses.asdict(migration)], default=str) + notice(migration, "old.yaml")
    assert not [secret for secret in ("verysecret", "alsosecret", "third") if secret in shown]


def test_a_causal_model_is_carried_and_its_fate_told():
    migration = migrate(old_file(general__model_name="skt/kogpt2-base-v2"))
    assert migration.values["model"]["checkpoint"] == "skt/kogpt2-base-v2", "never another model in silence"
    (loss,) = migration.warnings
    assert (loss.key, loss.value) == ("general.model_name", "skt/kogpt2-base-v2")
    assert "without an encoder" in loss.reason and "paust/pko-t5-base" in loss.reason
    assert str(loss) in notice(migration, "old.yaml")
    assert str(loss) in small(migration)
    assert migration.carried == with_files(old_file(general__model_name="x/kobart")).carried - 1


@pytest.mark.parametrize("key", ["general__model_name", "model__checkpoint"])
def test_a_causal_model_is_refused(empty_folder: Path, key: str):
    for name in ("train", "dev"):
        (empty_folder / f"{name}.csv").touch()
    file = written(empty_folder / "old.yaml", old_file(**{key: "skt/kogpt2-base-v2", "general__data_path": "."}))
    verdict = check(Request(file=file, environ={}), "old.yaml")
    assert verdict.exit_code == 2
    assert [p for p in verdict.problems if "model.checkpoint=skt/kogpt2-base-v2" in p and "without an encoder" in p]
    assert "skt/kogpt2-base-v2): a model without an encoder" in "".join(verdict.warnings)


# --- what has no key, or no file ---


def written(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", OLD)
def test_every_value_of_an_old_file_names_the_line_it_came_from_or_that_it_was_implied(empty_folder: Path, name: str):
    text = (ASSETS / f"{name}.yaml").read_text(encoding="utf-8")
    (empty_folder / "my.yaml").write_text(text, encoding="utf-8")
    history = compose(Request(file=Path("my.yaml"), environ={})).history
    migration = migrate(asset(name))
    of_file = {key: setting.origin for key, it in history.items() for setting in it if "my.yaml" in setting.origin.name}
    assert {"training.batching", "training.eval_strategy"} <= set(of_file)
    lines = text.splitlines()
    for key, origin in of_file.items():
        old = [change.old for change in migration.changes if change.new.partition("=")[0] == key]
        if origin.line is None:
            assert str(origin) == "the old program's way (my.yaml)" and old == [""], key
        else:
            assert str(origin) == f"my.yaml:{origin.line}"
            stands = lines[origin.line - 1].strip().partition(":")[0]
            assert [it for it in old if stands in (it, it.rpartition(".")[2]) or f".{stands}." in it], key


def test_what_lies_over_an_old_file_is_not_said_to_be_implied(empty_folder: Path):
    (empty_folder / "my.yaml").write_text((ASSETS / "baseline.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    request = Request(file=Path("my.yaml"), values={"training": {"batching": "samples"}}, environ={})
    (*_, setting) = compose(request).history["training.batching"]
    assert (setting.value, str(setting.origin)) == ("samples", "my.yaml")


@pytest.mark.parametrize("folder", ["./data", "데이터 #1: ${x}/"])
def test_a_test_file_is_used_only_where_there_is_one(empty_folder: Path, folder: str):
    (empty_folder / folder).mkdir()
    for name in ("train", "dev"):
        (empty_folder / folder / f"{name}.csv").touch()
    expected = f"{folder.rstrip('/')}/test.csv"
    file = written(empty_folder / "old.yaml", old_file(general__data_path=folder))
    verdict = check(Request(file=file, environ={}), "old.yaml")
    assert (verdict.problems, verdict.data_problems) == ((), ())
    assert f"data.test is left out, since there is no {expected}" in "".join(verdict.warnings)
    result = run(file)
    assert f"data.test is left out, since there is no {expected}; set it once there is" in result.stderr
    commented = result.stdout.partition("add to the section data:\n")[2]
    # As the comment says:
    new = result.stdout.replace("data:\n  train", f"data:\n{commented.replace('#   ', '  ', 1)}  train")
    (empty_folder / "new.yaml").write_text(new, encoding="utf-8")
    assert compose(Request(file=Path("new.yaml"), environ={})).config.data.test == expected

    (empty_folder / folder / "test.csv").touch()
    assert compose(Request(file=file, environ={})).config.data.test == expected
    result = run(file)
    assert "left out" not in result.stderr and "test.csv" in result.stdout and "no file" not in result.stdout


def test_a_test_file_that_the_file_names_itself_is_kept():
    migration = migrate(old_file(general__data_path="data", data__test="mine.csv"), exists=lambda path: False)
    assert composed(migration).data.test == "mine.csv" and not migration.absent


def test_a_home_that_is_nobodys_has_no_files():
    assert migrate(old_file(general__data_path="~nobody-at-all")).absent == {"data.test": "~nobody-at-all/test.csv"}


def test_the_file_is_left_as_it_is():
    content = asset("baseline")
    before = json.dumps(content)
    migrate(content)
    assert json.dumps(content) == before


def test_the_notice_for_use_on_the_fly():
    text = notice(migrate(asset("baseline")), "old.yaml")
    assert "\n" not in text
    assert "old.yaml is in the competition baseline's format; 41 of its keys were carried over, 3 were not" in text
    for key in LOST["baseline"]:
        assert key in text
    assert "as in the old program: training.batching=random, metrics.best=loss, " in text
    assert "dlgsum config migrate old.yaml -o NEW.yaml" in text


# --- every key, whatever it holds ---


def test_the_tables_lead_to_settings_that_exist():
    names = set(key_names())
    assert {target for target, _ in legacy_keys.RENAMED.values()} <= names
    assert set(legacy_keys.HOMES.values()) <= legacy_keys.KNOWN
    assert not set(legacy_keys.COVERED) & set(legacy_keys.UNSUPPORTED)


def test_every_key_of_the_old_format_is_known_whatever_transformers_calls_it():
    from transformers import Seq2SeqTrainingArguments

    names = {f"training.{field.name}" for field in dataclasses.fields(Seq2SeqTrainingArguments)}
    unknown = {
        name for name in names if name not in legacy_keys.KNOWN and name.partition(".")[2] not in legacy_keys.HOMES
    }
    assert not unknown


def leaves(content: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        elif not (not prefix and value in (None, {})):  # a section with nothing in it holds no key
            yield f"{prefix}{key}"


BASELINE = asset("baseline")
NAMES = sorted({key.partition(".")[2] or key for key in legacy_keys.KNOWN} | {"learning_rat", "가", "", "a.b"})
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 600), st.floats(), st.text(max_size=8),
    st.sampled_from(["1e-5", "no", "none", "wandb", "steps", "auto", "${x}", "${", "model ckt path", "t5", "<s>"]),
    st.lists(st.one_of(st.integers(), st.text(max_size=4), st.none()), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)  # fmt: skip
SECTION = st.dictionaries(st.sampled_from(NAMES), JUNK, max_size=12)


MANGLED = st.dictionaries(
    st.sampled_from([*legacy_keys.SECTIONS, "generation", "model", "metrics", "what", "training.fp16", "defaults"]),
    st.one_of(SECTION, SECTION, SECTION, JUNK),
    max_size=8,
)


def mangle(mangled: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    content: dict[str, Any] = {
        section: {key: value for key, value in keys.items() if chance.random() < 0.7}
        for section, keys in BASELINE.items()
    }
    for section, keys in mangled.items():
        if isinstance(keys, dict) and isinstance(content.get(section), dict):
            content[section].update(keys)
        else:
            content[section] = keys
    return content


@settings(max_examples=100, deadline=None)
@given(MANGLED, st.randoms(use_true_random=False))
def test_no_key_of_a_mangled_file_is_dropped_in_silence(mangled: dict[str, Any], chance: random.Random):
    content = mangle(mangled, chance)
    migration = migrate(content)
    assert set(leaves(content)) <= {change.old for change in migration.changes} | lost(migration)
    assert "\n" not in notice(migration, "x.yaml")


@settings(max_examples=10, deadline=None)
@given(MANGLED, st.randoms(use_true_random=False))
def test_a_mangled_file_gives_a_configuration_or_plain_problems(mangled: dict[str, Any], chance: random.Random):
    migration = migrate(mangle(mangled, chance))
    try:
        composed(migration)
    except ConfigError as error:
        assert not [problem for problem in error.problems if "no such setting" in problem]


@settings(max_examples=10, deadline=None)
@given(st.text(max_size=25), st.lists(st.sampled_from(["${", "\\", "}", "#", ": ", "'", '"', "- ", "가", "1e5", "~"])))
def test_any_text_survives_the_small_file(tmp_path_factory: pytest.TempPathFactory, free: str, parts: list[str]):
    content = old_file(wandb__name=f"x{free}", general__encoder_prefix="".join(parts))
    migration = migrate(content)
    whole = composed(migration)
    assert (whole.wandb.name, whole.model.prefix) == (f"x{free}", "".join(parts))
    file = tmp_path_factory.mktemp("small") / "small.yaml"
    file.write_text(small(migration, target=f"{free}.yaml"), encoding="utf-8")
    assert compose(Request(file=file, environ={})).config == whole


# --- the command ---

app = typer.Typer()
app.command()(migrate_command)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_prints_the_file_and_reports_beside_it(empty_folder: Path):
    result = run(ASSETS / "baseline.yaml")
    assert result.exit_code == 0
    (empty_folder / "new.yaml").write_text(result.stdout, encoding="utf-8")
    assert compose(Request(file=empty_folder / "new.yaml", environ={})).config == composed(migrate(asset("baseline")))
    assert re.search(r"training\.evaluation_strategy +→ +training\.eval_strategy=epoch", result.stderr)
    assert "41 keys carried or not needed, 3 not carried" in result.stderr


def test_the_command_writes_a_file_once(empty_folder: Path):
    new = empty_folder / "conf/experiment/mine.yaml"
    result = run(ASSETS / "new_names.yaml", "-o", new)
    assert result.exit_code == 0
    text = new.read_text(encoding="utf-8")
    assert "experiment=mine" in text
    assert compose(Request(["experiment=mine"], environ={})).config == composed(migrate(asset("new_names")))
    again = run(ASSETS / "baseline.yaml", "-o", new)
    assert isinstance(again.exception, UsageError) and "--force" in str(again.exception)
    assert new.read_text(encoding="utf-8") == text
    assert run(ASSETS / "baseline.yaml", "-o", new, "--force").exit_code == 0
    assert new.read_text(encoding="utf-8") != text


def test_the_command_speaks_json():
    result = run(ASSETS / "t5.yaml", "--json")
    content = json.loads(result.stdout)
    assert {warning["key"] for warning in content["warnings"]} == LOST["t5"]
    assert content["groups"] == GROUPS["t5"] and content["legacy"] and content["yaml"].startswith("# @package")
    assert {"old": "training.no_cuda", "new": "general.device=cpu", "reason": ""} in content["changes"]


def test_all_wrong_values_are_named_at_once_and_nothing_is_written(empty_folder: Path):
    new = empty_folder / "new.yaml"
    result = run(ASSETS / "broken_values.yaml", "-o", new)
    assert isinstance(result.exception, ConfigError) and result.exception.exit_code == 2
    message = str(result.exception)
    for part in (
        "training.learning_rate=fast: must be a number", "training.num_train_epochs=-1",
        "training.eval_strategy=weekly: must be 'no', 'epoch' or 'steps' (from training.evaluation_strategy",
        "(from inference.batch_size", "(from inference.num_beams",
    ):  # fmt: skip
        assert part in message
    assert not new.exists()


def test_sections_that_are_none_are_named():
    migration = migrate(asset("broken_sections"))
    assert lost(migration) == {"general", "training", "wandb"}
    composed(migration)


def test_a_file_of_ours_with_nothing_to_change(empty_folder: Path):
    (empty_folder / "ours.yaml").write_text("model: kobart\ntraining: {learning_rate: 1e-4}\n")
    result = run("ours.yaml", "-o", "new.yaml")
    assert result.exit_code == 0 and not (empty_folder / "new.yaml").exists()
    assert json.loads(run("ours.yaml", "--json").stdout)["changed"] is False


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", ["there is no such file"]),
        ("empty", ["holds no settings"]),
        ("list", ["expected sections"]),
        ("broken_yaml", ["cannot be read"]),
        ("cp949", ["cp949", "iconv -f cp949 -t utf-8"]),
        ("bytes", ["not UTF-8"]),
        ("folder", ["is a folder"]),
    ],
)
def test_files_that_cannot_be_migrated(empty_folder: Path, name: str, words: list[str]):
    own = {"cp949": "wandb: {name: 실험}".encode("cp949"), "bytes": b"a: \xff\xfe\xff"}
    file = ASSETS / f"{name}.yaml"
    if name in own:
        file = empty_folder / f"{name}.yaml"
        file.write_bytes(own[name])
    elif name == "folder":
        file = empty_folder
    result = run(file)
    assert isinstance(result.exception, UsageError) and result.exception.exit_code == 2
    assert all(word in str(result.exception) for word in words)


@pytest.mark.parametrize("output", ["new.txt", "."])
def test_an_output_that_is_no_yaml_file(output: str):
    assert isinstance(run(ASSETS / "baseline.yaml", "-o", output).exception, UsageError)


def test_text_of_the_file_cannot_escape_into_the_terminal_or_the_comments():
    migration = migrate(old_file(training__logging_dir="a\n  b: 1\x1b[31m", inference__strange="x\ny: 2"))
    assert all("\n" not in str(loss) and "\x1b" not in str(loss) for loss in migration.warnings)
    assert "\n  b: 1" not in small(migration)
