"""A model card beside every saved model: what it is, what it was trained on, what it scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum import __version__
from dlgsum.config.schema import Config

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit

_DEMONSTRATION = (
    "**A demonstration, not KoBART.** This model was trained from scratch on a small set of dialogues, to show the "
    "software at work without a network. Do not use it for real summaries.\n\n"
)


def write_model_card(
    folder: Path, config: Config, datasets: Mapping[str, EncodedSplit], record: Mapping[str, Any]
) -> None:
    """Write ``README.md`` in the hub's format into a model folder."""
    metrics = "\n".join(f"| {name} | {value:.4f} |" for name, value in record["metrics"].items()) or "| none | |"
    rows = "\n".join(
        f"| {name} | {len(split)} | `{split.split.fingerprint[:16]}` |" for name, split in datasets.items()
    )
    training = config.training
    text = f"""---
language: ko
library_name: transformers
pipeline_tag: summarization
tags: [dlgsum, dialogue-summarization]
---

# {config.meta.experiment_name}

{_DEMONSTRATION if config.model.architecture == "kobart_mini" else ""}Korean dialogue summarization, trained with \
dlgsum {__version__} (run `{record["run"]}`, step {record["step"]}) from `{config.model.checkpoint}`.

## Validation scores

| metric | value |
|---|---|
{metrics}

Signature: `{record["signature"]}`. Scores with another signature are on another scale.

## Data

| part | rows | fingerprint |
|---|---|---|
{rows}

## Training

Learning rate {training.learning_rate:g}, {training.num_train_epochs:g} epochs at most, seed {config.general.seed}; \
everything else is in `dlgsum.yaml`, which reruns the training: `dlgsum train --config dlgsum.yaml`.

## Intended use

Summaries of everyday Korean dialogues in the form `#Person1#: …`, one turn a line. Names, numbers and who said what can
be wrong; a person should check them where they matter.
"""
    (folder / "README.md").write_text(text, encoding="utf-8")
