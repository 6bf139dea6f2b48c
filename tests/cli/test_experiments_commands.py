"""What `dlgsum experiments list`, `show`, `tag`, `note` and `reindex` print, on terminals and in pipes."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner, Result

from dlgsum.cli.experiments import app, cells, listing
from dlgsum.config.request import Request
from dlgsum.core.files import append_jsonl
from dlgsum.recipes import stored
from dlgsum.tracking.run import RunFolder
from tests.recipes.made_up_runs import make_run, make_ten


@pytest.fixture
def ten(tmp_path: Path) -> tuple[Path, dict[str, RunFolder]]:
    return tmp_path / "결과", make_ten(tmp_path / "결과")


@pytest.fixture(autouse=True)
def place_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration takes a third of a second; that it is composed once a folder is enough."""
    find, known = stored.find_place, dict[tuple[str, ...], stored.Place]()

    def remembered(request: Request) -> stored.Place:
        key = tuple(request.overrides)
        return known.setdefault(key, known[key] if key in known else find(request))

    monkeypatch.setattr(stored, "find_place", remembered)


def ask(outputs: Path, *words: str) -> Result:
    result = CliRunner().invoke(app, [*words, "--output-dir", str(outputs)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def on_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> Console:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, color_system=None)
    for module in (cells, listing):
        monkeypatch.setattr(module, "results", lambda: console)
    return console


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_list_in_a_pipe_has_whole_ids_and_all_columns(ten: tuple[Path, dict[str, RunFolder]]):
    outputs, runs = ten
    result = ask(outputs, "list")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["id", "name", "status", "started", "took", "combined", "test", "steps", "tags"]
    assert all(any(line.startswith(run.id) for line in lines) for run in runs.values())
    assert lines[1].startswith(max(run.id for run in runs.values())), "the newest first"
    assert not any(line != line.rstrip() for line in lines) and "\x1b" not in result.stdout
    assert "2 different scales" in result.stdout and "warning" not in result.stdout
    filtered = ask(outputs, "list", "rouge_combined_f1>0.25", "--sort", "-rouge_combined_f1", "--limit", "2").stdout
    assert [line.split()[0] for line in filtered.splitlines()[1:3]] == [runs["high"].id, runs["other scale"].id]
    for said in ("0.4000 A", "0.3500 B", "2 of 10", "1 more fit", "warning: The validation scores", "scorer:mecab"):
        assert said in filtered, said


@pytest.mark.parametrize("width", [40, 80, 120])
def test_list_fits_a_terminal(ten: tuple[Path, dict[str, RunFolder]], monkeypatch: pytest.MonkeyPatch, width: int):
    outputs, runs = ten
    console = on_terminal(monkeypatch, width)
    ask(outputs, "list")
    lines = text_of(console).splitlines()
    assert max(map(cell_len, lines)) <= width
    short = runs["middle"].id.rpartition("_")[2]
    (row,) = [line for line in lines if line.startswith(short)]
    assert ("0.3000" in row and "completed" in row) or width == 40
    assert ("baseline" in row) == (width == 120)
    assert ask(outputs, "tag", short).stdout.split() == [runs["middle"].id, "baseline"], "accepted as RUN"


def test_json_holds_everything_and_is_never_cut_short(ten: tuple[Path, dict[str, RunFolder]]):
    outputs, runs = ten
    found = json.loads(ask(outputs, "list", "--json", "--sort", "id").stdout)
    assert [it["id"] for it in found] == sorted(run.id for run in runs.values())
    nan = found[3]
    assert nan["best_metrics"]["rouge_combined_f1"] == "NaN" and nan["missing"] is False
    assert nan["started"] == "2026-11-21T13:54:02+00:00"
    some = json.loads(ask(outputs, "list", "tag=baseline", "--columns", "id,training.learning_rate", "--json").stdout)
    assert some == [{"id": runs["high"].id, "training.learning_rate": "auto"},
                    {"id": runs["middle"].id, "training.learning_rate": 3e-5}]  # fmt: skip


def test_json_tells_scales_too(ten: tuple[Path, dict[str, RunFolder]]):
    outputs, runs = ten
    result = ask(outputs, "list", "--json", "--sort", "-rouge_combined_f1")
    letters = {it["id"]: (it["scale"], it["test_scale"]) for it in json.loads(result.stdout)}
    assert letters[runs["low"].id] == letters[runs["high"].id] == ("A", "a")
    assert letters[runs["other scale"].id] == ("B", "b") and letters[runs["killed"].id] == (None, None)
    assert "warning: The validation scores" in result.stderr and "scorer:mecab" in result.stderr
    few = ask(outputs, "list", "--json", "--columns", "id,rouge_combined_f1", "rouge_combined_f1>0.38")
    assert json.loads(few.stdout) == [{"id": runs["high"].id, "rouge_combined_f1": 0.4}] and "scale" not in few.stderr


def test_a_run_without_the_scores_shown_is_on_no_scale(tmp_path: Path):
    make_run(tmp_path, 1, score=0.3)
    foreign = make_run(tmp_path, 2, status="running")
    append_jsonl(foreign.metrics, {"step": 2, "metrics": {"eval/runtime": 3.0}})
    assert "scales" not in ask(tmp_path, "list").stdout
    assert "signature unknown" in ask(tmp_path, "list", "--columns", "id,rouge_combined_f1,runtime").stdout


def test_nothing_there_and_nothing_fitting(tmp_path: Path, ten: tuple[Path, dict[str, RunFolder]]):
    assert "no experiments" in ask(tmp_path / "none", "list").stdout
    assert json.loads(ask(tmp_path / "none", "list", "--json").stdout) == []
    assert "None of 10" in ask(ten[0], "list", "tag=nobody").stdout
    assert json.loads(ask(ten[0], "list", "tag=nobody", "--json").stdout) == []


def test_a_folder_that_is_gone_is_told_once_and_marked(ten: tuple[Path, dict[str, RunFolder]]):
    outputs, runs = ten
    ask(outputs, "list")
    shutil.rmtree(runs["low"].path)
    first, second = ask(outputs, "list"), ask(outputs, "list")
    assert runs["low"].id in first.stderr and not second.stderr
    for result in (first, second):
        assert "completed, gone" in result.stdout and "reindex" in result.stdout
    assert "not here" in ask(outputs, "show", runs["low"].id).stdout
    rebuilt = json.loads(ask(outputs, "reindex", "--json").stdout)
    assert rebuilt["dropped"] == [runs["low"].id] and len(rebuilt["updated"]) == 9


def test_show_in_a_pipe_and_as_json(ten: tuple[Path, dict[str, RunFolder]]):
    outputs, runs = ten
    text = ask(outputs, "show", runs["low"].id).stdout
    for said in ("실험 0", "abc123abc123", "train/loss", "█▁", "training.learning_rate", "default 5e-05", "좋은 요약",
                 "kB in 2 files", "lead", "0.1000",
                 shlex.join(["dlgsum", "experiments", "rerun", str(runs["low"].path)])):  # fmt: skip
        assert said in text, said
    content: dict[str, Any] = json.loads(ask(outputs, "show", runs["low"].id, "--json").stdout)
    assert content["id"] == runs["low"].id and content["best_metrics"]["rouge_combined_f1"] == 0.2
    assert content["details"]["samples"][0]["score"] == 0.9
    failed = ask(outputs, "show", runs["failed"].id).stdout
    assert "failed" in failed and "loss is NaN at step 3" in failed


def test_show_fits_a_terminal_but_commands_stay_whole(
    ten: tuple[Path, dict[str, RunFolder]], monkeypatch: pytest.MonkeyPatch
):
    outputs, runs = ten
    console = on_terminal(monkeypatch, 60)
    monkeypatch.setattr("dlgsum.cli.experiments.show.results", lambda: console)
    ask(outputs, "show", runs["low"].id)
    head, _, commands = text_of(console).partition("\nnext")
    assert max(map(cell_len, head.splitlines())) <= 60
    assert str(runs["low"].path) in commands


def test_names_of_strangers_have_no_say_on_the_terminal(ten: tuple[Path, dict[str, RunFolder]]):
    outputs, runs = ten
    settings = 'meta: {experiment_name: "[red]a\\e[31m\\nb"}\n'
    runs["low"].config.write_text(settings)
    for words in (("list",), ("show", runs["low"].id)):
        text = ask(outputs, *words).stdout
        assert "\x1b" not in text and "[red]a [31m b" in text, words


def test_tag_and_note(ten: tuple[Path, dict[str, RunFolder]]):
    outputs, runs = ten
    name = runs["running"].id
    assert ask(outputs, "tag", name, "새것", "b").stdout == f"{name}  새것 b\n"
    result = ask(outputs, "tag", name, "--remove", "b", "--remove", "c")
    assert result.stdout == f"{name}  새것\n" and "had no tag c" in result.stderr
    assert ask(outputs, "note", name, "한 줄").stdout == "한 줄\n"
    assert ask(outputs, "note", name, "--append", "둘").stdout == ask(outputs, "note", name).stdout == "한 줄\n둘\n"
    assert json.loads(ask(outputs, "note", name, "--json").stdout) == {"id": name, "notes": "한 줄\n둘"}
    assert name in ask(outputs, "list", "notes~둘", "tag=새것").stdout


def test_listing_imports_nothing_heavy(ten: tuple[Path, dict[str, RunFolder]]):
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom dlgsum.cli.experiments import app\n"
        f"result = CliRunner().invoke(app, ['list', '--output-dir', {str(ten[0])!r}])\n"
        "assert result.exit_code == 0 and '008beef0' in result.stdout, result.output\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'wandb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
