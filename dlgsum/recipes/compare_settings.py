"""What differs between experiments besides their scores: settings, data, versions, hardware."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlgsum.config.masking import hidden
from dlgsum.config.origin import flatten
from dlgsum.config.schema import defaults
from dlgsum.tracking.record import ExperimentRecord
from dlgsum.tracking.registry.loss_scale import DECIDING

# Sections that every saved configuration of a run has; settings of a notebook hardly have all of them.
_OURS = frozenset({"meta", "general", "model", "tokenizer", "data", "training", "generation", "metrics"})


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same everywhere.

    Attributes:
        key: a dotted setting, or what it is in words.
        values: one a run, in the order of the runs; None also where a run does not say.
        given: whether each run says it at all.
    """

    key: str
    values: list[Any]
    given: list[bool]


def is_ours(config: Mapping[str, Any]) -> bool:
    """Say whether a configuration is one of dlgsum's own, rather than whatever a notebook recorded."""
    return config.keys() >= _OURS


def lacking(config: Mapping[str, Any]) -> str:
    """Return the sections that a configuration lacks to be one of dlgsum's own."""
    return ", ".join(sorted(_OURS - config.keys()))


def setting_differences(records: Sequence[ExperimentRecord]) -> list[Difference]:
    """Return every setting that is not the same in all runs, in the schema's order, foreign settings last.

    A setting that is younger than a run counts as its default. What a notebook does not say of our settings is not
    known, which is no difference. Secrets are compared as far as they were saved.
    """
    standard = dict(flatten(defaults()))
    every = []
    for record in records:
        own = {str(key): hidden(str(key), value) for key, value in flatten(record.config)}
        every.append({**standard, **own} if is_ours(record.config) else own)
    keys = dict.fromkeys([*standard, *(key for own in every for key in own)])
    found = {key: [_Given(own.get(key), key in own) for own in every] for key in keys}
    return _differing(found, lacking_counts=lambda key: key not in standard)


def other_differences(records: Sequence[ExperimentRecord]) -> list[Difference]:
    """Return what else may explain a difference: data, commit, versions, hardware, where the runs do not agree.

    What is not known of a run is no difference, but for rows: a run may have had no such split. The seed is among the
    settings; here it stands for runs whose settings do not have it.
    """

    def every(of: Callable[[ExperimentRecord], Any]) -> list[_Given]:
        values = [of(record) for record in records]
        return [_Given(value, value not in (None, "", {})) for value in values]

    found: dict[str, list[_Given]] = {}
    if not all(is_ours(record.config) for record in records):
        found["seed"] = every(lambda it: it.seed)
    for split in _names(record.data for record in records):
        found[f"{split} rows"] = every(lambda it, split=split: _rows(it, split))  # type: ignore[misc]
    found["commit"] = every(_commit)
    for package in _names(record.versions for record in records):
        found[package] = every(lambda it, package=package: it.versions.get(package))  # type: ignore[misc]
    for name in _names(record.hardware for record in records):
        found[name.replace("_", " ")] = every(lambda it, name=name: _hardware(it.hardware.get(name)))  # type: ignore[misc]
    return _differing(found, lacking_counts=lambda key: key.endswith(" rows"))


def unknown_environment(record: ExperimentRecord) -> bool:
    """Say whether nothing is known of what a run ran on."""
    return not record.versions and not record.hardware


def loss_differs_in(records: Sequence[ExperimentRecord]) -> list[str]:
    """Return why the losses of runs are on different scales: other tokens, or smoothing; empty if they are not.

    The tokenizer of kobart_mini comes from the training rows, so that other rows are another tokenizer.
    """
    settings, others = setting_differences(records), other_differences(records)
    mini = any("kobart_mini" in str(record.config.get("model")) for record in records)
    keys = [it.key for it in settings if it.key.startswith(DECIDING)]
    return [*keys, *(it.key for it in others if mini and it.key == "train rows")]


@dataclass(frozen=True)
class _Given:
    value: Any
    given: bool


def _differing(found: Mapping[str, Sequence[_Given]], lacking_counts: Callable[[str], bool]) -> list[Difference]:
    differing = []
    for key, values in found.items():
        judged = values if lacking_counts(key) else [it for it in values if it.given]
        if any(it != judged[0] for it in judged):
            differing.append(Difference(key, [it.value for it in values], [it.given for it in values]))
    return differing


def _names(trees: Any) -> list[str]:
    return list(dict.fromkeys(name for tree in trees for name in tree))


def _rows(record: ExperimentRecord, split: str) -> str | None:
    if split not in record.data:
        return None
    count = record.rows.get(split)
    return record.data[split][:8] + ("" if count is None else f" ({count:,})")


def _commit(record: ExperimentRecord) -> str | None:
    if not record.git_commit:
        return None
    return record.git_commit[:8] + (" (dirty)" if record.git_dirty else "")


def _hardware(value: Any) -> Any:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else value
