"""report.md: the report for people."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from dlgsum.monitoring.nan.advice import advice, found
from dlgsum.monitoring.nan.examine import Examination
from dlgsum.monitoring.nan.figures import Named
from dlgsum.monitoring.nan.step import IGNORED, BadStep, MicroBatch
from dlgsum.monitoring.nan.tracing import Event

_TEXT = 300  # characters of a row's text; rows.jsonl has all
BEFORE, AFTER = 25, 5  # events shown around the culprit


def markdown(bad: BadStep, seen: Examination, *, folder: Path, no_weights: str) -> str:
    """Return the report as Markdown.

    Args:
        folder: where it will lie.
        no_weights: why the weights are not in it; empty where they are.
    """
    parts = [
        f"# Step {bad.step} is not finite",
        "The weights are as they were before this step: the report was written before the optimizer could use the "
        "gradient.",
        "## What was found",
        "\n".join(f"- {_cell(sentence)}" for sentence in found(bad, seen)),
        "## What to do",
        "\n".join(f"{number}. {_cell(sentence)}" for number, sentence in enumerate(advice(bad, seen), 1)),
        "## The step",
        _table(["", "value"], _step(bad, seen)),
        *_modules(seen),
        "## Weights and gradients that are not finite",
        _damaged("Weights", seen.parameters),
        _damaged("Gradients, summed over the step's micro-batches", seen.gradients),
        "## The batch",
        "The text of the rows is your data. It stays in this folder; alerts and trackers get the names of rows only.",
        *(part for number, batch in enumerate(bad.micro_batches) for part in _batch(number, batch, bad, seen)),
        f"## The last {len(bad.history)} steps",
        _table(["step", "loss", "gradient norm", "learning rate"], [_past(row) for row in bad.history]),
        "## Doing it again",
        *_again(folder, no_weights),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def surroundings(seen: Examination) -> list[tuple[Event, bool]]:
    """Return the events around the culprit in their order, and for each whether it is the one; outputs only, else."""
    replay = seen.replay
    if replay.trace is None or replay.culprit is None:
        return []
    backward = replay.culprit.during == "backward"
    events = replay.trace.backward if backward else replay.trace.forward
    place = len(events) if replay.culprit.event is None else replay.culprit.event
    shown = ("output gradient", "input gradient") if backward else ("output",)
    before = [one for one in events[:place] if one.place in shown][-BEFORE:]
    after = [one for one in events[place + 1 :] if one.place in shown][:AFTER]
    return [
        *((one, False) for one in before),
        *((one, True) for one in events[place : place + 1]),
        *((one, False) for one in after),
    ]


def _step(bad: BadStep, seen: Examination) -> list[list[str]]:
    replay = seen.replay
    again = {True: "yes", False: "no: finite when done again", None: f"not tried: {replay.why_not}"}
    where = "" if replay.micro_batch is None else f", in micro-batch {replay.micro_batch + 1}"
    rows = [
        ["epoch", "unknown" if bad.epoch is None else f"{bad.epoch:.3f}"],
        ["loss", f"{bad.loss:.6g}"],
        ["gradient norm", f"{bad.grad_norm:.6g}"],
        ["precision", bad.precision],
        ["loss scale", "none" if bad.loss_scale is None else f"{bad.loss_scale:g}"],
        ["micro-batches", str(len(bad.micro_batches))],
        ["target tokens", str(bad.items)],
        ["not finite when done again", again[replay.reproduced] + where],
    ]
    if replay.fp32_finite is not None:
        rows.append(["finite in fp32", "yes" if replay.fp32_finite else "no"])
    return rows


def _modules(seen: Examination) -> list[str]:
    events = surroundings(seen)
    if not events:
        return []
    assert seen.replay.culprit is not None
    rows = [
        [
            ("→ " if culprit else "") + (event.weight or event.module or event.kind),
            event.kind,
            event.place,
            str(event.figures),
        ]
        for event, culprit in events
    ]
    return [
        f"## Around {_cell(seen.replay.culprit.module)}, in the order of computing",
        _table(["module", "class", "what", "values"], rows),
    ]


def _damaged(title: str, named: Sequence[Named]) -> str:
    if not named:
        return f"{title}: all finite."
    rows = [
        [one.name, " × ".join(map(str, one.shape)), one.dtype, str(one.figures.nan), str(one.figures.inf),
         f"{one.figures.largest:.4g}"]
        for one in named
    ]  # fmt: skip
    return f"{title}:\n\n" + _table(["name", "shape", "type", "NaN", "infinite", "largest finite value"], rows)


def _batch(number: int, batch: MicroBatch, bad: BadStep, seen: Examination) -> Iterator[str]:
    if len(bad.micro_batches) > 1:
        here = ", the one that is not finite" if seen.replay.micro_batch == number else ""
        yield f"### Micro-batch {number + 1}{here}"
    yield _table(["tensor", "shape", "type", "least", "largest"], [tensor_row(*one) for one in batch.inputs.items()])
    counts = token_counts(batch)
    alone = seen.replay.rows if seen.replay.micro_batch == number else None
    rows = [
        [
            batch.name(row) + (" (alone too)" if alone and batch.name(row) in alone else ""),
            str(source),
            str(target),
            *(_short(batch.rows[row].get(key, "") if row < len(batch.rows) else "") for key in ("dialogue", "summary")),
        ]
        for row, (source, target) in enumerate(counts)
    ]
    yield _table(["row", "source tokens", "target tokens", "dialogue", "summary"], rows)


def tensor_row(name: str, tensor: Tensor) -> list[str]:
    """Return a tensor's name, shape, type, least and largest value."""
    least, largest = (str(tensor.min().item()), str(tensor.max().item())) if tensor.numel() else ("–", "–")
    return [name, " × ".join(map(str, tensor.shape)), str(tensor.dtype).removeprefix("torch."), least, largest]


def token_counts(batch: MicroBatch) -> list[tuple[int, int]]:
    """Return the real source and target tokens of each row."""
    sources = batch.inputs["attention_mask"].sum(dim=1).tolist()
    targets = batch.inputs["labels"].ne(IGNORED).sum(dim=1).tolist()
    return list(zip(sources, targets, strict=True))


def _past(row: dict[str, float]) -> list[str]:
    return [f"{row.get(name, float('nan')):.6g}" for name in ("step", "loss", "grad_norm", "learning_rate")]


def _again(folder: Path, no_weights: str) -> Iterator[str]:
    if no_weights:
        yield f"The weights were not saved: {no_weights}. So the step cannot be done again from this folder."
    else:
        yield f"```\ndlgsum debug-nan '{folder}'\n```"
        yield "does the step again from the weights in this folder and shows each module; it changes nothing."
    yield (
        "`batch.pt` holds the tensors and random states: `torch.load('batch.pt', weights_only=True)`. `rows.jsonl` "
        "holds the rows in full, `report.json` all of this for machines."
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}… ({len(text)} characters)"


def _cell(text: str) -> str:
    """Return text that Markdown takes for nothing but text, on one line."""
    escaped = re.sub(r"([\\*\[\]|~])", r"\\\1", html.escape(text, quote=False))
    return "<br>".join(escaped.splitlines())
