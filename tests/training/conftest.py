"""A tiny job that trains in seconds, with real components."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TINY: dict[str, Any] = {
    "model": {
        "checkpoint": "kobart_mini",
        "mini": {"d_model": 32, "ffn": 64, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 2600},
    },
    "tokenizer": {"encoder_max_len": 128, "decoder_max_len": 24},
    "data": {"source": "sample", "max_train_samples": 48, "max_eval_samples": 6, "cache": False},
    "training": {
        "num_train_epochs": 1,
        "per_device_train_batch_size": 8,
        "learning_rate": 2e-3,
        "save_strategy": "no",
        "logging_steps": 1,
    },
    "generation": {"num_beams": 1},
    "metrics": {"scorer": "char", "bleu": False},
    "monitoring": {"progress": "off"},
}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that makes a tiny trainer; keyword arguments are sections laid over the tiny settings."""
    from dlgsum import DialogueSummarizationTrainer

    monkeypatch.chdir(tmp_path)

    def make(**sections: dict[str, Any]) -> Any:
        values = {name: dict(content) for name, content in TINY.items()}
        for name, content in sections.items():
            values[name] = {**values.get(name, {}), **content}
        return DialogueSummarizationTrainer(values)

    return make
