"""Batch sizes that are to be found by trying: where `auto` may stand, what is said where it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dlgsum.cli.app import app
from dlgsum.cli.completion.schema_source import read_keys
from dlgsum.config.compose import compose, to_yaml
from dlgsum.config.explain import explain
from dlgsum.config.legacy import migrate
from dlgsum.config.request import Request
from dlgsum.config.schema import Config, defaults
from dlgsum.config.validate import build_config
from dlgsum.core.errors import ConfigError
from dlgsum.recipes.use import TrainedModel

ROWS, EVAL, TOKENS = "per_device_train_batch_size", "per_device_eval_batch_size", "tokens_per_batch"


def composed(*overrides: str, **environ: str) -> Config:
    return compose(Request(overrides=list(overrides), environ=environ)).config


def problems(*overrides: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        composed(*overrides, **environ)
    return raised.value.problems


@pytest.mark.parametrize("value", ["abc", "true", "2.5", "0", "-3", "null", "Auto", "[1]", "1e3"])
@pytest.mark.parametrize(("key", "least"), [(ROWS, 1), (EVAL, 1), (TOKENS, 64)])
def test_one_line_says_what_is_allowed(key: str, least: int, value: str):
    if value == "1e3":
        assert getattr(composed(f"training.{key}={value}").training, key) == 1000
        return
    (problem,) = problems(f"training.{key}={value}")
    shown = "[1]" if value == "[1]" else value
    assert problem.startswith(f"training.{key}={shown}: must be a whole number of at least {least}, or auto")


def test_every_other_problem_is_still_said():
    found = problems("training.per_device_train_batch_size=abc", "training.learning_rate=-1", "training.nosuch=1")
    assert len(found) == 3
    with pytest.raises(ConfigError) as raised:
        build_config({"training": {ROWS: {"a": 1}, "warmup_steps": 1, "warmup_ratio": 0.1}, "data": {"cleaning": [3]}})
    assert [problem.partition(":")[0].partition("=")[0] for problem in raised.value.problems] == [
        "data.cleaning.0", f"training.{ROWS}", "training.warmup_steps and training.warmup_ratio are both set; keep one",
    ]  # fmt: skip


def test_auto_from_the_command_line_and_the_environment():
    assert composed(f"training.{ROWS}=auto").training.per_device_train_batch_size == "auto"
    assert composed(BATCH_SIZE="auto").training.per_device_train_batch_size == "auto"
    assert composed(BATCH_SIZE="24").training.train_rows == 24
    tokens = composed("training.batching=tokens", f"training.{TOKENS}=auto", f"training.{EVAL}=auto").training
    assert (tokens.tokens_per_batch, tokens.per_device_eval_batch_size) == ("auto", "auto")
    again = compose(Request(values={"training": {ROWS: "auto"}}, environ={})).config
    assert f"{ROWS}: auto" in to_yaml(again)


def test_what_has_not_been_settled_is_not_taken_for_a_number():
    with pytest.raises(ValueError, match="not settled"):
        _ = composed(f"training.{ROWS}=auto").training.train_rows


@pytest.mark.parametrize(
    ("overrides", "meant"),
    [
        (["training.batching=tokens", f"training.{ROWS}=auto"], f"training.{TOKENS}=auto is meant"),
        ([f"training.{TOKENS}=auto"], f"training.{ROWS}=auto is meant"),
        (["training.batching=random", f"training.{TOKENS}=auto"], f"training.{ROWS}=auto is meant"),
        (
            [f"training.{ROWS}=auto", "training.effective_batch_size=64", "training.gradient_accumulation_steps=4"],
            "keep one",
        ),
    ],
)
def test_auto_where_training_does_not_go_by_it(overrides: list[str], meant: str):
    (problem,) = problems(*overrides)
    assert meant in problem


def test_an_effective_batch_goes_with_auto():
    assert composed(f"training.{ROWS}=auto", "training.effective_batch_size=61").training.effective_batch_size == 61


@pytest.mark.parametrize(("key", "least"), [(ROWS, 1), (EVAL, 1), (TOKENS, 64)])
def test_explained_and_completed(key: str, least: int):
    (it,) = explain(f"training.{key}", defaults(), {})
    assert (it.type, it.range, it.choices) == ("whole number or auto", f"at least {least}", ("auto",))
    assert read_keys()[f"training.{key}"].values == ("auto",)
    shown = CliRunner().invoke(app, ["config", "explain", f"training.{key}"])
    assert shown.exit_code == 0
    assert "auto" in shown.output and f"at least {least}" in shown.output


@pytest.mark.parametrize(
    ("keys", "expected", "lost"),
    [
        ({"auto_find_batch_size": True}, {ROWS: "auto"}, []),
        ({"auto_find_batch_size": True, ROWS: 50}, {ROWS: "auto", "effective_batch_size": 50}, []),
        (
            {"auto_find_batch_size": True, ROWS: 50, "gradient_accumulation_steps": 2},
            {ROWS: "auto", "gradient_accumulation_steps": 2},
            [],
        ),
        ({"auto_find_batch_size": False, ROWS: 50}, {ROWS: 50}, []),
        ({"auto_find_batch_size": None}, {}, []),
        ({"auto_find_batch_size": "perhaps", ROWS: 50}, {ROWS: 50}, ["training.auto_find_batch_size"]),
    ],
)
def test_the_old_name_is_carried_over(keys: dict[str, Any], expected: dict[str, Any], lost: list[str]):
    old = {"evaluation_strategy": "epoch", "predict_with_generate": True}
    migration = migrate({"training": {**old, **keys}, "inference": {"num_beams": 4}})
    names = (ROWS, "effective_batch_size", "gradient_accumulation_steps")
    assert {name: value for name, value in migration.values["training"].items() if name in names} == expected
    assert [loss.key for loss in migration.warnings] == lost
    compose(Request(values=migration.as_file(), environ={}))


def test_a_trained_model_is_not_tried_with_batch_sizes():
    model = TrainedModel(Path("x"), composed(f"training.{EVAL}=auto"), "x")
    assert model.rows_in_a_batch(7) == 7
    with pytest.raises(ConfigError, match="--batch-size 32"):
        model.rows_in_a_batch(None)
    assert TrainedModel(Path("x"), composed(f"training.{EVAL}=9"), "x").rows_in_a_batch(None) == 9
