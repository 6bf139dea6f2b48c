"""The schema explains itself, its defaults obey its own limits, and its names are transformers' names."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
from omegaconf import OmegaConf
from pydantic import TypeAdapter
from transformers import Seq2SeqTrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from dlgsum.config.groups import packaged_conf
from dlgsum.config.schema import Config, defaults, key_names
from dlgsum.config.schema.training import Optimizer, Schedule, Training
from dlgsum.config.validate import build_config
from dlgsum.core.errors import ConfigError
from dlgsum.training.arguments import OURS, SAME_NAME

CONF_FILES = sorted(path for path in packaged_conf().rglob("*.yaml") if path.name not in ("env.yaml",))


def fields(section: type[Any] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every section and setting with its pydantic field."""
    hints = get_type_hints(section)
    for name, field in section.__pydantic_fields__.items():
        yield prefix + name, field
        if dataclasses.is_dataclass(hints[name]):
            yield from fields(hints[name], f"{prefix}{name}.")  # type: ignore[arg-type]


FIELDS = dict(fields())


def test_the_fields_are_the_keys():
    assert list(FIELDS) == list(key_names())
    assert len(FIELDS) > 100


@pytest.mark.parametrize("key", FIELDS)
def test_every_setting_has_a_sentence_of_help(key: str):
    help = FIELDS[key].description
    assert help and help.strip() == help
    assert help.endswith(".") and not help.endswith("..")
    assert "\n" not in help and len(help) <= 160


@pytest.mark.parametrize(
    "key", [key for key, field in FIELDS.items() if not dataclasses.is_dataclass(field.annotation)]
)
def test_every_default_is_within_its_own_limits(key: str):
    """Pydantic does not check defaults; given as a value, each must be accepted and come back the same."""
    *path, leaf = key.split(".")
    default: Any = defaults()
    for part in (*path, leaf):
        default = default[part]
    values: dict[str, Any] = {leaf: default}
    for part in reversed(path):
        values = {part: values}
    assert TypeAdapter(Config).validate_python(values) == Config()


def test_the_defaults_do_not_contradict_each_other():
    assert build_config({}) == Config() == build_config(defaults())


@pytest.mark.parametrize(
    "key", ["", *(key for key, field in FIELDS.items() if dataclasses.is_dataclass(field.annotation))]
)
def test_every_section_forbids_what_it_does_not_know(key: str):
    values: dict[str, Any] = {"nosuch": 1}
    for part in reversed(key.split(".") if key else []):
        values = {part: values}
    with pytest.raises(ConfigError, match="nosuch: there is no such setting"):
        build_config(values)


# --- transformers ---


@pytest.mark.parametrize(
    ("literal", "names"), [(Schedule, SchedulerType), (Optimizer, OptimizerNames)], ids=["schedule", "optimizer"]
)
def test_names_are_those_of_transformers(literal: Any, names: Any):
    ours = set(get_args(literal))
    assert ours and ours <= {member.value for member in names}


def test_every_training_setting_is_either_passed_on_or_ours():
    names = {field.name for field in dataclasses.fields(Training)}
    assert set(SAME_NAME).isdisjoint(OURS)
    assert len(SAME_NAME) == len(set(SAME_NAME))
    assert names == set(SAME_NAME) | set(OURS)


@pytest.mark.parametrize("name", SAME_NAME)
def test_a_setting_that_is_passed_on_exists_in_transformers(name: str):
    arguments = {field.name: field for field in dataclasses.fields(Seq2SeqTrainingArguments)}
    assert name in arguments
    assert "deprecated" not in str(arguments[name].metadata.get("help", "")).lower()


def test_no_setting_that_is_passed_on_is_deprecated(tmp_path):
    """Given to transformers all together, with a value each, none of them makes it warn."""
    training = Training(eval_steps=5, early_stopping_patience=None)
    values = {name: getattr(training, name) for name in SAME_NAME}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arguments = Seq2SeqTrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True, **values)
    for name, value in values.items():
        assert getattr(arguments, name) == value


# --- conf/ ---


def keys_in(tree: Any, prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from keys_in(value, f"{prefix}{key}.")


@pytest.mark.parametrize("path", CONF_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_key_written_in_conf_exists(path):
    text = path.read_text(encoding="utf-8")
    content = OmegaConf.to_container(OmegaConf.load(path))
    content.pop("defaults", None)
    prefix = "" if path.parent == packaged_conf() or "# @package _global_" in text else f"{path.parent.name}."
    unknown = set(keys_in(content, prefix)) - set(FIELDS)
    assert not unknown


@pytest.mark.parametrize("path", CONF_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_file_in_conf_says_what_it_is_for(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    content = [line for line in lines if line.strip() and line != "# @package _global_"]
    assert content[0].startswith("# ") or content == ["{}"]


def test_every_variable_names_a_setting_that_exists():
    names = OmegaConf.to_container(OmegaConf.load(packaged_conf() / "env.yaml"))
    assert len(names) >= 8
    sections = {key for key, field in FIELDS.items() if dataclasses.is_dataclass(field.annotation)}
    assert set(names.values()) <= set(FIELDS) - sections
    assert all(name == name.upper() for name in names)
