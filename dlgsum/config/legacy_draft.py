"""The books of a migration: what each key of an old file became, and what could not be carried."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from dlgsum.config.schema import Config
from dlgsum.core.files import is_file

_SECRET = re.compile(r"(?<!bos_)(?<!eos_)(?<!sep_)(?<!pad_)(?<!unk_)token$|api_?key|password|secret", re.IGNORECASE)
# A hub token or a password in an address, whatever key it stands under.
_HIDDEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}\b|(?<=://)[^/\s@]+(?=@)")
_LONGEST = 80  # characters of a value that a message shows


@dataclass(frozen=True)
class Change:
    """An old key and what it became.

    Attributes:
        old: dotted key in the old file; empty for what the old program did without a key.
        new: what it became, such as ``training.eval_strategy=epoch``; empty where nothing is needed.
        reason: a few words where it is not obvious.
    """

    old: str
    new: str
    reason: str = ""


@dataclass(frozen=True)
class Loss:
    """An old key that cannot be carried: its value, why not, and what to do instead."""

    key: str
    value: str
    reason: str

    def __str__(self) -> str:
        return one_line(f"{self.key} ({self.value}): {self.reason}")


@dataclass(frozen=True)
class Migration:
    """An old file in today's terms.

    Attributes:
        values: nested settings; text holds ``${`` as a ``--config`` file does.
        groups: group choices, such as ``{"model": "kobart"}``.
        changes: each key that was carried or needs no carrying, in the order of the file.
        warnings: each key that cannot be carried.
        legacy: whether the file was in the baseline's format, not in ours.
        notes: dotted new key to what a reader should know about its value.
        sources: dotted new key to the key of the file that it came from; empty where the old program implied it.
        absent: dotted new key to the file that it would name, were it there.
    """

    values: dict[str, Any]
    groups: dict[str, str]
    changes: tuple[Change, ...]
    warnings: tuple[Loss, ...]
    legacy: bool
    notes: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def as_file(self) -> dict[str, Any]:
        """Return groups and values as a ``--config`` file holds them."""
        listed = [{group: None if name == "null" else name} for group, name in self.groups.items()]
        return {**({"defaults": listed} if listed else {}), **self.values}

    @property
    def carried(self) -> int:
        """How many keys of the file were carried, or need no carrying, without a warning."""
        return len({change.old for change in self.changes if change.old} - {loss.key for loss in self.warnings})

    @property
    def renewed(self) -> bool:
        """Whether anything is said in other words than in the file."""
        said = ((change.old, change.new.partition("=")[0]) for change in self.changes)
        return self.legacy or bool(self.warnings) or any(new not in ("", old) for old, new in said)


@dataclass
class Draft:
    """A migration in the making.

    Args:
        found: name that the tables know, to the key in the file and its value.
        legacy: whether the file is in the baseline's format.
        exists: tells whether there is a file.
    """

    found: Mapping[str, tuple[str, Any]]
    legacy: bool
    exists: Callable[[Path], bool] = is_file
    settings: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    warnings: list[Loss] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)
    _giver: dict[str, str] = field(default_factory=dict)  # new key to the old one that set it

    def has(self, name: str) -> bool:
        """Tell whether the file has this key."""
        return name in self.found

    def value(self, name: str) -> Any:
        """Return the value of a key; None where the file has none."""
        return self.found[name][1] if name in self.found else None

    def is_done(self, name: str) -> bool:
        """Tell whether it was already said what became of a key."""
        return name in self._done

    def carry(self, name: str, target: str, value: Any, reason: str = "") -> None:
        """Set ``target``, unless another key of the file set it before."""
        old = self.found[name][0]
        if name != target and target in self.found and target not in self._done:
            self.carry(target, target, self.value(target))  # today's key goes before an older one
        if value is None and not allows_null(target):
            self.lose(name, f"null sets nothing, so the default of {target} stays")
            return
        value = _plain(value)
        if target in self.settings:
            other, kept = self._giver[target], self.settings[target]
            if same(kept, value):
                self._record(name, f"{target}={shown(value, target)}", f"the same as {other}")
            else:
                self.lose(name, f"{other} says {shown(kept)}, which is kept for {target}")
            return
        self.settings[target] = value
        self._giver[target] = old
        if reason:
            self.notes[target] = reason
        self._record(name, f"{target}={shown(value, target)}", reason)

    def imply(self, target: str, value: Any, reason: str, because: str = "") -> None:
        """Set what the old program did without being told, or ``because`` of a key, unless the file says otherwise."""
        if target in self.found and target not in self._done:
            self.carry(target, target, self.value(target))
        if target not in self.settings:
            old = self.found[because][0] if because else ""
            self.settings[target] = value
            self._giver[target] = old or "the old program"
            if reason:
                self.notes[target] = reason
            self.changes.append(Change(old, f"{target}={shown(value)}", reason))

    def imply_file(self, target: str, path: str, because: str) -> None:
        """Set what names a file, as ``imply`` does, but only where there is such a file."""
        if target in self.found or target in self.settings or self._finds(path):
            self.imply(target, path, "", because)
        else:
            self.absent[target] = path

    def _finds(self, path: str) -> bool:
        try:
            return self.exists(Path(path).expanduser())
        except RuntimeError:  # ~nobody
            return False

    def choose(self, name: str, group: str, choice: str, reason: str = "") -> None:
        """Choose a group's file because of a key of the file, or of no key where ``name`` is empty."""
        self.groups[group] = choice
        if name:
            self._record(name, f"{group}={choice}", reason)
        else:
            self.changes.append(Change("", f"{group}={choice}", reason))

    def cover(self, name: str, reason: str) -> None:
        """Say that a key needs no carrying."""
        self._record(name, "", reason)

    def lose(self, name: str, reason: str) -> None:
        """Say that a key cannot be carried."""
        old, value = self.found[name]
        self._done.add(name)
        self.warnings.append(Loss(old, shown(value, old), reason))

    def _record(self, name: str, new: str, reason: str) -> None:
        self._done.add(name)
        self.changes.append(Change(self.found[name][0], new, reason))

    def finish(self, order: Mapping[str, int]) -> Migration:
        """Return the migration; entries come in the ``order`` of the file's keys, what has no key at the end."""
        values: dict[str, Any] = {}
        for target, value in self.settings.items():
            *path, leaf = target.split(".")
            node = values
            for part in path:
                node = node.setdefault(part, {})
            # The baseline read plain YAML, in which ${…} is text.
            node[leaf] = escaped(value) if self.legacy else value
        return Migration(
            values,
            dict(self.groups),
            tuple(sorted(self.changes, key=lambda change: order.get(change.old, len(order)))),
            tuple(sorted(self.warnings, key=lambda loss: order.get(loss.key, len(order)))),
            self.legacy,
            dict(self.notes),
            {target: old if old in order else "" for target, old in self._giver.items()},
            dict(self.absent),
        )


@cache
def types() -> dict[str, Any]:
    """Return the dotted name of every setting with its type; sections are not among them."""

    def walk(section: type[Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, hint in get_type_hints(section).items():
            if dataclasses.is_dataclass(hint) and isinstance(hint, type):
                yield from walk(hint, f"{prefix}{name}.")
            else:
                yield prefix + name, hint

    return dict(walk(Config, ""))


def is_t5(draft: Draft) -> bool:
    """Tell whether the model is said, or taken by its name, to be a T5."""
    return (draft.value("model.architecture") or draft.settings.get("model.architecture")) in ("t5", "mt5")


def allows_null(target: str) -> bool:
    """Tell whether null is a value of a setting."""
    return type(None) in get_args(types()[target])


def truth(value: Any) -> bool | None:
    """Return what a value says as true or false; None where it says neither."""
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    return words.get(str(value).strip().lower())


def number(value: Any) -> float | None:
    """Return a value as a finite number; None where it is none. YAML gives 1e-5 as text."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            result = float(value)
        except (ValueError, OverflowError):
            return None
        return result if math.isfinite(result) else None
    return None


def same(one: Any, other: Any) -> bool:
    """Tell whether two values mean the same, whether written as number or as text."""
    if number(one) is not None:
        return number(one) == number(other)
    return bool(type(one) is type(other) and one == other)


def shown(value: Any, key: str = "") -> str:
    """Return a value on one line, cut where it is long and hidden where the key promises a secret."""
    if key and _SECRET.search(key) and value is not None:
        return "***"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = _HIDDEN.sub("***", one_line(" ".join(text.split())))
    if not text:
        return "''"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def one_line(text: str) -> str:
    """Return a text without what breaks a line or steers a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def escaped(value: Any) -> Any:
    """Return a value in which a literal ``${`` is not read as an interpolation."""
    if isinstance(value, list):
        return [escaped(item) for item in value]
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", value)
    return value


def _plain(value: Any) -> Any:
    """Return a value made of what YAML knows; anything else, such as a date, as text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)
