"""A model card beside every saved model: what it is, what it was trained on, what it scored."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum import __version__
from dlgsum.config.schema import Config
from dlgsum.models.choice import MINI

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit

_DEMONSTRATION = (
    "**A demonstration, not KoBART.** This model was trained from scratch on a small set of dialogues, to show the "
    "software at work without a network. Do not use it for real summaries.\n\n"
)
_TEST = "test_"
LOCAL = "a local model"  # in place of a path
# What the hub shows as results; the rest stands in the table only.
_SCORES = {
    "rouge1_f1": "rouge",
    "rouge2_f1": "rouge",
    "rougeL_f1": "rouge",
    "rouge_combined_f1": "rouge",
    "bleu": "bleu",
}


@dataclass(frozen=True)
class Part:
    """A part of the data: its number of rows, None where unknown, and their fingerprint."""

    rows: int | None
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model card says.

    Attributes:
        checkpoint: what the model was trained from: a hub name; a path is not shown.
        metrics: those of the test rows begin with ``test_``; NaN stands in the table only.
        signatures: of the ``validation`` and the ``test`` metrics.
        data: by the name of the part.
        dataset: hub name of the data; empty where they are files.
        training: settings in words and their values.
        origin: where the model comes from, such as "run …, step …".
        reruns: what ``dlgsum.yaml`` is good for; empty without that file.
    """

    name: str
    checkpoint: str
    metrics: Mapping[str, float]
    signatures: Mapping[str, str]
    data: Mapping[str, Part]
    dataset: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    reruns: str = ""
    version: str = __version__


def hub_name(checkpoint: str) -> str | None:
    """Return a checkpoint or data set that is a name on the hub; None for a folder and for what is made here.

    A folder is recorded as an absolute path; whether something of that name lies here today says nothing.
    """
    if checkpoint in ("", "auto", MINI, LOCAL):
        return None
    return checkpoint if re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", checkpoint, re.ASCII) else None


def write_model_card(
    folder: Path, config: Config, datasets: Mapping[str, EncodedSplit], record: Mapping[str, Any]
) -> None:
    """Write ``README.md`` in the hub's format into a model folder."""
    training = config.training
    card = Card(
        name=config.meta.experiment_name,
        checkpoint=config.model.checkpoint,
        metrics=record["metrics"],
        signatures={"validation": record["signature"]},
        data={name: Part(len(split), split.split.fingerprint) for name, split in datasets.items()},
        dataset=config.data.dataset or "",
        training={
            "learning rate": training.learning_rate, "epochs at most": training.num_train_epochs,
            "seed": config.general.seed,
        },
        origin=f"run `{record['run']}`, step {record['step']}",
        reruns="everything else is in `dlgsum.yaml`, which reruns the training: `dlgsum train --config dlgsum.yaml`",
    )  # fmt: skip
    (folder / "README.md").write_text(render(card), encoding="utf-8")


def render(card: Card) -> str:
    """Return a model card in the hub's format: a front matter of YAML, then Markdown."""
    base = hub_name(card.checkpoint)
    mini = card.checkpoint == MINI
    start = "random weights" if mini else f"`{base}`" if base else LOCAL
    origin = f" ({card.origin})" if card.origin else ""
    settings = "\n".join(f"| {name} | {_shown(value)} |" for name, value in card.training.items())
    return f"""---
{_front_matter(card, base)}
---

# {card.name}

{_DEMONSTRATION if mini else ""}Korean dialogue summarization, trained with dlgsum {card.version}{origin} from {start}.

{_scores(card, "validation")}{_scores(card, "test")}
## Data

| part | rows | fingerprint |
|---|---|---|
{_data(card)}

A fingerprint identifies the rows of a part, in their order. The rows themselves are not part of this folder.

## Training

| setting | value |
|---|---|
{settings or "| unknown | |"}

{f"{card.reruns[:1].upper()}{card.reruns[1:]}." if card.reruns else "No further settings were recorded."}

## Intended use

Summaries of everyday Korean dialogues in the form `#Person1#: …`, one turn a line. Names, numbers and who said what can
be wrong; a person should check them where they matter.

## Limitations

The model has seen only dialogues like those of its training data; other kinds of text and other languages were not
tried. A dialogue longer than the encoder takes is cut at its end. What is biased or wrong in the data can be in the
summaries. ROUGE counts words in common with a reference; it does not say whether a summary is true.

## Licence

Unknown: none was recorded. The terms of the starting weights and of the training data apply; look at them before the
model is passed on, and put the licence at the top of this file.
"""


def _front_matter(card: Card, base: str | None) -> str:
    from huggingface_hub import ModelCardData

    results = [*_results(card, "validation"), *_results(card, "test")]
    data = ModelCardData(
        language="ko", license="unknown", library_name="transformers", pipeline_tag="summarization",
        tags=["dlgsum", "dialogue-summarization"], base_model=base, datasets=hub_name(card.dataset),
        model_name=card.name if results else None, eval_results=results or None,
    )  # fmt: skip
    return str(data.to_yaml()).strip()


def _results(card: Card, part: str) -> list[Any]:
    """Return the scores of a part for the ``model-index``, each with the signature that it was computed with."""
    from huggingface_hub import EvalResult

    data = card.data.get(part)
    known = {} if data is None else {"rows": data.rows, "fingerprint": data.fingerprint}
    return [
        EvalResult(
            task_type="summarization", task_name="Dialogue summarization",
            dataset_type=hub_name(card.dataset) or "private", dataset_name=f"{part} rows", dataset_split=part,
            dataset_args=known or None, metric_type=_SCORES[name], metric_name=name, metric_value=round(value, 6),
            metric_args={"signature": card.signatures.get(part) or "unknown"},
        )
        for name, value in _metrics(card, part).items()
        if name in _SCORES and math.isfinite(value)
    ]  # fmt: skip


def _metrics(card: Card, part: str) -> dict[str, float]:
    test = part == "test"
    return {
        name.removeprefix(_TEST): value for name, value in card.metrics.items() if name.startswith(_TEST) == test
    }  # fmt: skip


def _scores(card: Card, part: str) -> str:
    metrics = _metrics(card, part)
    if not metrics and part == "test":
        return ""
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in metrics.items()) or "| none | |"
    signature = card.signatures.get(part)
    how = f"Signature: `{signature}`." if signature else "How they were computed is not known."
    return f"""## {part.capitalize()} scores

| metric | value |
|---|---|
{rows}

{how} Scores that were computed in another way, or on other rows, are on another scale.

"""


def _data(card: Card) -> str:
    lines = [
        f"| {name} | {'unknown' if part.rows is None else part.rows} | `{part.fingerprint[:16] or 'unknown'}` |"
        for name, part in card.data.items()
    ]
    return "\n".join(lines) or "| unknown | | |"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
