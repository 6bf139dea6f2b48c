"""The report's folder: files for people and for machines, without a pickle among them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from dlgsum.core.errors import DataError
from dlgsum.core.files import SCHEMA_VERSION, append_jsonl, existing_parent, read_json, read_jsonl
from dlgsum.monitoring.nan.step import BadStep, MicroBatch

REPORT, TEXT, BATCH, ROWS = "report.json", "report.md", "batch.pt", "rows.jsonl"
WEIGHTS, CONFIG = "model.safetensors", "config.json"

# Beside the weights there must be room for what the run itself still has to write.
_SPARE = 2


@dataclass(frozen=True)
class SavedReport:
    """A report that was read again.

    Attributes:
        content: report.json.
        bad: the step; the tensors are on the CPU.
    """

    folder: Path
    content: dict[str, Any]
    bad: BadStep

    @property
    def has_weights(self) -> bool:
        """Whether the weights of the step were saved with it."""
        return (self.folder / WEIGHTS).is_file() and (self.folder / CONFIG).is_file()


def write_batch(folder: Path, bad: BadStep) -> None:
    """Write the tensors and random states of all micro-batches, and their rows as text."""
    batches = [
        {
            "inputs": {name: value.detach().cpu() for name, value in batch.inputs.items()},
            "rng": {name: value.detach().cpu() for name, value in batch.rng.items()},
        }
        for batch in bad.micro_batches
    ]
    content = {"schema_version": SCHEMA_VERSION, "items": int(bad.items), "micro_batches": batches}
    torch.save(content, folder / BATCH)
    (folder / ROWS).touch()
    for number, batch in enumerate(bad.micro_batches):
        for place, row in enumerate(batch.rows):
            append_jsonl(folder / ROWS, {"micro_batch": number, "row": place, **row})


def write_weights(folder: Path, model: nn.Module, place: Path) -> str:
    """Write the weights with the model's configuration.

    Args:
        place: where the folder will be; it must have twice the space that the weights take.

    Returns:
        Why they were not written; empty where they were.
    """
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "to_json_file"):
        return "the model has no configuration of transformers, from which it could be built again"
    if any(isinstance(weight, DTensor) for weight in model.parameters()):
        return "the weights are shared out among several processes"
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    free = shutil.disk_usage(existing_parent(place)).free
    if free < _SPARE * size:
        return f"they take {size / 2**20:.0f} MiB, and only {free / 2**20:.0f} MiB are free on the disk"
    config.to_json_file(folder / CONFIG)
    safetensors.torch.save_model(model, str(folder / WEIGHTS), metadata={"format": "pt"})
    return ""


def is_report(folder: Path) -> bool:
    """Say whether a folder is a report."""
    return (folder / REPORT).is_file()


def find_reports(run: Path) -> list[Path]:
    """Return the reports of a run, the earliest step first; of several processes, the first one's last."""
    folders = [path for path in (run / "nan_reports").glob("step-*") if step_of(path) is not None and is_report(path)]
    return sorted(folders, key=lambda path: (step_of(path), "-rank-" not in path.name, path.name))


def step_of(report: Path) -> int | None:
    """Return the step in the name of a report's folder, ``step-<N>`` or ``step-<N>-rank-<R>``; None: it has none."""
    number = report.name.removeprefix("step-").partition("-")[0]
    return int(number) if number.isdecimal() else None


def read_report(folder: Path) -> SavedReport:
    """Read a report.

    Raises:
        DataError: a file is missing or damaged.
    """
    try:
        content = read_json(folder / REPORT)
        batch = torch.load(folder / BATCH, map_location="cpu", weights_only=True)
        texts = list(read_jsonl(folder / ROWS))
        bad = BadStep(
            step=int(content["step"]),
            epoch=content["epoch"],
            loss=float(content["loss"]),
            grad_norm=float(content["grad_norm"]),
            precision=content["precision"],
            loss_scale=content["loss_scale"],
            micro_batches=[
                MicroBatch(inputs=one["inputs"], rng=one["rng"], rows=_rows(texts, number))
                for number, one in enumerate(batch["micro_batches"])
            ],
            items=int(batch["items"]),
            smoothing=float(content["label_smoothing"]),
            history=[{name: float(value) for name, value in row.items()} for row in content["history"]],
        )
    except UnpicklingError as error:  # torch's own message advises to load it all the same, and run what is in it
        raise DataError(
            f"{folder / BATCH} holds something else than tensors and plain values; it is not loaded",
            "Do not trust this folder unless you know who wrote it.",
        ) from error
    except Exception as error:  # torch.load alone raises half a dozen kinds
        reason = in_words(error)
        raise DataError(
            f"The report in {folder} cannot be read: {reason}",
            f"It should hold {REPORT}, {BATCH} and {ROWS} as they were written; {TEXT} can be read by itself.",
        ) from error
    return SavedReport(folder, content, bad)


def in_words(error: Exception) -> str:
    """Return an error's kind and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".removesuffix(": ")


def _rows(texts: list[dict[str, Any]], number: int) -> list[dict[str, str]]:
    return [
        {name: str(value) for name, value in row.items() if name not in ("micro_batch", "row")}
        for row in texts
        if row.get("micro_batch") == number
    ]
