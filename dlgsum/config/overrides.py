"""Command-line overrides in Hydra's grammar, with paths and Korean text allowed unquoted."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from dlgsum.config.masking import hidden_line

_QUOTED = r"""(?P<quoted>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""
_LIST_ITEM = re.compile(_QUOTED + r"""|(?P<bare>[^\s,\[\]'"][^,\[\]]*)""")
_DICT_PART = re.compile(_QUOTED + r"""|(?P<bare>[^\s,:\[\]{}'"]*[^\x00-\x7f][^,:\[\]{}'"]*)""")
# What Hydra's grammar takes without quotes (and, among it, what it reads as a number, true or null).
_PLAIN = re.compile(r"[\w./:+@%*?|$~ -]*", re.ASCII)


@dataclass
class Overrides:
    """Overrides sorted by kind: group choices, values (dotted key to value), and what was wrong.

    ``lines`` holds each value's override as it was typed.
    """

    groups: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def parse_overrides(lines: Sequence[str], group_names: Collection[str]) -> Overrides:
    """Parse overrides such as ``training.learning_rate=3e-5``, ``model=kobart`` and ``data.train=대화.csv``.

    A later override of the same key wins. ``+key=value`` and ``++key=value`` mean the same as ``key=value``:
    the schema decides which keys exist. Problems are gathered, never raised.
    """
    result = Overrides()
    parser = OverridesParser.create()
    for line in lines:
        override, told = _parse(parser, line), hidden_line(line)
        if override is None:
            key, equals, value = line.partition("=")
            if not equals and line.endswith((".yaml", ".yml")):
                result.problems.append(f"'{told}' is not an override; a file goes behind --config: --config {told}")
                continue
            result.problems.append(
                f"'{told}': the value cannot be read; put its text in quotes"
                if key.strip() and equals and value[:1] in ("[", "{")
                else f"'{told}' is not an override: expected key=value, such as training.learning_rate=3e-5"
            )
            continue
        if override.package is not None:
            result.problems.append(
                f"'{told}': a file's package cannot be changed here; write {override.key_or_group}=…"
            )
            continue
        key = override.key_or_group.replace("/", ".")
        if override.is_delete():
            result.problems.append(f"'{told}': a setting cannot be deleted; give it a value (null is one)")
        elif override.is_sweep_override():
            result.problems.append(
                f"'{told}' gives several values where one is wanted; "
                f"quote a value that contains a comma: {key}='\"a,b\"'"
            )
        elif key in group_names and isinstance(override.value(), str):
            result.groups[key] = str(override.value())
        elif key in group_names and override.value() is None:
            result.groups[key] = "null"
        else:
            result.values[key] = override.value()
            result.lines[key] = line
    return result


def _parse(parser: OverridesParser, line: str) -> Override | None:
    """Parse one override; where Hydra's grammar rejects the bare value, parse it again with quotes."""
    for candidate in (line, _with_quotes(line)):
        try:
            override = parser.parse_overrides([candidate])[0]
        except (HydraException, RecursionError):
            continue
        return override if override.key_or_group else None
    return None


def _with_quotes(line: str) -> str:
    """Quote the parts of a value that Hydra's grammar rejects: Korean, blanks, parentheses."""
    key, equals, value = line.partition("=")
    if not equals:
        return line
    if value[:1] in ("[", "{"):
        return f"{key}={(_DICT_PART if re.search(r'(?<![$])[{]', value) else _LIST_ITEM).sub(_quote_bare, value)}"
    return f"{key}={quoted(value)}"


def _quote_bare(match: re.Match[str]) -> str:
    if match["quoted"] is not None or _PLAIN.fullmatch(match["bare"]):
        return match[0]
    return quoted(match["bare"].strip())


def quoted(text: str) -> str:
    """Return ``text`` as Hydra's grammar writes any text."""
    # Hydra unescapes a quote by its backslash, and backslashes only before a quote.
    body = re.sub(r"(\\*)(?='|$)", lambda match: match[1] * 2, text).replace("'", "\\'")
    return f"'{body}'"


def override_value(value: Any) -> str:
    """Return a Python value as the right-hand side of an override, so that ``parse_overrides`` gives it back."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(override_value(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{override_value(item)}" for key, item in value.items()) + "}"
    return quoted(value) if isinstance(value, str) else repr(value)
