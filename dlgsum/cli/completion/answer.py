"""`dlgsum __complete`: what can stand at the cursor, one candidate a line.

The shell's script calls one of

    dlgsum __complete bash BEFORE AFTER BREAKS     the line before and after the cursor; $COMP_WORDBREAKS
    dlgsum __complete zsh  INDEX WORD...           the words behind `dlgsum`; WORD[INDEX] ends at the cursor
    dlgsum __complete fish INDEX WORD...           the same, with the word at the cursor as it was typed

bash gets what it puts in place of its piece of the word; zsh and fish get ``word<TAB>description``. The scripts hide
standard error, so a fault shows nothing at the prompt, but is named when the line above is typed by hand.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import typer

from dlgsum.cli.completion.line import escape, read_line
from dlgsum.cli.completion.listing import Candidate, list_paths


@dataclass
class Place:
    """Where in the command line a word stands.

    Attributes:
        command: the (sub)command it belongs to.
        option: the option whose value it is.
        given: the parameters so far.
        positional: how many arguments came before.
        only_arguments: whether ``--`` came before.
    """

    command: Any
    option: Any = None
    given: dict[str, Any] = field(default_factory=dict)
    positional: int = 0
    only_arguments: bool = False


def main(arguments: Sequence[str], app: typer.Typer) -> None:
    """Answer a shell's script on standard output; a fault is one line on standard error, and an exit code."""
    try:
        if not _is_call(arguments):
            given = " ".join(["dlgsum __complete", *arguments])
            sys.stderr.write(f"error: {given!r}: only what `dlgsum completion bash`, zsh or fish prints calls this\n")
            sys.exit(2)
        lines = _lines(arguments, app)
    except Exception as error:
        from dlgsum.core.masking import masked

        if "--debug" in arguments:
            sys.stderr.write(masked(traceback.format_exc()))
        text = " ".join(f"{type(error).__name__}: {error}".split())
        sys.stderr.write(f"error: nothing can be completed: {masked(text)}; a word --debug behind it shows where\n")
        sys.exit(1)
    # Names of files come back as the bytes they are, whatever the locale.
    sys.stdout.buffer.write(os.fsencode("".join(f"{line}\n" for line in lines)))


def _is_call(arguments: Sequence[str]) -> bool:
    """Tell whether these are arguments as a script gives them."""
    match arguments:
        case ["bash", _, _, _]:
            return True
        case ["zsh" | "fish", index, *words]:
            return index.isdecimal() and index.isascii() and int(index) < len(words)
    return False


def _lines(arguments: Sequence[str], app: typer.Typer) -> list[str]:
    """Return the lines that the script reads."""
    shell, *rest = arguments
    if shell == "bash":
        before, after, breaks = rest
        line = read_line(before, breaks)
        found = candidates(app, line.words[1:], line.word, read_line(f"{after} ").words)
        # readline quotes and shortens file names by itself; that these are some, the script sees by their slash.
        paths = any("/" in value for value, _ in found)
        if paths or line.quote:
            return [value[line.cut :] for value, _ in found]
        return [line.piece + escape(value[len(line.word) :]) for value, _ in found]
    index, words = int(rest[0]), rest[1:]
    word = read_line(words[index]).word if shell == "fish" else words[index]
    found = candidates(app, words[:index], word, words[index + 1 :])
    return [f"{value}\t{help}" for value, help in found]


def candidates(app: typer.Typer, words: Sequence[str], word: str, after: Sequence[str] = ()) -> list[Candidate]:
    """Return what the word at the cursor can become, each with a description.

    Args:
        app: the whole command line; its commands and options are found by asking it.
        words: the finished words behind the program's name.
        word: the word at the cursor, up to the cursor.
        after: the words behind the cursor.
    """
    root = typer.main.get_command(_needed(app, words))
    place = _locate(root, words)
    context = typer.Context(place.command, info_name=place.command.name, resilient_parsing=True)
    # A completer looks at the whole line: general.output_dir= may stand behind the run that it helps to find.
    context.params = _locate(root, [*words, word, *after]).given
    if place.option is not None:
        return _of_parameter(place.option, context, word)
    if word.startswith("-") and not place.only_arguments:
        name, equals, value = word.partition("=")
        option = _option(place.command, name) if equals else None
        if option is not None:
            return [(f"{name}={text}", help) for text, help in _of_parameter(option, context, value)]
        return _option_names(place, context, word)
    if _commands(place.command):
        return [
            (name, command.get_short_help_str(80))
            for name, command in _commands(place.command).items()
            if name.startswith(word) and not command.hidden and not place.positional
        ]
    argument = _argument(place)
    return [] if argument is None else _of_parameter(argument, context, word)


