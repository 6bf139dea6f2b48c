"""The run folder: one folder that explains a run completely, and finding one again by name."""

from __future__ import annotations

import os
import secrets
import socket
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from dlgsum.core.errors import UsageError, nearest
from dlgsum.core.files import dumps, read_json, write_json, write_text_atomic
from dlgsum.core.log import event_row
from dlgsum.core.masking import masked, masked_values
from dlgsum.core.streams import LineFile

Status = Literal["running", "completed", "failed", "interrupted", "pruned", "lost"]
"""What a run can be; it is lost when it was running and its process is gone."""


@dataclass(frozen=True)
class Parent:
    """What a run came from: its kind (rerun, checkpoint, sweep or fold) and the id of it."""

    kind: str
    id: str


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @classmethod
    def create(cls, output_dir: Path) -> RunFolder:
        """Make a new folder ``<output_dir>/experiments/<time>_<id>``.

        Raises:
            OSError: the folder cannot be made.
        """
        now = datetime.now()
        # The id begins with the millisecond, so that runs of one second sort by time as well.
        identity = f"{now.microsecond // 1000:03x}{secrets.token_hex(3)[:5]}"
        path = output_dir / "experiments" / f"{now:%Y%m%d_%H%M%S}_{identity}"
        path.mkdir(parents=True)
        for name in ("checkpoints", "models", "predictions"):
            (path / name).mkdir()
        return cls(path)

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The resolved configuration, which reruns the run by itself."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """The log."""
        return self.path / "training.log"

    @property
    def metrics(self) -> Path:
        """All metrics, one row a step that has any."""
        return self.path / "metrics.jsonl"

    @property
    def alerts(self) -> Path:
        """Every alert, sent or not."""
        return self.path / "alerts.jsonl"

    @property
    def nan_reports(self) -> Path:
        """Reports of steps that were not finite."""
        return self.path / "nan_reports"

    @property
    def checkpoints(self) -> Path:
        """Resumable checkpoints."""
        return self.path / "checkpoints"

    @property
    def models(self) -> Path:
        """The best models."""
        return self.path / "models"

    @property
    def best_model(self) -> Path:
        """The best model, loadable by plain transformers."""
        return self.models / "best_model"

    @property
    def predictions(self) -> Path:
        """Predictions, one file an evaluation."""
        return self.path / "predictions"

    @property
    def results(self) -> Path:
        """The results, written last."""
        return self.path / "training_results.json"

    @property
    def events(self) -> Path:
        """What happened, for machines: rows of ``dlgsum.core.log.event_row``, those of the log among them."""
        return self.path / "events.jsonl"

    def event(self, kind: str, *, level: str = "info", message: str = "", **details: Any) -> None:
        """Append an event, such as the start, an evaluation, a new best model or the end.

        A disk that takes no more is warned about; it is no reason to stop.

        Args:
            kind: one word.
            level: debug, info, warning, error or critical.
            message: what happened, in words; made of the kind and the plain details when empty.
            details: any names but "time" and "logger".
        """
        details = masked_values(details)
        plain = {name: value for name, value in details.items() if isinstance(value, (str, int, float)) and value != ""}
        said = [
            f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}" for name, value in plain.items()
        ]
        words = message or ", ".join([kind.replace("_", " "), *said])
        file = LineFile(self.events)
        file.write(dumps(event_row(kind, words, level=level, logger="dlgsum.run", **details)))
        file.close()

    def status(self, status: Status, **details: Any) -> None:
        """Record the state the run is in, and keep the time of the first such record; details without secrets."""
        now = time.time()
        content = {
            "status": status, "pid": os.getpid(), "host": socket.gethostname(), "time": now,
            "started": self._status().get("started", now), **masked_values(details),
        }  # fmt: skip
        write_json(self.path / "status.json", content)

    def _status(self) -> dict[str, Any]:
        """Return what ``status`` wrote last; empty where there is nothing to read."""
        try:
            return read_json(self.path / "status.json")
        except (OSError, ValueError):
            return {}

    @property
    def state(self) -> str:
        """What ``status`` recorded last; empty where there is nothing to read."""
        return str(self._status().get("status", ""))

    @property
    def visualizations(self) -> Path:
        """Charts of the run."""
        return self.path / "visualizations"

    @property
    def parent(self) -> Parent | None:
        """What this run came from; None for a run of its own."""
        try:
            content = read_json(self.path / "parent.json")
            return Parent(str(content["kind"]), str(content["id"]))
        except (OSError, ValueError, KeyError):
            return None

    def write_parent(self, parent: Parent) -> None:
        """Record what this run came from."""
        write_json(self.path / "parent.json", {"kind": parent.kind, "id": parent.id})

    @property
    def annotations(self) -> dict[str, Any]:
        """Tags and notes that were given after the run began, in the place of those of its configuration."""
        try:
            return read_json(self.path / "annotations.json")
        except (OSError, ValueError):
            return {}

    def annotate(self, *, tags: list[str] | None = None, notes: str | None = None) -> None:
        """Replace the tags, or the notes, of the run, without secrets; None leaves them as they are."""
        given = {"tags": tags and [masked(tag) for tag in tags], "notes": notes and masked(notes)}
        write_json(
            self.path / "annotations.json",
            self.annotations | {name: value for name, value in given.items() if value is not None},
        )

    def write_config(self, text: str) -> None:
        """Save the resolved configuration."""
        write_text_atomic(self.config, text)

    def read_results(self) -> dict[str, Any] | None:
        """Return the results, or None while there are none or they cannot be read."""
        try:
            return read_json(self.results)
        except (OSError, ValueError):
            return None


def list_runs(output_dir: Path) -> list[RunFolder]:
    """Return all runs, oldest first; an absent folder has none."""
    root = output_dir / "experiments"
    if not root.is_dir():
        return []
    return [RunFolder(path) for path in sorted(root.iterdir()) if (path / "config.yaml").is_file()]


def is_beginning(text: str, run_id: str) -> bool:
    """Say whether a run's id begins with ``text``, from its date, its time, or what follows them."""
    parts = run_id.split("_")
    return any("_".join(parts[index:]).startswith(text) for index in range(len(parts)))


