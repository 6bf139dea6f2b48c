"""What trackers are shown of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import TrainerControl, TrainerState

from dlgsum.core.files import read_jsonl
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.samples import samples_from
from dlgsum.tracking.tracker import Sample
from dlgsum.training.hooks.record import Record


class Shown:
    """Keeps the samples that a stream would pass on."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, str, list[Sample]]] = []

    def samples(self, step: int, name: str, rows: Sequence[Sample]) -> None:
        self.calls.append((step, name, list(rows)))


def evaluation(step: int, *, scored: bool = True) -> Any:
    rows = [SimpleNamespace(id=f"dev_{i}", dialogue=f"대화 {i}", references=(f"정답 {i}",)) for i in range(10)]
    scores = SimpleNamespace(rows={"rouge1": np.arange(10) / 10}) if scored else None
    texts = [f"요약 {i} {step}" for i in range(10)]
    return SimpleNamespace(split=SimpleNamespace(rows=rows), prefix="eval", texts=texts, scores=scores, metrics={})


@pytest.mark.parametrize("predictions", [True, False])
def test_each_evaluation_shows_the_same_rows(tmp_path: Path, predictions: bool) -> None:
    run, shown, trainer = RunFolder.create(tmp_path), Shown(), SimpleNamespace(last_evaluation=None)
    hook = Record(trainer, shown, run, predictions=predictions, samples=3, measured=dict)  # type: ignore[arg-type]
    for step in (10, 20):
        trainer.last_evaluation = evaluation(step, scored=step == 10)
        hook.on_evaluate(None, TrainerState(global_step=step), TrainerControl())  # type: ignore[arg-type]
    (first, name, rows), (last, _, later) = shown.calls
    assert (first, last, name) == (10, 20, "eval")
    assert rows[1] == Sample("dev_3", "대화 3", "요약 3 10", ("정답 3",), {"rouge1": 0.3})
    assert [row.id for row in rows] == [row.id for row in later] == ["dev_0", "dev_3", "dev_6"]
    assert later[0].scores is None
    path = run.predictions / "eval-step-10.jsonl"
    assert path.is_file() == (run.path / "samples.jsonl").is_file() == predictions
    if predictions:
        assert len(list(read_jsonl(path))) == 10 and len(list(read_jsonl(run.path / "samples.jsonl"))) == 3
        assert samples_from(run, path, 3) == rows, "the folder alone gives the same"


def test_other_processes_than_the_first_show_nothing(tmp_path: Path) -> None:
    run, shown = RunFolder.create(tmp_path), Shown()
    trainer = SimpleNamespace(last_evaluation=evaluation(1))
    hook = Record(trainer, shown, run, predictions=True, samples=3, measured=dict)  # type: ignore[arg-type]
    state = TrainerState(global_step=1, is_world_process_zero=False)
    hook.on_evaluate(None, state, TrainerControl())  # type: ignore[arg-type]
    assert shown.calls == [] and not list(run.predictions.iterdir())
