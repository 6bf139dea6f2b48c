"""What a setting, a section or a configuration group is, in words."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt

from dlgsum.config.comments import first_comment
from dlgsum.config.groups import find
from dlgsum.config.masking import hidden
from dlgsum.config.origin import Setting
from dlgsum.config.schema import Config, defaults, key_names
from dlgsum.config.validate import unknown_key
from dlgsum.core import plugins
from dlgsum.core.errors import ConfigError

_LIMITS = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}", "min_length": "not empty"}
_PLUGINS = {"metrics.scorer": "scorers"}  # settings that name a plugin
_TYPES = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false", "NoneType": "null"}


@dataclass(frozen=True)
class Explanation:
    """Everything there is to say about one setting.

    Attributes:
        type: its type in words; the allowed values of an enumeration.
        range: its limits in words; empty without any.
        choices: the allowed values, where they can be listed.
        history: what set it, the winner last; empty when the default holds.
    """

    key: str
    help: str
    type: str
    range: str
    choices: tuple[str, ...]
    default: Any
    value: Any
    history: tuple[Setting, ...] = ()


def explain(key: str, config: Config, history: Mapping[str, tuple[Setting, ...]]) -> list[Explanation]:
    """Explain a setting, or every setting of a section.

    Raises:
        ConfigError: there is no such setting; the nearest name is suggested.
    """
    if key not in key_names():
        raise ConfigError([unknown_key(key)])
    return [it for it in explain_all(config, history) if it.key == key or it.key.startswith(f"{key}.")]


def explain_all(config: Config, history: Mapping[str, tuple[Setting, ...]]) -> list[Explanation]:
    """Explain every setting, in the schema's order."""
    return [_explanation(key, config, history.get(key, ())) for key in leaves()]


def leaves() -> Iterator[str]:
    """Yield the dotted name of every setting, without the sections."""
    sections = {name.rpartition(".")[0] for name in key_names()}
    yield from (name for name in key_names() if name not in sections)


def section_help(key: str) -> str:
    """Return the one sentence about a section; empty for a setting."""
    field, kind = _field(key)
    return str(field.description or "") if dataclasses.is_dataclass(kind) else ""


def value_of(tree: Any, key: str) -> Any:
    """Return the value under a dotted key, of a configuration or of nested dictionaries."""
    for part in key.split("."):
        tree = tree[part] if isinstance(tree, Mapping) else getattr(tree, part)
    return tree


def group_files(folders: Sequence[Path], group: str, names: Sequence[str]) -> dict[str, str]:
    """Return each file of a group with its first comment, which says what it is for."""
    return {name: first_comment(find(folders, f"{group}/{name}.yaml")) for name in names}


def _explanation(key: str, config: Config, history: tuple[Setting, ...]) -> Explanation:
    field, kind = _field(key)
    return Explanation(
        key=key,
        help=str(field.description or ""),
        type=_in_words(kind),
        range=" and ".join(_limits(field, key)),
        choices=plugins.names(_PLUGINS[key]) if key in _PLUGINS else tuple(_choices(kind)),
        default=value_of(defaults(), key),
        value=hidden(key, value_of(config, key)),
        history=history,
    )


def _field(key: str) -> tuple[Any, Any]:
    """Return pydantic's record of a setting, and its type."""
    node: Any = Config
    field: Any = None
    for part in key.split("."):
        field, node = node.__pydantic_fields__[part], get_type_hints(node)[part]
    return field, node


def _limits(field: Any, key: str) -> Iterator[str]:
    for constraint in [*field.metadata, *_of_parts(key)]:
        for name, text in _LIMITS.items():
            limit = getattr(constraint, name, None)
            if limit is not None:
                yield text.format(f"{limit:,}" if isinstance(limit, int) else f"{limit:g}")


def _of_parts(key: str) -> Iterator[Any]:
    """Yield the constraints of the types that a setting may have, such as those of the number in "a number or auto"."""
    node: Any = Config
    for part in key.split("."):
        node = get_type_hints(node, include_extras=True)[part]
    for part in get_args(node):
        for metadata in getattr(part, "__metadata__", ()):
            for bound in getattr(metadata, "metadata", (metadata,)):
                whole = isinstance(bound, Gt) and part.__origin__ is int
                yield Ge(int(str(bound.gt)) + 1) if whole else bound


def _choices(kind: Any) -> Iterator[str]:
    if get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    elif kind is bool:
        yield from ("true", "false")
    else:
        for part in get_args(kind):
            yield from _choices(part)


def _in_words(kind: Any) -> str:
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, arguments))}" if len(arguments) > 1 else str(arguments[0])
    if get_origin(kind) is list:
        return f"list of: {_in_words(arguments[0])}"
    if get_origin(kind) is dict:
        return "settings by name"
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_in_words(part) for part in arguments)
    return _TYPES.get(getattr(kind, "__name__", ""), str(kind))