def find_run(name: str, output_dir: Path) -> RunFolder:
    """Return the run that ``name`` means: an id, a unique beginning of it, ``latest``, ``best``, or its folder.

    A beginning may leave out the date, or date and time. ``latest`` is the newest run that has a model. ``best``
    compares rouge_combined_f1 and refuses to compare scores with different signatures, or on different rows.

    Raises:
        UsageError: no run, or more than one, fits.
    """
    path = Path(name)
    if (path / "config.yaml").is_file() and (path / "models").is_dir():
        return RunFolder(path if path.name not in ("", "..") else path.resolve())  # "." has no id
    runs = list_runs(output_dir)
    if not runs:
        raise UsageError(
            f"There are no runs in {output_dir / 'experiments'}",
            "Train one with `dlgsum train`, or name a model folder.",
        )
    if name == "latest":
        return _latest(runs, output_dir)
    if name == "best":
        return _best(runs, output_dir)
    fitting = [run for run in runs if run.id == name] or [run for run in runs if is_beginning(name, run.id)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(
            f"'{name}' fits {len(fitting)} runs: {', '.join(run.id for run in fitting[:10])}", "Give more of it."
        )
    guess = nearest(name, [run.id for run in runs])
    raise UsageError(
        f"There is no run '{name}' in {output_dir / 'experiments'}",
        f"Did you mean {guess}?" if guess else f"The newest runs: {', '.join(run.id for run in runs[-5:])}",
    )


def _latest(runs: list[RunFolder], output_dir: Path) -> RunFolder:
    with_model = [run for run in runs if run.best_model.is_dir()]
    if not with_model:
        raise UsageError(f"None of the {len(runs)} runs in {output_dir} has a model yet")
    return with_model[-1]


def _best(runs: list[RunFolder], output_dir: Path) -> RunFolder:
    scored = []
    for run in runs:
        results = run.read_results() if run.best_model.is_dir() else None
        metrics = (results or {}).get("best_metrics")
        score = metrics.get("rouge_combined_f1") if isinstance(metrics, dict) else None
        if results and isinstance(score, (int, float)):
            # Scores on other rows, or computed in another way, are on another scale.
            scale = (str(results.get("signature", "")), str(results.get("validation_fingerprint", ""))[:12])
            scored.append((float(score), scale, run))
    if not scored:
        raise UsageError(f"None of the {len(runs)} runs in {output_dir} has a score yet")
    scales = sorted({scale for _, scale, _ in scored})
    if len(scales) > 1:
        shown = "\n".join(f"  {signature} on validation rows {rows}" for signature, rows in scales)
        raise UsageError(
            f"'best' is undefined: the runs were scored in {len(scales)} different ways:\n{shown}",
            "Name a run by its id.",
        )
    return max(scored, key=lambda entry: entry[0])[2]
