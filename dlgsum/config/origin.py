"""Where a value came from: a line of a file, a variable, an argument."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml


@dataclass(frozen=True)
class Origin:
    """What set a value.

    Attributes:
        kind: the sort of place.
        name: the file, the variable, the argument as it was typed, or what the program settled by itself.
        line: line of the file, counted from 1.
    """

    kind: Literal["file", "variable", "argument", "choice"]
    name: str
    line: int | None = None

    def __str__(self) -> str:
        return self.name if self.line is None else f"{self.name}:{self.line}"

    @property
    def in_words(self) -> str:
        """The place as messages name it."""
        return {
            "file": str(self),
            "variable": f"environment variable {self.name}",
            "argument": "the command line",
            "choice": self.name,
        }[self.kind]


@dataclass(frozen=True)
class Setting:
    """A value, and what set it."""

    value: Any
    origin: Origin


Layer = dict[str, Setting]  # dotted key to what one place says of it


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of nested settings; an empty section yields itself."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{name}.")
        else:
            # `training:` with nothing under it is an empty section, not a null.
            yield name, {} if value is None and "." not in name else value


def layer_of(tree: Mapping[str, Any], origin: Origin, lines: Mapping[str, int] | None = None) -> Layer:
    """Return nested settings as a layer, each with the line it stands on where that is known."""
    return {
        key: Setting(value, origin if lines is None else Origin(origin.kind, origin.name, lines.get(key)))
        for key, value in flatten(tree)
    }


def line_numbers(path: Path, package: str = "") -> dict[str, int]:
    """Return the line of each key of a YAML file, under dotted names; what cannot be read has none.

    Args:
        package: put in front of every name: where the file's content goes.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return dict(_lines(root, f"{package}." if package else ""))


def _lines(node: Any, prefix: str) -> Iterator[tuple[str, int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = f"{prefix}{getattr(key, 'value', '')}"
        yield name, key.start_mark.line + 1
        yield from _lines(value, f"{name}.")


def shown_path(path: Path, packaged: Path) -> str:
    """Return a file's path as people know it: from the working folder, or as `dlgsum/conf/…` for a shipped one."""
    for base, prefix in ((Path.cwd(), ""), (packaged, "dlgsum/conf/")):
        if path.is_relative_to(base):
            return prefix + path.relative_to(base).as_posix()
    return str(path)
