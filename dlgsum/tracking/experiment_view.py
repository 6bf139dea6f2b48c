"""Experiments in the words and the structure that Python code uses for them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast, get_args

from dlgsum.core.errors import UsageError
from dlgsum.core.lenient import read_object
from dlgsum.tracking.record import ExperimentRecord
from dlgsum.tracking.run import Status

_SYNONYMS: dict[str, Status] = {
    "in_progress": "running", "success": "completed", "finished": "completed", "error": "failed",
}  # fmt: skip
_ALLOWED = [status for status in get_args(Status) if status != "lost"]  # lost is found out, never said


def status_meant(status: str) -> Status:
    """Return the status that a word means.

    Raises:
        UsageError: it means none.
    """
    found = _SYNONYMS.get(status, status)
    if found not in _ALLOWED:
        also = ", ".join(f"{word} ({meaning})" for word, meaning in _SYNONYMS.items())
        raise UsageError(f"There is no status {status!r}", f"Allowed: {', '.join(_ALLOWED)}; also {also}.")
    return cast(Status, found)


def as_dict(record: ExperimentRecord, models: Mapping[str, str]) -> dict[str, Any]:
    """Return a record as nested dictionaries of plain values.

    What only the run folder knows is empty where the folder is on another machine: the data as they were described at
    the start, and the path of a model that lies outside the folder.

    Args:
        models: the id of the registered model, by experiment.
    """
    folder = Path(record.folder)
    given = (read_object(folder / "training_results.json") or {}).get("model_path")
    metrics = {f"best_{name}": value for name, value in record.best_metrics.items()}
    metrics |= {f"final_{name}": value for name, value in record.final_metrics.items()}
    return {
        "experiment_id": record.id,
        "name": record.name,
        "description": record.description,
        "start_time": _iso(record.started),
        "end_time": _iso(record.ended),
        "status": record.status,
        "reason": record.reason,
        "config": record.config,
        "dataset_info": (read_object(folder / "data.json") or {}).get("dataset_info", {}),
        "metrics": metrics,
        "signature": record.signature,
        "model_info": {"model_id": models.get(record.id), "checkpoint_path": record.model_path or given or None},
        "wandb_run_id": record.wandb_run_id,
        "tags": list(record.tags),
        "notes": record.notes,
        "folder": record.folder,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
