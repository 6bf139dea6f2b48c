"""Files in the competition baseline's format, in today's terms: nothing is dropped without being named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dlgsum.config.legacy_draft import Change, Draft, Loss, Migration, number, shown, truth
from dlgsum.config.legacy_keys import (
    COVERED,
    HOMES,
    KNOWN,
    OLD_ONLY,
    RENAMED,
    SAME,
    SECTIONS,
    UNMISTAKABLE,
    UNSUPPORTED,
)
from dlgsum.config.legacy_rules import apply_rules
from dlgsum.core.errors import nearest
from dlgsum.core.files import is_file

__all__ = ["Change", "Loss", "Migration", "is_legacy", "migrate", "notice"]

_OWN_SECTIONS = {key.partition(".")[0] for key in SAME}
_GROUPS = {"model", "data", "training", "generation", "metrics", "monitoring", "tracking", "experiment"}
# Where a key may have strayed: a key of `general` under `training`, or under nothing at all.
_STRAYS = {*SECTIONS, "generation", "model", ""}
_PARAMETER = ("parameters.", ".value")  # a sweep's fixed value

# The settings of ours that the old format had under the very same name.
_IN_BOTH = frozenset(
    key for key in SAME if key.partition(".")[0] in SECTIONS and key not in {"training.batching", "training.precision"}
)


def is_legacy(content: Mapping[Any, Any]) -> bool:
    """Tell whether settings are in the competition baseline's format.

    It takes two keys that only that format has, one of them unmistakable (or four that are not), and more of them than
    keys that only ours has: an old name in a file of ours is a mistake, to be reported as one.
    """
    keys = {key for key, _ in _leaves(content)}
    old = len(keys & OLD_ONLY)
    own = len((keys & SAME) - _IN_BOTH) + ("defaults" in keys) + len(keys & _GROUPS)
    return old >= (2 if keys & UNMISTAKABLE else 4) and old > own


def migrate(content: Mapping[Any, Any], exists: Callable[[Path], bool] = is_file) -> Migration:
    """Return the settings of an old file in today's terms; a file of ours passes through, its older names settled.

    Whatever the values are, this never fails: each key is among the changes or among the warnings. What the result is
    worth is for ``compose`` to say, which checks every value.

    Args:
        exists: tells whether there is a file; relative paths start at the working folder.
    """
    legacy = is_legacy(content)
    found: dict[str, tuple[str, Any]] = {}
    strange: dict[str, tuple[str, Any]] = {}
    reasons: dict[str, str] = {}
    # Keys at their proper place first, so that a stray of the same meaning does not take it.
    for key, value in sorted(_leaves(content), key=lambda leaf: leaf[0] not in KNOWN):
        name = _known_as(key, value, legacy=legacy)
        if name is not None and name not in found:
            found[name] = (key, value)
            continue
        place = f"{key} {len(strange)}"  # no key of a table has a blank
        strange[place] = (key, value)
        reasons[place] = (
            _unknown(key, value) if name is None else f"{found[name][0]} means the same, and its value is kept"
        )
    draft = Draft({**found, **strange}, legacy, exists)
    _choose_groups(draft)
    apply_rules(draft)
    for name in [*found, *strange]:
        if not draft.is_done(name):
            _settle(draft, name, reasons.get(name, ""))
    if legacy:
        draft.choose("", "metrics", "baseline", "the old program's own scorer, so that scores can be compared")
    order = {key: place for place, (key, _) in enumerate(_leaves(content))}
    return draft.finish(order)


def notice(migration: Migration, name: str, *, in_file: bool = True) -> str:
    """Return what to say when old settings are used as they are: what was carried, what was not, what to do."""
    text = f"{name} is in the competition baseline's format; {migration.carried} of its keys were carried over"
    if migration.warnings:
        count = len(migration.warnings)
        lost = "; ".join(str(loss) for loss in migration.warnings)
        text += f", {count} {'was' if count == 1 else 'were'} not: {lost}"
    for target, path in migration.absent.items():
        text += f"; {target} is left out, since there is no {shown(path)}"
    implied = [change.new for change in migration.changes if not change.old]
    if implied:
        text += f"; as in the old program: {', '.join(implied)}"
    permanent = f" `dlgsum config migrate {name} -o NEW.yaml` writes it in today's format." if in_file else ""
    return f"{text}.{permanent}"


def _leaves(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dotted key with its value; a known section with nothing in it yields nothing."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}.")
        elif value in (None, {}) and not prefix and name in {*SECTIONS, *_OWN_SECTIONS}:
            continue
        else:
            yield name, value


def _known_as(key: str, value: Any, *, legacy: bool) -> str | None:
    """Return the name under which the tables know a key."""
    before, after = _PARAMETER
    if key.startswith(before) and key.endswith(after):
        key = key[len(before) : -len(after)]
    if key in KNOWN:
        return key
    if key == "model" and legacy and isinstance(value, str):
        return "general.model_name"
    if key == "defaults" or (key in _GROUPS and isinstance(value, str) and not (legacy and key in SECTIONS)):
        return key
    section, _, leaf = key.rpartition(".")
    return HOMES.get(leaf) if section in _STRAYS else None


def _unknown(key: str, value: Any) -> str:
    if key in {*SECTIONS, *_OWN_SECTIONS}:
        return "a section, but this is a value; the keys of a section stand below it"
    *parents, _ = key.split(".")
    for depth in range(len(parents), 0, -1):
        parent = ".".join(parents[:depth])
        if parent in UNSUPPORTED:
            return UNSUPPORTED[parent]
        if parent in KNOWN:
            return f"{parent} takes a value, not keys"
    guess = nearest(key, sorted(KNOWN))
    return "there is no such key" + (f"; did you mean {guess}?" if guess else " in the old format or in dlgsum's")


def _choose_groups(draft: Draft) -> None:
    """Take over group choices, which only a file of ours has."""
    for group in sorted(_GROUPS):
        if draft.has(group):
            draft.choose(group, group, str(draft.value(group)))
    if not draft.has("defaults"):
        return
    listed = draft.value("defaults")
    entries = [entry for entry in (listed if isinstance(listed, list) else [listed]) if entry != "_self_"]
    if not all(isinstance(entry, Mapping) for entry in entries if entry is not None):
        draft.lose("defaults", "expected group choices such as `- model: kobart`")
        return
    chosen = {
        str(key).removeprefix("override ").strip().lstrip("/"): "null" if choice is None else str(choice)
        for entry in entries
        for key, choice in (entry or {}).items()
    }
    draft.groups.update(chosen)
    draft.cover("defaults", ", ".join(f"{group}={name}" for group, name in chosen.items()))


def _settle(draft: Draft, name: str, reason: str) -> None:
    """Say what becomes of a key without a rule of its own."""
    value = draft.value(name)
    if reason:
        draft.lose(name, reason)
    elif name in RENAMED and (draft.legacy or name not in SAME):
        target, note = RENAMED[name]
        draft.carry(name, target, value, note)
    elif name in SAME:
        draft.carry(name, name, value)
    elif name in COVERED:
        it = COVERED[name]
        told = truth(value) if isinstance(it.usual, bool) else number(value)
        if it.usual is None or value is None or told == it.usual:
            draft.cover(name, it.how)
        else:
            draft.lose(name, it.otherwise)
    elif name in UNSUPPORTED:
        # A switch that is off, an empty list: there is nothing to lose.
        if value in (None, False, "", [], {}):
            draft.cover(name, f"{shown(value)}: nothing to carry")
        else:
            draft.lose(name, UNSUPPORTED[name])
    else:
        draft.lose(name, "expected another kind of value")
