"""The parts of an experiment's record, each from one file; what does not fit is left out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from dlgsum.core.files import to_jsonable
from dlgsum.core.lenient import number, read_object, whole
from dlgsum.tracking.run import RunFolder

_LARGEST = 2**18  # bytes of a configuration that are read; ours have a few thousand
_DEEPEST = 50  # lists and mappings within one another; the fast parser crashes at some ten thousand
_NESTED = re.compile(rb"(?:[-?][ \t]+){%d}" % _DEEPEST)


def read_config(path: Path) -> dict[str, Any]:
    """Return a saved configuration without secrets; empty where it cannot be read, or is none."""
    import yaml

    from dlgsum.config.masking import hidden

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with path.open("rb") as stream:
            text = stream.read(_LARGEST + 1)
        if len(text) > _LARGEST or _NESTED.search(text) or _flow_depth(text) > _DEEPEST:
            return {}
        if b"*" in text:  # a few aliases can mean more than the memory holds
            from dlgsum.config.groups import check_size

            check_size(path)
        content = yaml.load(text, Loader=loader)  # noqa: S506 - safe, only faster
        shown = hidden("", to_jsonable(content)) if isinstance(content, dict) else {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return shown if isinstance(shown, dict) else {}


def _flow_depth(text: bytes) -> int:
    """Return how deep brackets stand within one another at most."""
    steps = (1 if match[0] in b"[{" else -1 for match in re.finditer(rb"[\[\]{}]", text))
    return max(accumulate(steps), default=0)


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a configuration asks to be learned; empty for an empty one.

    Names, notes, monitoring, trackers and the place of the results are left out: two runs that differ in nothing else
    are asked to learn the same thing, and should be found to be repetitions of each other.
    """
    if not config:
        return ""
    kept = {key: value for key, value in config.items() if key not in ("meta", "monitoring", "tracking", "wandb")}
    if isinstance(general := kept.get("general"), Mapping):
        kept["general"] = {key: value for key, value in general.items() if key != "output_dir"}
    return hashlib.sha256(json.dumps(to_jsonable(kept), sort_keys=True).encode()).hexdigest()


def described(run: RunFolder, config: dict[str, Any]) -> dict[str, Any]:
    """Return what people and the configuration say of a run; later annotations go before the configuration."""
    parent, said, wandb = (
        read_object(run.path / name) or {} for name in ("parent.json", "annotations.json", "wandb.json")
    )
    tags = said["tags"] if isinstance(said.get("tags"), list) else _at(config, "tracking", "tags")
    notes = said["notes"] if isinstance(said.get("notes"), str) else _at(config, "tracking", "notes")
    mirrored = text(_at(config, "wandb", "mode")) not in ("", "disabled")
    return {
        "name": text(_at(config, "meta", "experiment_name")),
        "description": text(_at(config, "meta", "description")),
        "config": config,
        "config_hash": config_hash(config),
        "seed": fitting(_at(config, "general", "seed")),
        "parent": text(parent.get("id")) or None,
        "parent_kind": text(parent.get("kind")),
        "tags": [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [],
        "notes": text(notes),
        "wandb_run_id": text(wandb.get("run_id")) or (run.path.name if mirrored else None),
    }


def environment_parts(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``environment.json`` says of commit, command, hardware and versions."""
    git, packages = (_mapping(environment.get(name)) for name in ("git", "packages"))
    versions = {"dlgsum": environment.get("dlgsum"), "python": environment.get("python"), **packages}
    dirty = git.get("dirty")
    return {
        "git_commit": text(git.get("commit")) or None,
        "git_dirty": dirty if isinstance(dirty, bool) else None,
        "command": text(environment.get("command")),
        "hardware": {name: environment[name] for name in ("gpus", "cpu_count", "platform") if name in environment},
        "versions": {name: value for name, value in versions.items() if isinstance(value, str)},
    }


def splits(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what ``data.json`` says of each split, by its name."""
    listed = data.get("splits")
    found = [split for split in listed if isinstance(split, dict)] if isinstance(listed, list) else []
    return {split["name"]: split for split in found if text(split.get("name"))}


def metrics(values: Any, prefix: str = "") -> dict[str, float]:
    """Return the numbers among the values, under names without the prefix, which those that are meant have."""
    return {
        name.removeprefix(prefix): value
        for name, raw in _mapping(values).items()
        if name.startswith(prefix) and (value := number(raw)) is not None
    }


def fitting(value: Any) -> int | None:
    """Return a whole number that a database takes; None for everything else."""
    found = whole(value)
    return found if found is not None and -(2**63) <= found < 2**63 else None


def text(value: Any) -> str:
    """Return a text; empty for everything else."""
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _at(config: Mapping[str, Any], section: str, key: str) -> Any:
    return _mapping(config.get(section)).get(key)
