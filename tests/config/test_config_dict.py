"""Configurations as dictionaries, as notebooks and W&B sweeps use them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlgsum import ConfigManager, create_trainer
from dlgsum.config.schema import defaults
from dlgsum.core.errors import ConfigError

BASE = """\
general: {seed: 7}
model: {architecture: kobart_mini, checkpoint: kobart_mini}
training: {learning_rate: 5e-5}
data: {source: sample}
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "base_config.yaml"
    path.write_text(BASE, encoding="utf-8")
    return path


def test_load_config_gives_every_setting(file: Path):
    config = ConfigManager().load_config(file)
    assert {section: set(values) for section, values in config.items()} == {
        section: set(values) for section, values in defaults().items()
    }
    assert (config["general"]["seed"], config["training"]["learning_rate"]) == (7, 5e-5)
    assert ConfigManager().load_config(str(file), "general.seed=8")["general"]["seed"] == 8


def test_the_environment_is_applied_when_loading_and_not_again(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEARNING_RATE", "3e-5")
    config = ConfigManager().load_config(file)
    assert config["training"]["learning_rate"] == 3e-5
    config["training"]["learning_rate"] = 1e-4
    assert create_trainer(config).config.training.learning_rate == 1e-4
    # Plain settings stand below the environment, like a file.
    assert create_trainer(dict(config)).config.training.learning_rate == 3e-5


def test_a_mistake_made_in_the_dictionary_is_found(file: Path):
    config = ConfigManager().load_config(file)
    config["training"]["learning_rat"] = 1e-4
    config["general"]["seed"] = "x"
    with pytest.raises(ConfigError) as raised:
        create_trainer(config)
    assert len(raised.value.problems) == 2


class TestSweepParameters:
    def test_names_long_short_and_nested(self, file: Path):
        manager = ConfigManager()
        config = manager.load_config(file)
        params = {
            "learning_rate": 1e-3, "training.weight_decay": 0.2, "generation": {"num_beams": 2}, "batch_size": 4,
            "label_smoothing": 0.1, "_wandb": {"x": 1}, "seed": 9,
        }  # fmt: skip
        merged = manager.merge_sweep_params(config, params)
        training = merged["training"]
        assert (training["learning_rate"], training["weight_decay"]) == (1e-3, 0.2)
        assert (training["per_device_train_batch_size"], training["label_smoothing_factor"]) == (4, 0.1)
        assert (merged["generation"]["num_beams"], merged["general"]["seed"]) == (2, 9)
        assert config["training"]["learning_rate"] == 5e-5, "the original is left alone"

    def test_a_group_brings_all_that_it_sets(self, file: Path):
        manager = ConfigManager()
        merged = manager.merge_sweep_params(manager.load_config(file), {"model": "kobart"})
        assert merged["model"]["checkpoint"] == "digit82/kobart-summarization"
        assert merged["training"]["learning_rate"] == 3e-5
        assert merged["general"]["seed"] == 7

    def test_every_mistake_is_reported(self, file: Path):
        manager = ConfigManager()
        config = manager.load_config(file)
        with pytest.raises(ConfigError) as raised:
            manager.merge_sweep_params(config, {"learning_rat": 1, "nosuch": 2})
        assert len(raised.value.problems) == 2
        assert "did you mean training.learning_rate?" in raised.value.problems[0]
        with pytest.raises(ConfigError, match=r"must be a number \(from the sweep's parameters"):
            manager.merge_sweep_params(config, {"learning_rate": "fast"})
        with pytest.raises(ConfigError, match="keep one"):
            manager.merge_sweep_params(config, {"fp16": True, "bf16": True})


def test_validate_config_file(file: Path, tmp_path: Path):
    good = ConfigManager().validate_config_file(file)
    assert good and str(good) == f"{file}: valid"
    bad = tmp_path / "bad.yaml"
    bad.write_text("training: {learning_rate: x}\nmetrics: {scorer: kiwj}\n", encoding="utf-8")
    verdict = ConfigManager().validate_config_file(str(bad))
    assert not verdict
    assert len(verdict.problems) == 2
    assert "did you mean kiwi?" in str(verdict)


def test_an_old_dictionary_is_migrated_like_an_old_file(caplog: pytest.LogCaptureFixture):
    old = {
        "general": {"model_name": "digit82/kobart-summarization", "data_path": "./data"},
        "training": {"evaluation_strategy": "epoch", "learning_rate": "1e-5", "predict_with_generate": True},
        "inference": {"num_beams": 2},
    }
    for name in ("train", "dev"):
        Path("data").mkdir(exist_ok=True)
        Path(f"data/{name}.csv").write_text("fname,dialogue,summary\na,b,c\n", encoding="utf-8")
    config = create_trainer(old).config
    assert (config.training.learning_rate, config.generation.num_beams) == (1e-5, 2)
    assert "the dictionary given is in the competition baseline's format" in caplog.text
    assert "config migrate" not in caplog.text
