"""The predictions of a run that scored best and worst, with the dialogues where those can be had cheaply."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlgsum.core.errors import DlgsumError
from dlgsum.core.files import read_json, read_jsonl
from dlgsum.core.lenient import number
from dlgsum.tracking.query_fields import metric_of
from dlgsum.tracking.record import ExperimentRecord
from dlgsum.tracking.run import RunFolder

logger = logging.getLogger(__name__)

_STEP = re.compile(r"eval-step-(\d+)\.jsonl")
_CHEAP = 4 * 2**20  # bytes of a data file that is read for the sake of two dialogues


@dataclass(frozen=True)
class SampleRow:
    """A prediction: which of all it is (best or worst), its step, its score, and its dialogue if that was at hand."""

    which: str
    step: int
    id: str
    metric: str
    score: float
    prediction: str
    references: list[str]
    dialogue: str | None = None


def best_and_worst(run: RunFolder, record: ExperimentRecord) -> tuple[list[SampleRow], list[str]]:
    """Return the best and the worst prediction of the best model, and what there is to say about them.

    They are chosen by the metric that chose the model, where rows have it, else by rouge_combined_f1; of equals the
    first. Rows whose score is NaN or missing are passed over. Without predictions there are none.
    """
    files = {int(found[1]): path for path in _files(run.predictions) if (found := _STEP.fullmatch(path.name))}
    if not files:
        return [], []
    notes = []
    step = record.best_step if record.best_step in files else max(files)
    if step != record.best_step:
        notes.append(f"Predictions are of step {step}, the last evaluation; there are none of the best model's step.")
    try:
        rows = list(read_jsonl(files[step]))
    except OSError as error:
        return [], [f"{files[step]} cannot be read: {error.strerror}"]
    metric = next((name for name in (metric_of(record), "rouge_combined_f1") if any(name in it for it in rows)), None)
    if metric is None:
        return [], notes
    scored = [(score, row) for row in rows if (score := number(row.get(metric))) is not None and not math.isnan(score)]
    if not scored:
        return [], notes
    chosen = {"best": max(scored, key=lambda it: it[0]), "worst": min(scored, key=lambda it: it[0])}
    dialogues = _dialogues(run, record, {str(row.get("fname")) for _, row in chosen.values()})
    samples = [_sample(which, step, metric, score, row, dialogues) for which, (score, row) in chosen.items()]
    return samples[: len(scored)], notes


def _sample(
    which: str, step: int, metric: str, score: float, row: Mapping[str, Any], dialogues: Mapping[str, str]
) -> SampleRow:
    references = row.get("references")
    name = str(row.get("fname"))
    return SampleRow(
        which=which,
        step=step,
        id=name,
        metric=metric,
        score=score,
        prediction=str(row.get("prediction") or ""),
        references=[str(it) for it in references] if isinstance(references, list) else [],
        dialogue=dialogues.get(name),
    )


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError:
        return


def _dialogues(run: RunFolder, record: ExperimentRecord, wanted: set[str]) -> dict[str, str]:
    """Return dialogues by their ids, from the file that the run validated on; none where that takes long or fails."""
    path = _validation_file(run)
    try:
        if path is None or path.stat().st_size > _CHEAP:
            return {}
        from dlgsum.config.compose import compose
        from dlgsum.config.request import Request
        from dlgsum.data.sources import load_file

        data = compose(Request(base=run.config, environ={})).config.data
        split = load_file(path, data, name="validation", need_summary=True, limit=data.max_eval_samples)
    except (DlgsumError, OSError) as error:
        logger.debug("the dialogues of %s are not shown: %s", run.id, error)
        return {}
    if split.fingerprint != record.data.get("validation"):  # the file has changed since
        return {}
    return {row.id: row.dialogue for row in split.rows if row.id in wanted}


def _validation_file(run: RunFolder) -> Path | None:
    try:
        splits = read_json(run.path / "data.json").get("splits")
    except (OSError, ValueError):
        return None
    for split in splits if isinstance(splits, list) else []:
        if isinstance(split, dict) and split.get("name") == "validation":
            return Path(str(split.get("source")))
    return None
