"""The rows of an evaluation that trackers show: the same ones each time, so that progress is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlgsum.core.files import append_jsonl, read_jsonl
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.tracker import Sample

FILE = "samples.jsonl"
_NOT_SCORES = ("fname", "prediction", "references")


def evenly_spread(total: int, wanted: int) -> list[int]:
    """Return the places of ``wanted`` of ``total`` rows, from the first on; all of them where there are no more."""
    count = min(total, wanted)
    return [index * total // count for index in range(count)]


def keep_dialogues(run: RunFolder, name: str, rows: Mapping[int, tuple[str, str]]) -> None:
    """Write the dialogues of the sampled rows to ``samples.jsonl`` of the run, once for each evaluated set.

    The predictions of an evaluation are in the run folder, its dialogues are not: with these, a mirror can be made
    again from the folder alone.

    Args:
        name: of the set, such as ``eval``.
        rows: place in the set to id and dialogue.

    Raises:
        OSError: the file cannot be written.
    """
    path = run.path / FILE
    there = {row.get("row") for row in _kept(path) if row.get("set") == name}
    for place, (identity, dialogue) in rows.items():
        if place not in there:
            append_jsonl(path, {"set": name, "row": place, "fname": identity, "dialogue": dialogue})


def samples_from(run: RunFolder, predictions: Path, count: int) -> list[Sample]:
    """Return the samples of an evaluation as a run showed them, from its folder.

    Args:
        predictions: a file such as ``predictions/eval-step-20.jsonl`` of the run.
        count: how many, as in ``tracking.samples``.

    Returns:
        Those rows whose dialogues the run kept; where it kept none, ``count`` rows without a dialogue.

    Raises:
        OSError: the file cannot be read.
    """
    name = predictions.name.partition("-step-")[0]
    rows = list(read_jsonl(predictions))
    kept = {
        row["row"]: row for row in _kept(run.path / FILE) if row.get("set") == name and isinstance(row.get("row"), int)
    }
    places = [place for place in sorted(kept) if 0 <= place < len(rows)][:count]
    return [_sample(rows[place], kept.get(place, {})) for place in places or evenly_spread(len(rows), count)]


def _sample(row: Mapping[str, Any], kept: Mapping[str, Any]) -> Sample:
    identity = str(row.get("fname", ""))
    same = kept.get("fname") == identity  # else the data have changed since
    scores = {name: float(value) for name, value in row.items() if name not in _NOT_SCORES}
    return Sample(
        identity,
        str(kept.get("dialogue", "")) if same else "",
        str(row.get("prediction", "")),
        tuple(str(text) for text in row.get("references") or ()),
        scores or None,
    )


def _kept(path: Path) -> Sequence[dict[str, Any]]:
    return list(read_jsonl(path)) if path.is_file() else []