def _needed(app: typer.Typer, words: Sequence[str]) -> typer.Typer:
    """Return the command line with only the command that the words begin with; building all takes a tenth of a TAB.

    Without a callback all stay: there, Typer makes a lone command the whole command line.
    """
    if not words or app.registered_callback is None:
        return app
    start = copy(app)
    start.registered_commands = [it for it in app.registered_commands if _name(it) == words[0]]
    start.registered_groups = [copy(it) for it in app.registered_groups if it.name == words[0]]
    for group in start.registered_groups:
        if group.typer_instance is not None:
            group.typer_instance = _needed(group.typer_instance, words[1:])
    return start if start.registered_commands or start.registered_groups else app


def _name(command: Any) -> str:
    return command.name or typer.main.get_command_name(command.callback.__name__)


def _locate(command: Any, words: Sequence[str]) -> Place:
    """Walk along the finished words, as the parser will."""
    place = Place(command)
    for word in words:
        if place.option is not None:
            _keep(place, place.option, word)
            place.option = None
        elif word == "--" and not place.only_arguments:
            place.only_arguments = True
        elif word.startswith("-") and len(word) > 1 and not place.only_arguments:
            name, equals, value = word.partition("=")
            option = _option(place.command, name)
            if option is not None and equals:
                _keep(place, option, value)
            elif option is not None and not option.is_flag and not getattr(option, "count", False):
                place.option = option
            elif option is not None:
                _keep(place, option, "true")
        elif word in _commands(place.command):
            place = Place(_commands(place.command)[word])
        else:
            argument = _argument(place)
            if argument is not None:
                _keep(place, argument, word)
            place.positional += 1
    return place


def _keep(place: Place, parameter: Any, word: str) -> None:
    if parameter.nargs == -1 or getattr(parameter, "multiple", False):
        place.given.setdefault(parameter.name, []).append(word)
    else:
        place.given[parameter.name] = word


def _commands(command: Any) -> dict[str, Any]:
    return getattr(command, "commands", {})


def _option(command: Any, name: str) -> Any:
    found = (it for it in command.params if it.param_type_name == "option" and name in (*it.opts, *it.secondary_opts))
    return next(found, None)


def _argument(place: Place) -> Any:
    """Return the argument that the next word would be; the last one may take any number of words."""
    arguments = [it for it in place.command.params if it.param_type_name == "argument"]
    if place.positional < len(arguments):
        return arguments[place.positional]
    return arguments[-1] if arguments and arguments[-1].nargs == -1 else None


def _option_names(place: Place, context: typer.Context, word: str) -> list[Candidate]:
    """Return the options that can follow; one that was given is not offered again unless it may be repeated."""
    return [
        (name, getattr(option, "help", None) or "")
        for option in place.command.get_params(context)
        if option.param_type_name == "option" and not option.hidden
        if option.multiple or option.name not in place.given
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith(word)
    ]


def _of_parameter(parameter: Any, context: typer.Context, word: str) -> list[Candidate]:
    found = [(str(it.value), it.help or "") for it in parameter.shell_complete(context, word) if it.type == "plain"]
    # Typer and click leave paths to the shell; a parameter with a completer has already said all there is.
    if not found and getattr(parameter, "_custom_shell_complete", None) is None and _takes_path(parameter, context):
        found = list_paths(word)
    return [(value, " ".join(help.split())) for value, help in found if value.isprintable()]


def _takes_path(parameter: Any, context: typer.Context) -> bool:
    # Typer with its own parser, or on top of click.
    if hasattr(parameter, "display_type"):
        return parameter.display_type(context) in ("<path>", "<file>", "<list[Path]>")
    return getattr(getattr(parameter, "type", None), "name", "") in ("path", "file", "filename")
