"""Completion in the shells themselves: keys go in through a terminal, and what the command then gets is compared."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dlgsum.cli.completion import command
from dlgsum.cli.completion.command import Shell, install_script, read_script

# Says what the command would get; completion asks the real program.
WRAPPERS = {
    "bash": 'dlgsum() { if [ "$1" = __complete ]; then command dlgsum "$@"; else printf "<%s>" "$@"; echo; fi; }',
    "zsh": 'dlgsum() { if [ "$1" = __complete ]; then command dlgsum "$@"; else printf "<%s>" "$@"; echo; fi; }',
    "fish": 'function dlgsum; if test "$argv[1]" = __complete; command dlgsum $argv; '
    'else; printf "<%s>" $argv; echo; end; end',
}
START = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"], "fish": ["--no-config", "-i"]}
SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed"))
    for shell in START
]
Typed = Callable[[str, list[str]], list[list[str]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with files, runs, an own configuration, and `dlgsum` on the path."""
    work = tmp_path / "work"
    for run in ("20260101_000000_aaa", "20260202_000000_bbb"):
        (work / "outputs" / "experiments" / run).mkdir(parents=True)
        (work / "outputs" / "experiments" / run / "config.yaml").write_text("{}\n")
    for name in (
        "pairs.csv",
        "data/dev set/대화.csv",
        "data/dev set/notes.txt",
        "conf/training/내것.yaml",
        "my.yaml",
        "plain.txt",
    ):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("# mine\nx: 1\n", encoding="utf-8")
    program = tmp_path / "bin" / "dlgsum"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dlgsum "$@"\n')
    program.chmod(0o755)
    return work


def environment(folder: Path, **more: str) -> dict[str, str]:
    foreign = ("DLGSUM__", "OUTPUT_DIR", "ZSH", "ZDOTDIR", "BASH", "FISH", "XDG_", "HIST", "PROMPT")
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(foreign)},
        "PATH": f"{folder.parent / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder.parent), "TERM": "xterm", "LC_ALL": "C.UTF-8", "INPUTRC": "/dev/null", **more,
    }  # fmt: skip


