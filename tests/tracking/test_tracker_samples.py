"""The same rows of each evaluation are shown, and can be shown again from the run folder."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from dlgsum.core.files import dumps, read_jsonl, write_text_atomic
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.samples import evenly_spread, keep_dialogues, samples_from


@pytest.mark.parametrize(
    ("total", "wanted", "places"),
    [(0, 8, []), (3, 0, []), (3, 8, [0, 1, 2]), (10, 5, [0, 2, 4, 6, 8]), (499, 3, [0, 166, 332]), (1, 1, [0])],
)
def test_rows_are_evenly_spread(total: int, wanted: int, places: list[int]) -> None:
    assert evenly_spread(total, wanted) == places


def predictions(run: RunFolder, step: int, ids: list[str]) -> Path:
    path = run.predictions / f"eval-step-{step}.jsonl"
    rows = [
        {"fname": name, "prediction": f"{name}-{step}", "references": ["정답"], "rouge1": 0.5, "bad": math.nan}
        for name in ids
    ]
    write_text_atomic(path, "".join(dumps(row) + "\n" for row in rows))
    return path


def test_samples_come_back_from_the_folder(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    for _ in range(2):
        keep_dialogues(run, "eval", {0: ("a", "대화 a"), 2: ("c", "대화 c")})
    keep_dialogues(run, "test", {1: ("x", "nothing")})
    assert len(list(read_jsonl(run.path / "samples.jsonl"))) == 3, "written once"
    first, last = samples_from(run, predictions(run, 20, ["a", "b", "c", "d"]), 8)
    assert (first.id, first.dialogue, first.prediction, first.references) == ("a", "대화 a", "a-20", ("정답",))
    assert last.dialogue == "대화 c"
    assert first.scores is not None and first.scores["rouge1"] == 0.5 and math.isnan(first.scores["bad"])
    assert [row.id for row in samples_from(run, predictions(run, 20, ["a", "b", "c", "d"]), 1)] == ["a"]


def test_without_dialogues_rows_are_spread_as_in_training(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    rows = samples_from(run, predictions(run, 5, list("abcd")), 2)
    assert [(row.id, row.dialogue) for row in rows] == [("a", ""), ("c", "")]
    keep_dialogues(run, "eval", {0: ("other", "of other data")})
    assert [(row.id, row.dialogue) for row in samples_from(run, predictions(run, 6, ["a"]), 2)] == [("a", "")]
    assert samples_from(run, predictions(run, 7, []), 2) == []


def test_ids_that_come_twice_keep_their_own_dialogues(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    keep_dialogues(run, "eval", {0: ("same", "하나"), 1: ("same", "둘")})
    rows = samples_from(run, predictions(run, 5, ["same", "same"]), 2)
    assert [row.dialogue for row in rows] == ["하나", "둘"]
