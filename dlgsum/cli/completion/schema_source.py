"""The settings as completion needs them, read from the schema's source without importing it.

Importing the schema takes 0.2 s, because pydantic builds its validators; parsing its source takes 5 ms. So there is
no index file to keep fresh. A test compares what is read here with the real schema.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "config" / "schema"


@dataclass(frozen=True, slots=True)
class Key:
    """A section or a setting.

    Attributes:
        help: its one sentence.
        values: what it can be, where that is a short list: an enumeration, or true and false.
        is_section: whether it holds other keys.
        is_list: whether it is a list of ``values``.
        default: the default, where it is written out in the source; None otherwise.
    """

    help: str
    values: tuple[str, ...] = ()
    is_section: bool = False
    is_list: bool = False
    default: Any = None


@cache
def read_keys() -> Mapping[str, Key]:
    """Return every section and setting under its dotted name, in the schema's order; empty without the source."""
    classes: dict[str, ast.ClassDef] = {}
    aliases: dict[str, ast.expr] = {}
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                aliases[node.targets[0].id] = node.value
    return dict(_walk("Config", "", classes, aliases))


def _walk(
    name: str, prefix: str, classes: Mapping[str, ast.ClassDef], aliases: Mapping[str, ast.expr]
) -> Iterator[tuple[str, Key]]:
    for node in classes[name].body if name in classes else ():
        match node:
            case ast.AnnAssign(
                target=ast.Name(id=field),
                annotation=annotation,
                value=ast.Call(
                    func=ast.Name(id="option" | "nested" as kind), args=[first, ast.Constant(value=help), *_]
                ),
            ):
                key = f"{prefix}{field}"
                if kind == "nested" and isinstance(first, ast.Name):
                    yield key, Key(str(help), is_section=True)
                    yield from _walk(first.id, f"{key}.", classes, aliases)
                elif kind == "option":
                    values = tuple(_values(annotation, aliases))
                    # A lone null would be filled in at TAB, which is hardly ever what is wanted.
                    values = () if values == ("null",) else values
                    default = first.value if isinstance(first, ast.Constant) else None
                    yield key, Key(str(help), values, is_list=_is_list(annotation), default=default)


def _values(node: ast.expr, aliases: Mapping[str, ast.expr]) -> list[str]:
    match node:
        case ast.Name(id="bool"):
            return ["true", "false"]
        case ast.Name(id=name) if name in aliases:
            return _values(aliases[name], aliases)
        case ast.Constant(value=None):
            return ["null"]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return [*_values(left, aliases), *_values(right, aliases)]
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return _values(item, aliases)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=items)):
            return [str(item.value) for item in items if isinstance(item, ast.Constant)]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Constant(value=value)):
            return [str(value)]
    return []


def _is_list(node: ast.expr) -> bool:
    match node:
        case ast.Subscript(value=ast.Name(id="list")):
            return True
        case ast.BinOp(left=left, right=right):
            return _is_list(left) or _is_list(right)
    return False
