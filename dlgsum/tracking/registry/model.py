"""One registered model, and its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dlgsum.core.errors import UsageError
from dlgsum.core.files import read_json, write_json
from dlgsum.tracking.registry.names import model_id, parts_of


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """What is known of one version of a model.

    Attributes:
        id: ``<name>-v<version>``, and the name of its file.
        performance: metrics under names such as rouge_combined_f1; those of the test rows begin with ``test_``.
        signature: how the metrics were computed; only scores of one signature may be compared.
        validation_fingerprint: the rows that they were computed on.
        path: the model's folder, absolute, as seen from ``host``.
        output_dir: the folder of all results that the model was registered in, absolute.
        sha256: of the list of ``files``.
        size: of all files together, in bytes.
        files: ``{"sha256", "size"}`` of each file, by its path inside the folder.
        experiment_id: the run that trained it; None where it came from elsewhere.
        created: in UTC.
    """

    id: str
    name: str
    version: int
    architecture: str
    checkpoint: str
    config: dict[str, Any]
    performance: dict[str, float]
    signature: str
    validation_fingerprint: str
    training_info: dict[str, Any]
    path: str
    host: str
    output_dir: str
    sha256: str
    size: int
    files: dict[str, dict[str, Any]]
    experiment_id: str | None
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    def as_json(self) -> dict[str, Any]:
        """Return the fields as ``write_json`` takes them."""
        return {**asdict(self), "created": self.created.isoformat()}

    def same_registration(self, other: RegisteredModel) -> bool:
        """Say whether both are the same act of registering, rather than two that took the same id."""
        return (self.created, self.sha256, self.host) == (other.created, other.sha256, other.host)


def write_model(model: RegisteredModel, folder: Path) -> None:
    """Write a model's file atomically.

    Raises:
        OSError: it cannot be written.
    """
    write_json(folder / f"{model.id}.json", model.as_json())


def read_models(folder: Path) -> tuple[list[RegisteredModel], list[str]]:
    """Return the models of a registry's folder, oldest first, and a note for each that cannot be read."""
    models, notes = [], []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        if path.name.startswith(".") or parts_of(path.stem) is None:  # somebody's own file
            continue
        try:
            models.append(_read(path))
        except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
            words = f"{type(error).__name__}: {error}" if isinstance(error, (KeyError, TypeError)) else str(error)
            notes.append(f"{path} cannot be read as a model's registration ({words}); it is passed over")
    return sorted(models, key=lambda model: (model.created, model.name, model.version)), notes


def _read(path: Path) -> RegisteredModel:
    content = read_json(path)
    values = {it.name: content[it.name] for it in fields(RegisteredModel)}
    values["created"] = datetime.fromisoformat(values["created"])
    if values["created"].tzinfo is None:
        raise ValueError(f"its time {content['created']} has no zone")
    for name in ("config", "performance", "training_info", "files"):
        if not isinstance(values[name], dict):
            raise ValueError(f"{name} is no object")
    for name in ("id", "name", "architecture", "checkpoint", "signature", "path", "host", "output_dir", "sha256"):
        if not isinstance(values[name], str):
            raise ValueError(f"{name} is no text")
    if not all(isinstance(it, dict) and {"sha256", "size"} <= it.keys() for it in values["files"].values()):
        raise ValueError("files lack sha256 or size")
    values["performance"] = numbers(values["performance"])
    values["size"] = int(values["size"])
    if path.stem != values["id"] or parts_of(values["id"]) != (values["name"], values["version"]):
        raise ValueError(f"it is the registration of {values['id']}, under another name")
    return RegisteredModel(**values)


def numbers(performance: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as numbers; "NaN" and "Infinity", as they stand in JSON, become the numbers that they mean.

    Raises:
        UsageError: a metric is no number.
    """
    found = {}
    for name, value in performance.items():
        try:
            if isinstance(value, (bool, bytes)) or value is None:
                raise TypeError
            if isinstance(value, str) and math.isfinite(float(value)):
                raise ValueError
            found[str(name)] = float(value)
        except (TypeError, ValueError):
            raise UsageError(f"performance: {name} is {value!r}, not a number") from None
    return found


def renamed(model: RegisteredModel, version: int) -> RegisteredModel:
    """Return the same model as another version."""
    return RegisteredModel(
        **{it.name: getattr(model, it.name) for it in fields(model)}
        | {"version": version, "id": model_id(model.name, version)}
    )
