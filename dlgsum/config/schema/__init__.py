"""The typed configuration: every setting, its default, its range and its help, declared once."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

from pydantic.dataclasses import dataclass

from dlgsum.config.schema.alerts import Alerts
from dlgsum.config.schema.data import Columns, Data
from dlgsum.config.schema.detectors import Detectors
from dlgsum.config.schema.generation import Generation
from dlgsum.config.schema.metrics import Metrics, Weights
from dlgsum.config.schema.model import Mini, Model, Tokenizer
from dlgsum.config.schema.monitoring import Monitoring
from dlgsum.config.schema.options import RULES, nested
from dlgsum.config.schema.run import Distributed, General, Meta
from dlgsum.config.schema.tracking import Mlflow, Tracking, Wandb
from dlgsum.config.schema.training import Training

__all__ = [
    "Alerts", "Columns", "Config", "Data", "Detectors", "Distributed", "General", "Generation", "Meta", "Metrics",
    "Mini", "Mlflow", "Model", "Monitoring", "Tokenizer", "Tracking", "Training", "Wandb", "Weights", "defaults",
    "is_key", "key_names",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, config=RULES)
class Config:
    """The whole configuration of a run."""

    meta: Meta = nested(Meta, "Names for people.")
    general: General = nested(General, "Seed, device and output folder.")
    model: Model = nested(Model, "Which model is trained.")
    tokenizer: Tokenizer = nested(Tokenizer, "Lengths and special tokens.")
    data: Data = nested(Data, "Files, columns and cleaning.")
    training: Training = nested(Training, "The training run.")
    distributed: Distributed = nested(Distributed, "Several processes, GPUs or machines.")
    generation: Generation = nested(Generation, "How summaries are generated.")
    metrics: Metrics = nested(Metrics, "How summaries are scored.")
    monitoring: Monitoring = nested(Monitoring, "What is watched while training.")
    tracking: Tracking = nested(Tracking, "What is kept of a run.")
    wandb: Wandb = nested(Wandb, "Weights & Biases.")


def defaults() -> dict[str, Any]:
    """Return the default configuration as plain nested dictionaries."""
    return dataclasses.asdict(Config())


def is_key(key: str, names: Collection[str]) -> bool:
    """Say whether a dotted name is one of ``names``, or lies in a setting that takes names of the user's own."""
    return key in names or any(key.startswith(f"{name}.") for name in _OPEN)


_OPEN = ("monitoring.detectors.extra",)  # what detectors of other packages are called, and their options


def key_names(tree: dict[str, Any] | None = None, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every section and setting."""
    for key, value in (defaults() if tree is None else tree).items():
        yield prefix + key
        if isinstance(value, dict):
            yield from key_names(value, f"{prefix}{key}.")
