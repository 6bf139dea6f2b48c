"""Trackers are chosen by name; what cannot work is told before, or left out loudly."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core import plugins
from dlgsum.core.errors import ConfigError
from dlgsum.recipes import mirrors
from dlgsum.recipes.settle import compose_checked
from dlgsum.tracking.choice import chosen, tracker_class, tracker_problems
from dlgsum.tracking.run import RunFolder


def config(*names: str, mode: Any = "disabled") -> Config:
    plain = Config()
    return dataclasses.replace(
        plain,
        tracking=dataclasses.replace(plain.tracking, trackers=list(names), finish_timeout=60.0),
        wandb=dataclasses.replace(plain.wandb, mode=mode),
    )


def test_known_names_are_no_problem() -> None:
    assert tracker_problems(config()) == []
    assert tracker_problems(config("tensorboard", "mlflow", "comet_ml", "clearml", "tensorboard")) == []
    assert tracker_problems(config("wandb", mode="offline")) == []


def test_an_unknown_name_is_a_problem_with_the_nearest_one() -> None:
    (problem,) = tracker_problems(config("tensorbord", "mlflow"))
    assert "'tensorbord' is not one of azure_ml, " in problem and problem.endswith("did you mean tensorboard?")
    with pytest.raises(ConfigError, match="did you mean mlflow"):
        compose_checked(Request(overrides=["tracking.trackers=[mlfow]"], environ={}))


def test_wandb_is_switched_on_by_its_mode() -> None:
    (problem,) = tracker_problems(config("wandb"))
    assert "wandb.mode=disabled" in problem and "wandb.mode=online" in problem


def test_each_is_chosen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=None))
    assert chosen(config()) == []
    assert chosen(config("mlflow", "tensorboard", "mlflow")) == ["mlflow", "tensorboard"]
    assert chosen(config("tensorboard", "wandb", mode="offline")) == ["wandb", "tensorboard"]
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=object()))
    assert chosen(config("mlflow")) == ["wandb", "mlflow"]


def test_a_plugin_goes_before_what_transformers_integrates() -> None:
    assert [tracker_class(name).__module__ for name in ("tensorboard", "mlflow")] == [
        "dlgsum.tracking.trackers.tensorboard",
        "dlgsum.tracking.trackers.mlflow",
    ]
    assert tracker_class("comet_ml").title == "Comet"


@pytest.mark.parametrize("name", plugins.names("trackers"))
def test_a_plugin_has_the_name_of_its_module(name: str) -> None:
    plugin = tracker_class(name)
    assert plugin.name == name and plugin.title


def test_a_missing_package_is_told_at_the_start_and_the_others_are_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder.create(tmp_path)
    with caplog.at_level(logging.WARNING):
        opened = mirrors.build_trackers(config("comet_ml", "tensorboard"), run)
    assert [mirror.title for mirror in opened] == ["TensorBoard"]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("Comet is left out of this run (") and "pip install" in said
    opened[0].finish({}, failed=False)
    assert list((run.path / "tensorboard").iterdir())


@pytest.mark.parametrize(("saved", "wanted"), [("true", ["mlflow", "tensorboard"]), ("false", ["mlflow"])])
@pytest.mark.parametrize("way", ["base", "file", "values"])
def test_a_configuration_with_the_old_switch_for_tensorboard_still_loads(
    tmp_path: Path, saved: str, wanted: list[str], way: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"tracking:\n  tensorboard: {saved}\n  trackers: [mlflow]\n  notes: n\n", encoding="utf-8")
    content = {"tracking": {"tensorboard": saved == "true", "trackers": ["mlflow"], "notes": "n"}}
    request = {
        "base": Request(base=file, environ={}),
        "file": Request(file=file, environ={}),
        "values": Request(values=content, environ={}),
    }[way]
    tracking = compose(request).config.tracking
    assert (tracking.trackers, tracking.notes) == (wanted, "n")


def test_a_run_of_yesterday_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("tracking: {tensorboard: false}\n", encoding="utf-8")
    assert compose(Request(base=file, environ={})).config.tracking == Config().tracking
    file.write_text("tracking: {tensorboard: maybe}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tracking.tensorboard: .*tracking.trackers=\[tensorboard\]"):
        compose(Request(file=file, environ={}))
    with pytest.raises(ConfigError, match=r"tracking.tensorboard: .*tracking.trackers=\[tensorboard\]"):
        compose(Request(overrides=["tracking.tensorboard=true"], environ={}))


LIGHT = """
import sys
from dlgsum.config.schema import Config
from dlgsum.tracking.choice import tracker_problems
tracker_problems(Config())
heavy = {"torch", "transformers", "mlflow", "wandb", "tensorboard", "sqlalchemy"} & set(sys.modules)
assert not heavy, heavy
"""


def test_names_are_checked_before_anything_heavy_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_w_and_b_is_made_whole_by_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        title = "W&B"

        @classmethod
        def prepare(cls) -> None:
            pass

        @classmethod
        def open(cls, opening: Any) -> Any:
            raise ConnectionError("no route")

    monkeypatch.setattr(mirrors, "tracker_class", lambda name: Broken)
    run, told = RunFolder.create(tmp_path), []
    monkeypatch.setattr("dlgsum.tracking.detached.logger.warning", lambda text, *rest: told.append(text % rest))
    (mirror,) = mirrors.build_trackers(config(mode="offline"), run)
    mirror.finish({}, failed=False)
    assert told == [
        f"W&B is left out of this run (no route); the local record is complete; `dlgsum sync {run.id}` makes it whole"
    ]
