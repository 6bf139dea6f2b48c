"""What can be asked of experiments by name: their own fields, metrics, and every setting of their configurations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from dlgsum.config.schema import defaults
from dlgsum.core.errors import UsageError, nearest
from dlgsum.tracking.record import ExperimentRecord

Kind = Literal["text", "id", "hash", "status", "number", "metric", "time", "duration", "words", "flag", "setting"]
Value = str | float | bool | datetime | list[Any] | None

FIELDS: Final[Mapping[str, Kind]] = {
    "id": "id", "name": "text", "status": "status", "started": "time", "ended": "time", "seconds": "duration",
    "tags": "words", "notes": "text", "description": "text", "reason": "text", "seed": "number", "steps": "number",
    "total_steps": "number", "best_step": "number", "host": "text", "parent": "id", "parent_kind": "text",
    "git_commit": "hash", "git_dirty": "flag", "config_hash": "hash", "validation_fingerprint": "hash",
    "signature": "text", "test_signature": "text", "command": "text", "folder": "text", "output_dir": "text",
    "model_path": "text", "wandb_run_id": "text", "missing": "flag",
}  # fmt: skip
"""The fields of a record, and what they hold; ``missing`` says that the run folder is gone."""

ALIASES: Final[Mapping[str, str]] = {"tag": "tags", "note": "notes", "duration": "seconds", "commit": "git_commit"}

# What stands before a dot, the part of a record that is meant, and what it holds.
_PARTS: Final[Mapping[str, tuple[str, Kind]]] = {
    "best": ("best_metrics", "metric"), "final": ("final_metrics", "metric"), "test": ("test_metrics", "metric"),
    "rows": ("rows", "number"), "versions": ("versions", "text"), "hardware": ("hardware", "setting"),
    "fingerprint": ("data", "hash"),
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """One thing that can be asked of an experiment; ``read`` gives None where it is not known.

    Attributes:
        rows: on which rows a metric was computed, validation or test; empty for all else.
    """

    name: str
    kind: Kind
    read: Callable[[ExperimentRecord], Value]
    rows: Literal["", "validation", "test"] = ""


class Fields:
    """The names that these experiments can be asked for.

    A name is a field of the record, a metric (of the best model, or where it has none, of the last evaluation), a
    metric of one kind (``best.``, ``final.`` or ``test.`` before it), a setting such as ``training.learning_rate``, or
    one of ``rows.``, ``fingerprint.`` (of a split), ``versions.`` (of a package) and ``hardware.``.

    Args:
        missing: ids of the runs whose folders are gone.
    """

    def __init__(self, records: Sequence[ExperimentRecord], missing: Collection[str] = ()) -> None:
        self._records = records
        self._missing = frozenset(missing)

    def find(self, name: str) -> Field:
        """Return the field of this name.

        Raises:
            UsageError: no experiment has it; the nearest name is suggested.
        """
        name = ALIASES.get(name, name)
        if name == "missing":
            return Field(name, "flag", lambda record: record.id in self._missing)
        if name in FIELDS:
            return Field(name, FIELDS[name], lambda record: getattr(record, name) if _held(record, name) else None)
        for field in self._further(name):
            if any(field.read(record) is not None for record in self._records) or self._is_expected(field):
                return field
        guess = nearest(name, self._names())
        raise UsageError(
            f"'{name}' is no field of an experiment, no setting, and no metric that any of these has",
            f"Did you mean {guess}?"
            if guess
            else "Fields: " + ", ".join(FIELDS) + "; settings: dlgsum config explain; metrics: rouge1_f1, test.loss, …",
        )

    def _further(self, name: str) -> Iterator[Field]:
        part, _, key = name.partition(".")
        if part in _PARTS and key:
            attribute, kind = _PARTS[part]
            rows: Literal["", "validation", "test"] = ""
            if kind == "metric":
                rows = "test" if part == "test" else "validation"
            yield Field(name, kind, lambda record: getattr(record, attribute).get(key), rows)
        if "." in name:
            yield Field(name, "setting", lambda record: setting(record.config, name))
        else:
            yield Field(name, "metric", lambda record: _metric(record, name), "validation")

    def _is_expected(self, field: Field) -> bool:
        """Whether nobody has a value, and it is no wonder: a setting of today, or a metric that nobody got to."""
        if not self._records:
            return True
        if field.kind == "setting":
            return any(name == field.name for name, _ in _flat(defaults()))
        if field.kind != "metric":
            return False
        return field.name.rpartition(".")[2] in {"loss", *(metric_of(record) for record in self._records)}

    def _names(self) -> list[str]:
        found = dict.fromkeys([*FIELDS, *ALIASES])
        for record in self._records:
            found |= dict.fromkeys([*record.best_metrics, *record.final_metrics])
            found |= {f"{part}.{key}": None for part, (name, _) in _PARTS.items() for key in getattr(record, name)}
        for tree in (defaults(), *(record.config for record in self._records)):
            found |= {name: None for name, _ in _flat(tree)}
        return list(found)


def metric_of(record: ExperimentRecord) -> str:
    """Return the metric that chose the best model of a run."""
    found = setting(record.config, "metrics.best")
    return found if isinstance(found, str) and found else "rouge_combined_f1"


def setting(config: Mapping[str, Any], name: str) -> Any:
    """Return the value of a setting; None where it is not set, or a section."""
    node: Any = config
    for part in name.split("."):
        if not isinstance(node, Mapping):
            return None
        node = node.get(part)
    return None if isinstance(node, Mapping) else node


def _held(record: ExperimentRecord, name: str) -> bool:
    return getattr(record, name) not in ("", None)


def _metric(record: ExperimentRecord, name: str) -> float | None:
    # Both are of the validation rows; those of the test rows are another scale, and asked for as test.NAME.
    return record.best_metrics.get(name, record.final_metrics.get(name))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
