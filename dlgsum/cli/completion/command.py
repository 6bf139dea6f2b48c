"""`dlgsum completion`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dlgsum.core.errors import UsageError


class Shell(StrEnum):
    """The shells there is a script for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(
    shell: Annotated[Shell | None, typer.Argument(help="The shell; without it the one of $SHELL.")] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Write the script and have the shell load it, instead of printing it.")
    ] = False,
) -> None:
    """Print the script that completes commands, settings, their values and runs at TAB.

    Examples:

      eval "$(dlgsum completion bash)"   # in ~/.bashrc (or zsh, in ~/.zshrc)

      dlgsum completion fish > ~/.config/fish/completions/dlgsum.fish

      dlgsum completion --install        # once, for all environments
    """
    chosen = shell or detect_shell(os.environ)
    if not install:
        typer.echo(read_script(chosen), nl=False)
        return
    for line in install_script(chosen, os.environ):
        typer.echo(line)
    typer.echo("Open a new shell to use it.")


def detect_shell(environ: Mapping[str, str]) -> Shell:
    """Return the shell that ``$SHELL`` names.

    Raises:
        UsageError: it names none that we have a script for.
    """
    name = Path(environ.get("SHELL", "")).name
    if name not in tuple(Shell):
        raise UsageError(
            f"$SHELL is {name or 'not set'}; completion is there for {', '.join(Shell)}",
            "Name the shell, such as: dlgsum completion bash",
        )
    return Shell(name)


def read_script(shell: Shell) -> str:
    """Return the completion script of a shell."""
    return Path(__file__).with_name(f"dlgsum.{shell}").read_text(encoding="utf-8")


def install_script(shell: Shell, environ: Mapping[str, str]) -> list[str]:
    """Write the script where the shell finds it, and say which files were changed.

    fish loads its folder by itself. bash and zsh get one line in their start-up file, which names the script's file
    and not the program: the environment that has dlgsum need not be active when the shell starts.

    Raises:
        OSError: a file cannot be written.
    """
    from dlgsum.core.files import write_text_atomic

    home = Path.home()
    if shell is Shell.fish:
        script = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish" / "completions" / "dlgsum.fish"
    else:
        script = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "dlgsum" / f"completion.{shell}"
    said = []
    text = read_script(shell)
    if script.is_file() and script.read_text(encoding="utf-8", errors="replace") == text:
        said.append(f"unchanged  {script}")
    else:
        script.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(script, text)
        said.append(f"written    {script}")
    if shell is Shell.fish:
        return said
    startup = home / ".bashrc" if shell is Shell.bash else Path(environ.get("ZDOTDIR") or home) / ".zshrc"
    named = shlex.quote(str(script))
    line = f"[ -r {named} ] && . {named}  # completion of dlgsum"
    present = startup.read_text(encoding="utf-8", errors="replace") if startup.is_file() else ""
    if line in present.splitlines():
        return [*said, f"unchanged  {startup}"]
    # Appended, never replaced: the file is the user's, and may be a link to where they keep it.
    with startup.open("a", encoding="utf-8") as file:
        file.write(("" if present.endswith("\n") or not present else "\n") + line + "\n")
    return [*said, f"line added {startup}"]
