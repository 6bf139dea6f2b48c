"""`dlgsum models`: what its commands print, refuse and return."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from dlgsum.cli import columns
from dlgsum.cli.experiments import cells
from dlgsum.cli.models import app, listing
from dlgsum.cli.models.options import complete_alias, complete_model
from dlgsum.core.errors import DlgsumError, UsageError
from dlgsum.tracking.registry import ModelRegistry

KIWI, CHAR = "rouge_combined_f1|scorer:kiwi|refs:mean", "rouge_combined_f1|scorer:char|refs:mean"


def run(*arguments: str, good: bool = True) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    if good:
        assert result.exit_code == 0, result.output
    return result


def refused(*arguments: str) -> DlgsumError:
    error = run(*arguments, good=False).exception
    assert isinstance(error, DlgsumError), error
    return error


def as_json(*arguments: str, good: bool = True) -> Any:
    return json.loads(run(*arguments, "--json", good=good).stdout)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    monkeypatch.chdir(tmp_path)
    # Composing the configuration, which says where the registry is, takes longer than all else here.
    monkeypatch.setattr("dlgsum.recipes.models.open_registry", lambda request: ModelRegistry("outputs"))
    registry = ModelRegistry("outputs")
    for name, score, signature in (("kobart", 0.3, KIWI), ("kobart", 0.4, KIWI), ("[red]대화", 0.9, CHAR)):
        identity = f"20260101_000000_{len(registry.models())}"
        folder = tmp_path / "outputs" / "experiments" / identity / "models" / "best_model"
        folder.mkdir(parents=True)
        (folder.parents[1] / "config.yaml").write_text("general: {seed: 1}\n")
        (folder / "model.safetensors").write_bytes(identity.encode())
        registry.register_model(
            name, "kobart", "digit82/kobart-summarization", {}, {"rouge_combined_f1": score}, {"seed": 1}, folder,
            identity, signature, "a" * 64,
        )  # fmt: skip
    return registry


def test_without_models_it_says_so_and_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no model is registered in" in run("list").stderr
    assert as_json("list") == {"models": []}
    assert as_json("best", "--output-dir", "results", "--store", "sqlite:///other.db")["models"] == []
    assert not (tmp_path / "outputs").exists()


def test_list_shows_each_model(registry: ModelRegistry) -> None:
    registry.promote("kobart@1")
    (registry.output_dir / "experiments/20260101_000000_1/models/best_model/model.safetensors").unlink()
    text = run("list").stdout
    assert "red_대화" in text
    assert "champion" in text
    assert "files are gone" in text
    first = as_json("list", "--name", "kobart")["models"][0]
    assert (first["id"], first["aliases"], first["score"], first["scorer"]) == ("kobart-v1", ["champion"], 0.3, "kiwi")
    assert [it["id"] for it in as_json("list", "--alias", "champion")["models"]] == ["kobart-v1"]
    assert "fits" in run("list", "--architecture", "t5").stderr


def on_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> io.StringIO:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width, highlight=False, color_system=None)
    for module in (cells, columns, listing):
        monkeypatch.setattr(module, "results", lambda: console)
    return text


@pytest.mark.parametrize(("width", "missing"), [(80, ["size", "registered"]), (200, []), (60, ["scale"])])
def test_list_fits_a_terminal(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch, width: int, missing: list[str]
) -> None:
    registry.promote("kobart@1")
    registry.promote("kobart@1", "best-of-may")
    text = on_terminal(monkeypatch, width)
    said = run("list").stderr
    lines = text.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= width
    assert len(lines) == 4
    assert "2 scales" in said or "different scales" in said
    assert all(any(line.startswith(name) for line in lines) for name in ("kobart-v1", "kobart-v2", "red_대화-v1"))
    for head in missing:
        assert head not in lines[0]
        assert head in said
    assert ("no room here" in said) == bool(missing)
    assert "0.3000" in lines[1]


def test_a_long_name_keeps_its_version(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = next(registry.output_dir.rglob("best_*"))
    for _ in range(2):
        registry.register_model("긴_이름" * 12, "kobart", "", {}, {"rouge_combined_f1": 0.5}, {}, folder)
    text = on_terminal(monkeypatch, 80)
    run("list", "--name", "긴_이름" * 12)
    lines = text.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert ["…-v1 " in lines[1], "…-v2 " in lines[2], "0.5000" in lines[2]] == [True] * 3


def test_a_pipe_gets_every_column_whole(registry: ModelRegistry) -> None:
    lines = run("list").stdout.splitlines()
    assert lines[0].split() == [
        "model", "aliases", "rouge_combined_f1", "scale", "size", "registered", "run", "files",
    ]  # fmt: skip
    assert "20260101_000000_0" in lines[1]
    assert not any(line != line.rstrip() for line in lines)


def test_a_metric_of_no_known_direction_is_refused(registry: ModelRegistry, tmp_path: Path) -> None:
    registry.register_model("slow", "kobart", "", {}, {"runtime": 1.0}, {}, next(registry.output_dir.rglob("best_*")))
    assert refused("best", "--metric", "runtime").exit_code == 2


def test_best_compares_only_one_scale(registry: ModelRegistry) -> None:
    error = refused("best")
    assert isinstance(error, UsageError)
    assert "--signature" in str(error)
    found = as_json("best", "--signature", "kiwi", "--limit", "1")
    assert [it["id"] for it in found["models"]] == ["kobart-v2"]
    assert found["left_out"] == ["1 model with scores of another signature left out"]
    assert "0.4000" in run("best", "--signature", "kiwi").stdout


def test_an_alias_is_given_shown_and_taken(registry: ModelRegistry) -> None:
    assert "champion means kobart-v1 now" in run("promote", "models:kobart@1", "--note", "첫째").stdout
    assert "it meant kobart-v1 before" in run("promote", "20260101_000000_1").stdout
    assert "already" in run("promote", "kobart").stdout
    shown = as_json("show", "champion")
    assert (shown["model_id"], shown["experiment_id"]) == ("kobart-v2", "20260101_000000_1")
    assert [it["note"] for it in shown["history"]] == ["첫째", ""]
    assert "sha256" in run("show", "models:champion").stdout
    assert "첫째" in run("history", "champion").stdout
    assert "it meant kobart-v2" in run("demote", "champion").stdout
    assert [it["model_id"] for it in as_json("history")["history"]] == ["kobart-v1", "kobart-v2", None]
    assert "never was" in str(refused("history", "nobody"))


def test_runs_name_their_models(registry: ModelRegistry) -> None:
    assert as_json("show", "20260101_000000_0")["model_id"] == "kobart-v1"
    assert as_json("show", "latest")["model_id"] == "red_대화-v1"
    assert "Did you mean kobart?" in str(refused("show", "kobrt"))
    for path in registry.folder.glob("red*.json"):
        path.unlink()
    assert "is not registered" in str(refused("show", "latest"))
    assert "There is no model 'latest'" in str(refused("show", "models:latest"))


def test_compare_marks_scores_of_another_scale(registry: ModelRegistry) -> None:
    text = run("compare", "kobart@1", "kobart@2").stdout
    assert "(+0.1000)" in text
    assert "no setting differs" in text
    other = run("compare", "kobart@1", "red_대화")
    assert "0.9000 *" in other.stdout
    assert "not comparable with kobart-v1" in other.stderr
    assert as_json("compare", "kobart@1", "red_대화")["metrics"][0]["differences"] == [0.0, None]
    assert "two models" in str(refused("compare", "kobart"))


def test_verify_ends_with_3_where_files_are_not_as_they_were(registry: ModelRegistry) -> None:
    assert "kobart-v1: good" in run("verify", "kobart@1", "--no-load").stdout
    path = registry.output_dir / "experiments/20260101_000000_0/models/best_model"
    (path / "model.safetensors").write_bytes(b"other")
    result = run("verify", "--all", "--no-load", good=False)
    assert result.exit_code == 3
    assert "kobart-v1: changed: model.safetensors" in result.stdout
    found = as_json("verify", "kobart@1", "--no-load", good=False)["models"][0]
    assert (found["good"], found["changed"], found["loaded"]) == (False, ["model.safetensors"], None)
    assert refused("promote", "kobart@1").exit_code == 3
    assert "warning" in run("promote", "kobart@1", "--force").stderr
    assert "not both" in str(refused("verify"))


def test_export_writes_a_folder(registry: ModelRegistry, tmp_path: Path) -> None:
    assert "model.safetensors" in run("export", "kobart", "새 폴더").stdout
    assert (tmp_path / "새 폴더" / "model.safetensors").read_bytes() == b"20260101_000000_1"
    assert "--force" in str(refused("export", "kobart", "새 폴더"))
    assert as_json("export", "kobart@1", "새 폴더", "--force", "--layout", "hub")["files"] == [
        "README.md", "model.safetensors",
    ]  # fmt: skip


def test_names_are_completed_from_the_files(registry: ModelRegistry) -> None:
    registry.promote("kobart", "best-of-may")
    context = typer.Context(typer.main.get_command(app))
    context.params["output_dir"] = registry.output_dir
    assert complete_model(context, "ko") == [("kobart", "model, newest version 2")]
    assert complete_model(context, "models:b") == [("models:best-of-may", "means kobart-v2")]
    assert [name for name, _ in complete_alias(context, "")] == ["best-of-may", "champion", "challenger"]
