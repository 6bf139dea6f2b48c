"""What completion offers, what it says to the shells, and that it imports nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
import typer

from dlgsum.cli.app import app, main
from dlgsum.cli.completion import completers
from dlgsum.cli.completion.answer import _needed, candidates
from dlgsum.cli.completion.answer import main as answer
from dlgsum.cli.completion.command import Shell, detect_shell, install_script
from dlgsum.cli.completion.line import escape, read_line
from dlgsum.core import plugins
from dlgsum.core.errors import UsageError

HEAVY = ("torch", "transformers", "datasets", "evaluate", "wandb", "numpy", "pandas", "pydantic", "hydra", "omegaconf",
         "yaml", "kiwipiepy")  # fmt: skip
BREAKS = " \t\n\"'@><=;|&(:"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for variable in list(os.environ):
        if variable.startswith(("DLGSUM__", "OUTPUT_DIR")):
            monkeypatch.delenv(variable)
    return tmp_path


def offered(line: str, after: str = "") -> list[str]:
    """Return the candidates at the end of a line that begins behind `dlgsum`."""
    *words, word = line.split(" ")
    return [value for value, _ in candidates(app, words, word, after.split())]


# --- what is offered ---


def test_commands_and_options_come_from_the_app():
    mine = typer.Typer()
    config = typer.Typer()

    @config.callback()
    def root() -> None: ...

    @config.command()
    def brandnew(shape: Annotated[str, typer.Option("--shape", "-s")] = "", count: int = 0) -> None:
        """Do something new."""

    @mine.command(hidden=True)
    def secret() -> None: ...

    mine.add_typer(config, name="config")
    assert candidates(mine, [], "") == [("config", "")]
    assert candidates(mine, ["config"], "br") == [("brandnew", "Do something new.")]
    assert [value for value, _ in candidates(mine, ["config", "brandnew"], "--")] == ["--shape", "--count", "--help"]
    assert [value for value, _ in candidates(mine, ["config", "brandnew", "-s", "x"], "--")] == ["--count", "--help"]
    assert candidates(mine, ["config", "brandnew", "--count"], "") == []
    assert candidates(mine, [], "sec") == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tra", ["train"]),
        ("nosuch ", []),
        ("nosuch tra", []),
        ("train mod", ["model=", "model."]),
        ("train model=kob", ["model=kobart", "model=kobart_base", "model=kobart_mini"]),
        ("train model.m", ["model.mini."]),
        ("train model.mini.d", ["model.mini.d_model=", "model.mini.decoder_layers=", "model.mini.dropout="]),
        ("train training.le", ["training.learning_rate="]),
        ("train training.batching=", [f"training.batching={it}" for it in ("samples", "tokens", "random")]),
        ("train training.fp16=", ["training.fp16=true", "training.fp16=false", "training.fp16=null"]),
        ("train training.eval_steps=", []),
        ("train data.cleaning=", [f"data.cleaning=[{step}" for step in ("newlines", "tags", "blanks", "nfc")]),
        ("train data.cleaning=[nfc,t", ["data.cleaning=[nfc,tags"]),
        ("train metrics.best=bl", ["metrics.best=bleu"]),
        ("train nosuch.", []),
        ("train nosuch=", []),
        ("train =", []),
        ("train model=kobart -- training.opt", ["training.optim="]),
        ("train -- --c", []),
        ("train --config-dir=x --config", ["--config"]),
        ("train --debug --de", []),
        ("train --nosuch=", []),
        ("completion ", ["bash", "zsh", "fish"]),
        ("completion bash ", []),
        ("evaluate --batch-size ", []),
        ("config show training.batching=t", ["training.batching=tokens"]),
    ],
)  # fmt: skip
def test_what_is_offered(line: str, expected: list[str]):
    assert offered(line) == expected


def test_every_command_is_offered():
    assert offered("") == list(typer.main.get_command(app).commands)


def test_scorers_are_the_plugins():
    assert offered("train metrics.scorer=") == [f"metrics.scorer={name}" for name in plugins.names("scorers")]


def test_descriptions():
    found = dict(candidates(app, ["train"], "model="))
    assert found["model=kobart_base"] == "KoBART as pretrained, not yet a summarizer."
    assert dict(candidates(app, ["train"], "training.learning"))["training.learning_rate="] == "Peak learning rate."
    assert dict(candidates(app, ["train"], "training.batching="))["training.batching=random"] == "plain shuffling"
    assert all(help for _, help in candidates(app, ["train"], ""))


def test_paths(folder: Path):
    for name in ("b.csv", "a.JSONL", "c.yaml", ".hidden.csv", "sub/d.tsv", "line\nbreak.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "dangling.csv").symlink_to("nowhere")
    assert offered("train data.train=") == [f"data.train={it}" for it in ("a.JSONL", "b.csv", "dangling.csv", "sub/")]
    assert offered("train data.train=sub/") == ["data.train=sub/d.tsv"]
    assert offered("train data.train=.h") == ["data.train=.hidden.csv"]
    assert offered(f"train data.train={folder}/b") == [f"data.train={folder}/b.csv"]
    assert offered("train general.output_dir=") == ["general.output_dir=sub/"]
    assert offered("train --config ") == ["c.yaml", "sub/"]
    assert offered("train --config-dir ") == ["sub/"]
    assert offered("evaluate latest --data b") == ["b.csv"], "a path that has no completer of its own"
    assert "model.checkpoint=digit82/kobart-summarization" in offered("train model.checkpoint=")
    assert "model.checkpoint=sub/" in offered("train model.checkpoint=")
    assert offered("train data.train=~nobody/") == offered("train data.train=sub/x\0/") == []


def make_run(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "config.yaml").write_text("{}")


def test_runs_are_newest_first(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("20260101_000000_a", "20260303_000000_c", "20260202_000000_b"):
        make_run(folder / "outputs" / "experiments", name)
    (folder / "outputs" / "experiments" / "no_run").mkdir()
    last = folder / "outputs" / "experiments" / "20260303_000000_c"
    (last / "status.json").write_text('{"status": "completed"}')
    (last / "training_results.json").write_text('{"best_metrics": {"rouge_combined_f1": 0.5}}')
    newest_first = ["20260303_000000_c", "20260202_000000_b", "20260101_000000_a"]
    for command in ("predict", "evaluate"):
        assert offered(f"{command} ") == ["latest", "best", *newest_first]
    assert dict(candidates(app, ["predict"], "2026"))["20260303_000000_c"] == "completed, combined 50.00"
    assert offered("predict 202602") == ["20260202_000000_b"]
    assert "outputs/experiments/" in offered("predict outputs/")
    make_run(folder / "a" / "experiments", "in_a")
    make_run(folder / "b" / "experiments", "in_b")
    monkeypatch.setenv("OUTPUT_DIR", "a")
    assert offered("predict in") == ["in_a"]
    assert offered("predict in", after="x.csv general.output_dir=b") == ["in_b"]
    monkeypatch.setenv("DLGSUM__GENERAL__OUTPUT_DIR", "b")
    assert offered("evaluate in") == ["in_b"]


def _given(completer: Callable[[typer.Context, str], list[tuple[str, str]]], word: str) -> list[str]:
    context = typer.Context(typer.main.get_command(app), info_name="dlgsum")
    return [value for value, _ in completer(context, word)]


def test_keys_without_values():
    assert _given(completers.complete_keys, "training.le") == ["training.learning_rate"]
    assert {"training.", "experiment"} <= set(_given(completers.complete_keys, ""))
    assert _given(completers.complete_keys, "wand") == ["wandb."]
    assert _given(completers.complete_keys, "experiment") == ["experiment"]


def test_names_of_configurations(folder: Path):
    make_run(folder / "outputs" / "experiments", "20260101_000000_a")
    (folder / "mine.yaml").touch()
    found = _given(completers.complete_config_name, "")
    assert found == ["baseline", "latest", "best", "20260101_000000_a", "mine.yaml", "outputs/"]
    assert _given(completers.complete_config_name, "outputs/") == ["outputs/experiments/"]


def test_a_file_or_an_override(folder: Path):
    (folder / "test.csv").touch()
    assert _given(completers.complete_input, "te") == ["test.csv"]
    assert _given(completers.complete_input, "generation.num") == ["generation.num_beams="]


def test_a_broken_folder_of_configurations_breaks_nothing(folder: Path):
    whole = [line for line in offered("train ") if line.startswith("mo")]
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "latin.yaml").write_bytes(b"# caf\xe9: [\n")
    (folder / "conf" / "model" / "folder.yaml").mkdir()
    (folder / "conf" / "model" / "gone.yaml").symlink_to("nowhere")
    (folder / "conf" / "training").write_text("a file, not a folder")
    (folder / "conf" / "env.yaml").write_bytes(b"\xff")
    assert [line for line in offered("train ") if line.startswith("mo")] == whole
    assert {"model=kobart", "model=latin"} <= set(offered("train model="))
    assert "training=tokens" in offered("train training=")
    assert offered("train --config-dir nosuch model=kobart_b") == ["model=kobart_base"]


# --- the shells' side ---


@pytest.mark.parametrize(
    ("text", "words", "word", "piece"),
    [
        ("dlgsum ", ["dlgsum"], "", ""),
        ("dlgsum  train", ["dlgsum"], "train", "train"),
        ("dlgsum a.b=to", ["dlgsum"], "a.b=to", "to"),
        ("dlgsum a.b=", ["dlgsum"], "a.b=", ""),
        ("dlgsum a=x:y", ["dlgsum"], "a=x:y", "y"),
        ("dlgsum 'a b' c", ["dlgsum", "a b"], "c", "c"),
        ("dlgsum a='x =y", ["dlgsum"], "a=x =y", "x =y"),
        ('dlgsum "a\\"b\\c', ["dlgsum"], 'a"b\\c', 'a\\"b\\c'),
        ("dlgsum x=a\\ b/대", ["dlgsum"], "x=a b/대", "a\\ b/대"),
        ("dlgsum x\\=y", ["dlgsum"], "x=y", "x\\=y"),
        ("dlgsum '' ", ["dlgsum", ""], "", ""),
    ],
)
def test_a_line_is_cut_as_bash_cuts_it(text: str, words: list[str], word: str, piece: str):
    line = read_line(text, BREAKS)
    assert (line.words, line.word, line.piece) == (words, word, piece)
    assert read_line(f"x {escape(word)}").word == word


@pytest.mark.parametrize(
    "line",
    ["", "tr", "train ", "train --", "train train mod", "config ", "config show ", "config show --", "config nosuch ",
     "config explain training.le", "data check --", "--version train --", "-- train --", "nosuch train --",
     "train config show "],
)  # fmt: skip
def test_only_the_command_of_the_line_is_built_and_nothing_is_missing(line: str, monkeypatch: pytest.MonkeyPatch):
    found = offered(line)
    monkeypatch.setattr("dlgsum.cli.completion.answer._needed", lambda app, words: app)
    assert found == offered(line)


def test_only_the_command_of_the_line_is_built():
    before = len(app.registered_commands), len(app.registered_groups)
    root = typer.main.get_command(_needed(app, ["config", "show", "x"]))
    assert list(root.commands) == ["config"] and list(root.commands["config"].commands) == ["show"]
    assert list(typer.main.get_command(_needed(app, ["train"])).commands) == ["train"]
    assert (len(app.registered_commands), len(app.registered_groups)) == before
    assert len(typer.main.get_command(app).commands["config"].commands) > 1


PROGRAM = f"""
import sys
sys.argv[0] = "dlgsum"
from dlgsum.cli.app import main
main()
sys.stderr.write(",".join(name for name in {HEAVY!r} if name in sys.modules))
"""


def complete(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "__complete", *arguments], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("training.batching=to", "training.batching=tokens\tfilled"),
        ("metrics.scorer=ki", "metrics.scorer=kiwi"),
        ("metrics.best=ble", "metrics.best=bleu"),
        ("model=kobart_m", "model=kobart_mini"),
        ("model.checkpoint=digit", "model.checkpoint=digit82"),
        ("training.learning", "training.learning_rate="),
        ("--config-d", "--config-dir"),
        ("data.train=da", "data.train=data/"),
    ],
)
def test_nothing_heavy_is_imported_at_a_tab(folder: Path, word: str, line: str):
    (folder / "data").mkdir()
    code, out, heavy = complete("zsh", "1", "train", word)
    assert (code, heavy) == (0, "")
    assert out.startswith(line) and out.count("\n") == 1


def test_nothing_heavy_is_imported_to_find_runs(folder: Path):
    make_run(folder / "outputs" / "experiments", "20260101_000000_a")
    assert complete("fish", "1", "predict", "2026") == (0, "20260101_000000_a\t\n", "")


def test_bash_gets_what_follows_its_cut(folder: Path):
    (folder / "a b").mkdir()
    assert complete("bash", "dlgsum train training.batching=to", "", BREAKS) == (0, "tokens\n", "")
    assert complete("bash", "dlgsum train data.train=a", "", BREAKS)[1] == "a b/\n", "readline quotes names of files"
    assert complete("bash", "dlgsum train training.batching=to", "", " \t\n")[1] == "training.batching=tokens\n"


@pytest.mark.parametrize(
    "arguments", ["", "foo", "bash", "bash a b", "zsh", "zsh 1 train", "zsh x train", "zsh -1 train", "zsh ² a b c"]
)
def test_a_call_by_hand_is_told_in_one_line(
    arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.argv", ["dlgsum", "__complete", *arguments.split()])
    with pytest.raises(SystemExit) as exit:
        main()
    out, err = capsys.readouterr()
    assert (exit.value.code, out, err.count("\n")) == (2, "", 1)
    assert f"__complete {arguments}".strip() in err and "dlgsum completion bash" in err


def broken(incomplete: str) -> list[str]:
    raise LookupError("token=hunter2\nline two")


def test_a_fault_is_one_line_and_its_place_only_for_those_who_ask(capsys: pytest.CaptureFixture[str]):
    mine = typer.Typer()

    @mine.command()
    def one(shape: Annotated[str, typer.Option(autocompletion=broken)] = "") -> None: ...

    for words in (["--shape", "x"], ["--debug", "--shape", "x"]):
        with pytest.raises(SystemExit) as exit:
            answer(["zsh", str(len(words) - 1), *words], mine)
        out, err = capsys.readouterr()
        assert (exit.value.code, out) == (1, "")
        assert err.endswith("error: nothing can be completed: LookupError: token=*** line two; "
                            "a word --debug behind it shows where\n")  # fmt: skip
        assert ("Traceback" in err, err.count("\n") > 1) == ("--debug" in words, "--debug" in words)
        assert "hunter2" not in err


# --- the command ---


def test_the_shell_is_detected():
    assert detect_shell({"SHELL": "/usr/bin/zsh"}) is Shell.zsh
    for environ, part in (({}, "not set"), ({"SHELL": "/bin/tcsh"}, "tcsh")):
        with pytest.raises(UsageError, match=part):
            detect_shell(environ)


def test_the_startup_file_stays_the_users(folder: Path, monkeypatch: pytest.MonkeyPatch):
    home = folder / "my home's"
    (home / "dotfiles").mkdir(parents=True)
    (home / "dotfiles" / "zshrc").write_text("# 내 설정")
    (home / ".zshrc").symlink_to("dotfiles/zshrc")
    monkeypatch.setenv("HOME", str(home))
    for _ in range(2):
        install_script(Shell.zsh, {"XDG_DATA_HOME": str(home / "share")})
    assert (home / ".zshrc").is_symlink()
    kept, added = (home / ".zshrc").read_text(encoding="utf-8").splitlines()
    assert kept == "# 내 설정"
    assert added.endswith("# completion of dlgsum")
    checked = subprocess.run(["sh", "-c", added.replace(" && . ", " && test -s ")], timeout=60, check=False)
    assert checked.returncode == 0, added
