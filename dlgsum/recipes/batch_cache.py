"""Batch sizes that were found before, kept by everything that decides them."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.schema import Config
from dlgsum.core.files import dumps, read_json, sha256_text, write_json
from dlgsum.recipes.batch_goals import Goal
from dlgsum.recipes.probe import Device

if TYPE_CHECKING:
    from dlgsum.training.batch_size import Found

VERSION = 1  # raise it when the meaning of an entry changes
SLACK = 0.03  # so much less may be free than when the entry was made
# What training.* decides memory or speed; sizes and rhythms of evaluation do not.
_TRAINING = (
    "batching", "optim", "precision", "fp16", "bf16", "activation_checkpointing", "label_smoothing_factor",
    "max_grad_norm", "batch_size_memory", "full_determinism",
)  # fmt: skip

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """The place of one search's result; None keeps nothing."""

    file: Path | None

    @classmethod
    def of(
        cls,
        folder: Path | None,
        config: Config,
        of_model: Any,
        device: Device,
        memory_limit: int | None,
        processes: int,
        goal: Goal,
    ) -> Entry:
        """Return the entry of a search; two that could end differently have different ones."""
        if folder is None or of_model is None:
            return cls(None)
        import torch
        import transformers

        from dlgsum import __version__

        model = {name: value for name, value in of_model.to_dict().items() if name != "_name_or_path"}
        parts = {
            "version": VERSION,
            "versions": [torch.__version__, transformers.__version__, __version__],
            "model": model,
            "device": [device.kind, device.name, device.total, device.precision, device.parameters],
            "training": {name: getattr(config.training, name) for name in _TRAINING},
            "generation": dataclasses.asdict(config.generation),
            "pad": config.tokenizer.pad_to_multiple_of,
            "distributed": dataclasses.asdict(config.distributed),
            "limit": memory_limit,
            "processes": processes,
            "goal": [goal.key, goal.facts],
        }
        return cls(folder / "batch_sizes" / f"{sha256_text(dumps(_plain(parts)))}.json")

    def read(self, free: int) -> Found | None:
        """Return what was found before; None where there is nothing, or less memory is free now."""
        from dlgsum.training.batch_size import Found, Probe

        if self.file is None:
            return None
        try:
            content = read_json(self.file)
            if free < content["free"] * (1 - SLACK):
                return None
            found = content["found"]
            return Found(int(found["size"]), str(found["reason"]), [Probe(**probe) for probe in found["probes"]])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("The batch size found earlier cannot be read and is found again: %s (%s)", self.file, error)
            return None

    def write(self, free: int, found: Found) -> None:
        """Keep what was found; a disk that takes no more is no error."""
        if self.file is None:
            return
        try:
            write_json(self.file, {"free": free, "found": dataclasses.asdict(found)})
        except OSError as error:
            logger.warning("The batch size found by trying is not kept: %s (%s)", self.file, error)


def _plain(value: Any) -> Any:
    """Return a value for JSON in which dataclasses are dictionaries; other objects become their text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in sorted(value.items(), key=lambda item: str(item[0]))}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
