"""What is not as it was when a run was trained: settings, base, data, versions, hardware, commit, processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dlgsum.config.compose import Composition
from dlgsum.config.diff import differences
from dlgsum.core.files import dumps, read_json, read_jsonl
from dlgsum.data.sources import Splits
from dlgsum.models.base import Base
from dlgsum.recipes import starting_weights
from dlgsum.recipes.continuing import changed_settings
from dlgsum.tracking.run import RunFolder

Kind = Literal["setting", "base", "data", "version", "hardware", "commit", "processes"]

_PLACES = ("general.output_dir", "tracking.store")
_HARDWARE = ("platform", "host", "cpu_count", "torch_threads", "gpus")


@dataclass(frozen=True)
class Changed:
    """One thing that is not as it was; both sides in words.

    Attributes:
        decides: whether it may change what is learned or scored.
    """

    kind: Kind
    name: str
    then: str
    now: str
    decides: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.then} → {self.now}"


def changed_configuration(then: Composition, now: Composition) -> list[Changed]:
    """Return the settings that are not as they were, but where the results lie and are indexed."""
    decisive = {line.partition(":")[0] for line in changed_settings(then.config, now.config)}
    return [
        Changed("setting", it.key, _shown(it.left), _shown(it.right), it.key in decisive)
        for it in differences(then, now)
        if it.key not in _PLACES
    ]


def changed_base(run: RunFolder, now: Base | None) -> list[Changed]:
    """Return the files of the starting weights that are not those that the run recorded."""
    return [Changed("base", *it) for it in starting_weights.changed_files(starting_weights.recorded(run), now)]


def changed_data(run: RunFolder, splits: Splits, notes: list[str]) -> list[Changed]:
    """Return the splits whose rows are not those that the run had; test rows do not decide what is learned."""
    then = _read(run, "data.json", "its rows", notes)
    if then is None:
        return []
    before = {str(it.get("name")): it for it in _objects(then.get("splits"))}
    now = {split.name: split for split in splits.all}
    found = []
    for name in dict.fromkeys([*before, *now]):
        old = before.get(name, {}).get("fingerprint")
        new = now[name].fingerprint if name in now else None
        if old != new:
            was = f"{str(old)[:12]} ({before[name].get('rows', '?')} rows)" if old else "none"
            is_now = f"{new[:12]} ({len(now[name])} rows)" if new else "none"
            found.append(Changed("data", f"{name} rows", was, is_now, decides=name != "test"))
    return found


def changed_environment(run: RunFolder, notes: list[str]) -> list[Changed]:
    """Return the versions, hardware and commit that are not as they were; what was not recorded is passed over.

    Args:
        notes: takes what cannot be told from two values.
    """
    from dlgsum.tracking.environment import describe_environment

    then = _read(run, "environment.json", "versions and hardware", notes)
    if then is None:
        return []
    if then.get("torch_threads") is not None:
        import torch  # noqa: F401  it was asked then, and gives other answers than the driver
    now = describe_environment()
    found = [*_changed("version", ("dlgsum", "python"), then, now)]
    packages = then.get("packages")
    if isinstance(packages, dict):
        found += _changed("version", packages, packages, now["packages"])
    known = [name for name in _HARDWARE if then.get(name) is not None and now.get(name) is not None]
    found += _changed("hardware", known, then, now)
    before, after = (git if isinstance(git := it.get("git"), dict) else {} for it in (then, now))
    found += _changed("commit", ("commit",), before, after)
    if before.get("dirty"):
        notes.append("its code had changes that were not committed, so it is not known what they were")
    if after.get("dirty"):
        notes.append("the code here has changes that are not committed")
    return found


def changed_processes(run: RunFolder, processes: int, *, effective: bool) -> list[Changed]:
    """Return the number of processes, where it is not as it was.

    Args:
        effective: whether the configuration fixes the rows of a step, whatever number of processes share them.
    """
    then = None
    try:
        for row in read_jsonl(run.events):
            if row.get("event") == "start":
                then = row.get("processes", then)
    except OSError:
        return []
    if not isinstance(then, int) or then == processes:
        return []
    consequence = "" if effective else f" (a step has other rows; --nproc {then} is as it was)"
    return [Changed("processes", "processes", str(then), f"{processes}{consequence}")]


def _changed(kind: Kind, names: Iterable[str], then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Changed]:
    return [
        Changed(kind, name.replace("_", " "), _shown(then[name]), _shown(now.get(name)))
        for name in names
        if name in then and then[name] != now.get(name)
    ]


def _read(run: RunFolder, name: str, what: str, notes: list[str]) -> dict[str, Any] | None:
    try:
        return read_json(run.path / name)
    except (OSError, ValueError):
        notes.append(f"{name} of {run.id} cannot be read: {what} cannot be compared with those of then")
        return None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [it for it in value if isinstance(it, dict)] if isinstance(value, list) else []


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "none"
    return value if isinstance(value, str) and value else "none" if value is None else dumps(value)