def in_terminal(program: list[str], lines: list[str], folder: Path, **more: str) -> str:
    """Run a shell in a terminal, type the lines one after another, and return everything it showed.

    A line is typed once there is a new prompt, which every caller sets to ``@>``, or nothing has happened for long.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execvpe(program[0], program, environment(folder, **more))
    shown = b""
    prompts, until = 0, time.monotonic() + 60
    waiting, quiet = [*lines, "exit\r"], time.monotonic() + 3
    while time.monotonic() < until:
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # the shell has gone
                break
            if not chunk:
                break
            shown += chunk
            quiet = time.monotonic() + 3
            # fish asks terminals what they are, and waits for the answer.
            if b"\x1b[c" in chunk or b"\x1b[0c" in chunk:
                os.write(terminal, b"\x1b[?62;c")
        elif waiting and (shown.count(b"@>") > prompts or time.monotonic() > quiet):
            prompts, quiet = shown.count(b"@>"), time.monotonic() + 3
            os.write(terminal, waiting.pop(0).encode())
    else:
        os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(terminal)
    return shown.decode("utf-8", "replace")


def without_escapes(shown: str) -> str:
    return re.sub(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[()].|[=>]|\][^\x07\x1b]*(\x07|\x1b\\))", "", shown)


@pytest.fixture
def typed(folder: Path) -> Typed:
    """Give a function that types lines into a shell and returns the words that dlgsum got from each."""

    def type_lines(shell: str, lines: list[str]) -> list[list[str]]:
        script = folder.parent / f"script.{shell}"
        prompt = "function fish_prompt; echo -n '@''>'; end" if shell == "fish" else "PS1='@''>'"
        script.write_text(f"{read_script(Shell(shell))}\n{WRAPPERS[shell]}\n{prompt}\n")
        keys = [f"{line}\r" for line in lines]
        if shell == "bash":
            shown = in_terminal(["bash", "--noprofile", "--rcfile", str(script), "-i"], keys, folder)
        elif shell == "zsh":
            shown = in_terminal(["zsh", "-f", "-i"], [f". {script}\r", *keys], folder, PS1="@>")
        else:
            shown = in_terminal(["fish", "--no-config", "-i", "--init-command", f"source {script}"], keys, folder)
        found = re.findall(r"^\r*((?:<[^<>\n]*>)+)\r*$", without_escapes(shown), re.MULTILINE)
        assert len(found) == len(lines), shown
        return [re.findall("<([^<>]*)>", words) for words in found]

    return type_lines


ONE_ANSWER = {
    "dlgsum tra\tx": ["train", "x"],
    "dlgsum train model=kobart_m\tx": ["train", "model=kobart_mini", "x"],
    "dlgsum train training=내\tx": ["train", "training=내것", "x"],
    "dlgsum train exp\tbase\tx": ["train", "experiment=baseline", "x"],
    "dlgsum train training.le\t3e-5": ["train", "training.learning_rate=3e-5"],
    "dlgsum train training.batching=to\tx": ["train", "training.batching=tokens", "x"],
    "dlgsum train data.cache=f\tx": ["train", "data.cache=false", "x"],
    "dlgsum train metrics.scorer=plt\tx": ["train", "metrics.scorer=pltrdy", "x"],
    "dlgsum train data.train=da\tde\t대\tx": ["train", "data.train=data/dev set/대화.csv", "x"],
    "dlgsum train data.train=~/work/pla\tx": ["train", "data.train=~/work/plax"],  # no dialogues
    "dlgsum train data.train=~/work/pai\tx": ["train", "data.train=~/work/pairs.csv", "x"],
    "dlgsum train 'training.batching=to\t x": ["train", "training.batching=tokens", "x"],
    "dlgsum train general.seed=7 training.batching=to\tx": ["train", "general.seed=7", "training.batching=tokens", "x"],
    "dlgsum train --config-d\tconf\t": ["train", "--config-dir", "conf/"],
    "dlgsum train --config m\tx": ["train", "--config", "my.yaml", "x"],
    "dlgsum train --config=m\tx": ["train", "--config=my.yaml", "x"],
    "dlgsum predict 20260202\tx": ["predict", "20260202_000000_bbb", "x"],
    # The cursor stands behind `la`.
    "dlgsum predict la tail\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\t": ["predict", "latest", "tail"],
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_single_answer_is_filled_in(typed: Typed, shell: str):
    answers = typed(shell, list(ONE_ANSWER))
    assert dict(zip(ONE_ANSWER, answers, strict=True)) == ONE_ANSWER


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_several_answers_are_shown(folder: Path, shell: str):
    """bash shows the values alone, zsh and fish say what each means."""
    script = folder.parent / "script"
    script.write_text(read_script(Shell(shell)))
    before = ["function fish_prompt; echo -n '@''>'; end\r"] if shell == "fish" else []
    keys = "dlgsum train training.batching=\t" + ("\t" if shell == "bash" else "")
    shown = in_terminal([shell, *START[shell]], [*before, f". {script}\r", keys, "\x15"], folder, PS1="@>")
    shown = without_escapes(shown)
    assert all(word in shown for word in ("samples", "tokens", "random"))
    assert ("plain shuffling" in shown) == (shell != "bash")


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_a_fault_shows_nothing_at_the_prompt(typed: Typed, folder: Path, shell: str):
    program = folder.parent / "bin" / "dlgsum"
    program.write_text("#!/bin/sh\necho Traceback >&2\nexit 1\n")
    assert typed(shell, ["dlgsum tra\tx", "dlgsum train model=\tx"]) == [["trax"], ["train", "model=x"]]


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_installed_once_and_loaded_by_a_new_shell(folder: Path, shell: str, monkeypatch: pytest.MonkeyPatch):
    home = folder.parent
    monkeypatch.setenv("HOME", str(home))
    startup = home / (".config/fish/config.fish" if shell == "fish" else f".{shell}rc")
    startup.parent.mkdir(parents=True, exist_ok=True)
    prompt = "function fish_prompt; echo -n '@''>'; end" if shell == "fish" else "PS1='@''>'"
    startup.write_text(f"{WRAPPERS[shell]}\n{prompt}")  # without a newline at its end
    first = install_script(Shell(shell), {})
    content = startup.read_text()
    assert [line.split()[0] for line in first] == (["written"] if shell == "fish" else ["written", "line"])
    assert {line.split()[0] for line in install_script(Shell(shell), {})} == {"unchanged"}
    assert startup.read_text() == content
    shown = in_terminal([shell, "-i"], ["dlgsum train training.batching=to\tx\r"], folder)
    assert "<train><training.batching=tokens><x>" in without_escapes(shown)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_correct(shell: str):
    path = Path(command.__file__).with_name(f"dlgsum.{shell}")
    checked = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")
