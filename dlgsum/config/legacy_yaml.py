"""A migrated file as a small experiment file: the groups, and only what differs from what they give."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from typing import Any

from dlgsum.config.dump import dumped
from dlgsum.config.legacy_draft import Migration, escaped, one_line, shown, types
from dlgsum.config.schema import Config

_WIDTH = 110  # a comment stays beside its value up to here


def experiment_yaml(migration: Migration, base: Config, whole: Config, *, source: str, target: str = "NEW.yaml") -> str:
    """Return an experiment file that ``--config`` reads, and ``experiment=`` from conf/experiment.

    Args:
        base: what the groups alone give.
        whole: what groups and values give together; its values are written, in their proper types.
        source: name of the old file.
        target: name of the new one.
    """
    base_values, values = dataclasses.asdict(base), dataclasses.asdict(whole)
    tree: dict[str, Any] = {}
    for key in types():
        path = key.split(".")
        given = _at(migration.values, path)
        if given is None and not _sets(migration.values, path):
            continue
        reference = isinstance(given, str) and re.search(r"(?<!\\)(\\\\)*\$\{", given)
        whole_number = type(given) is int and given == _at(values, path)  # 20, not 20.0
        value = given if reference or whole_number else escaped(_at(values, path))
        if reference or _at(values, path) != _at(base_values, path):
            node = tree
            for part in path[:-1]:
                node = node.setdefault(part, {})
            node[path[-1]] = value
    parts = [_header(migration, source, target)]
    if migration.groups:
        groups = [{f"override /{group}": None if name == "null" else name} for group, name in migration.groups.items()]
        listed = dumped({"defaults": groups})
        parts.append(textwrap.indent(listed, "  ").replace("  defaults:", "defaults:", 1))
    parts += _blocks(tree, migration.notes)
    parts += [_absent(target, path) for target, path in migration.absent.items()]
    if migration.warnings:
        parts.append("# Not carried over:\n" + "".join(f"#   {one_line(str(loss))}\n" for loss in migration.warnings))
    return "".join(parts)


def _header(migration: Migration, source: str, target: str) -> str:
    name = re.sub(r"\.ya?ml$", "", one_line(target).rpartition("/")[2])
    was = "in the competition baseline's format" if migration.legacy else "with older names"
    text = f"# @package _global_\n# The settings of {one_line(source)} ({was}), as dlgsum names them.\n"
    text += f"#   dlgsum train --config {one_line(target)}\n"
    text += f"#   dlgsum train experiment={name}   (as conf/experiment/{name}.yaml)\n"
    rest = "the groups and " if migration.groups else ""
    return f"{text}# What is not set here comes from {rest}the defaults; `dlgsum config show` prints everything.\n"


def _absent(target: str, path: str) -> str:
    """Return the comment about a setting that is left out because there is no file for it."""
    section, _, leaf = target.rpartition(".")
    line = dumped({leaf: escaped(path)})
    return f"# There is no {shown(path)}. Once there is, add to the section {section}:\n{textwrap.indent(line, '#   ')}"


def _blocks(tree: dict[str, Any], notes: dict[str, str], prefix: str = "", depth: int = 0) -> list[str]:
    """Return the lines of nested settings, each with its note."""
    lines = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            lines += [f"{'  ' * depth}{key}:\n", *_blocks(value, notes, f"{name}.", depth + 1)]
            continue
        text = textwrap.indent(dumped({key: value}), "  " * depth)
        note = one_line(notes.get(name, ""))
        if note and text.count("\n") == 1 and len(text) + len(note) < _WIDTH:
            text = f"{text.rstrip()}  # {note}\n"
        elif note:
            text = f"{'  ' * depth}# {note}\n{text}"
        lines.append(text)
    return lines


def _at(tree: Any, path: list[str]) -> Any:
    for part in path:
        if not isinstance(tree, dict):
            return None
        tree = tree.get(part)
    return tree


def _sets(tree: Any, path: list[str]) -> bool:
    """Tell whether nested settings name a key at all, if only to set it to null."""
    above = _at(tree, path[:-1])
    return isinstance(above, dict) and path[-1] in above
