"""Everything that is known of one experiment, gathered from its folder and the index. No torch here."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from dlgsum.config.compose import compose
from dlgsum.config.masking import plain
from dlgsum.config.request import Request
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import read_jsonl
from dlgsum.core.lenient import number
from dlgsum.recipes.experiments import Found, find_experiment
from dlgsum.recipes.experiments_samples import SampleRow, best_and_worst
from dlgsum.recipes.failures import has_checkpoint, resume_command
from dlgsum.recipes.stored import Place, opened
from dlgsum.tracking.query_fields import metric_of
from dlgsum.tracking.record import ExperimentRecord
from dlgsum.tracking.run import RunFolder

logger = logging.getLogger(__name__)

_POINTS = 32  # of a curve


@dataclass(frozen=True)
class ScoreRow:
    """One metric: of the best model, the last evaluation, the lead baseline, and the same of the test rows."""

    name: str
    best: float | None
    final: float | None
    baseline: float | None
    test: float | None
    test_baseline: float | None


@dataclass(frozen=True)
class Curve:
    """A metric over the steps; each of ``points`` is the mean of as many values as the others, NaN if one is NaN."""

    name: str
    points: list[float]
    first: float
    last: float
    steps: tuple[int, int]


@dataclass(frozen=True)
class Change:
    """A setting that is not as the defaults have it; ``default`` is None for one that there is no more."""

    key: str
    value: Any
    default: Any


@dataclass(frozen=True)
class FileGroup:
    """Files of one kind in the run folder: how many, and their bytes."""

    name: str
    count: int
    size: int


@dataclass(frozen=True)
class Details:
    """All of one experiment. Without its folder, what only the folder has is empty."""

    found: Found
    scores: list[ScoreRow] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    samples: list[SampleRow] = field(default_factory=list)
    models: dict[str, list[str]] = field(default_factory=dict)
    files: list[FileGroup] = field(default_factory=list)
    alerts: dict[str, int] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def show(name: str, place: Place) -> Details:
    """Gather what is known of the experiment that a name means; what cannot be read is left out, and said.

    Raises:
        UsageError: no experiment fits.
        EnvironmentProblem: its folder cannot be read, or only the database could know it and cannot be used.
    """
    found = find_experiment(name, place)
    record, run = found.record, found.run
    models, notes = _models(record, place)
    if run is None:
        notes.insert(0, f"The folder {record.folder} is not here; this is what the index remembers.")
        return Details(found, scores=_scores(record, {}), changes=_changes(record), models=models, notes=notes)
    samples, said = best_and_worst(run, record)
    return Details(
        found,
        scores=_scores(record, run.read_results() or {}),
        curves=_curves(run, metric_of(record)),
        changes=_changes(record),
        samples=samples,
        models=models,
        files=_files(run),
        alerts=_alerts(run),
        commands=_commands(run, record),
        notes=[*notes, *said],
    )


def _scores(record: ExperimentRecord, results: Mapping[str, Any]) -> list[ScoreRow]:
    baselines = [results.get(name) for name in ("baseline_metrics", "test_baseline_metrics")]
    baseline, test_baseline = ({} if not isinstance(it, dict) else it for it in baselines)
    columns = (record.best_metrics, record.final_metrics, baseline, record.test_metrics, test_baseline)
    names = dict.fromkeys(name for column in columns for name in column if name != "runtime")
    main = metric_of(record)
    in_order = sorted(names, key=lambda name: name != main)
    return [ScoreRow(name, *(number(column.get(name)) for column in columns)) for name in in_order]


def _curves(run: RunFolder, metric: str) -> list[Curve]:
    wanted = dict.fromkeys(("train/loss", "eval/loss", f"eval/{metric}"))
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in wanted}
    for row in _rows(run.metrics):
        step, metrics = row.get("step"), row.get("metrics")
        # The last row of a run has the mean of all its losses, which is no point of the curve.
        if not isinstance(step, int) or not isinstance(metrics, dict) or "train/runtime" in metrics:
            continue
        for name in wanted:
            value = number(metrics.get(name))
            if value is not None:
                found[name].append((step, value))
    return [_curve(name, points) for name, points in found.items() if points]


def _curve(name: str, points: list[tuple[int, float]]) -> Curve:
    values = [value for _, value in points]
    count = min(_POINTS, len(values))
    bounds = [round(index * len(values) / count) for index in range(count + 1)]
    means = [_mean(values[begin:end]) for begin, end in pairwise(bounds)]
    return Curve(name, means, values[0], values[-1], (points[0][0], points[-1][0]))


def _mean(values: list[float]) -> float:
    if not all(map(math.isfinite, values)):
        return math.nan
    return sum(value / len(values) for value in values)  # the sum itself may be beyond what a float holds


def _changes(record: ExperimentRecord) -> list[Change]:
    """Return what a run's settings have in the place of what `dlgsum train` without arguments would begin with."""
    usual = _usual()
    return [
        Change(key, value, usual.get(key))
        for key, value in _flat(record.config)
        if value != usual.get(key) and not (value in (None, "", [], {}) and key not in usual)
    ]


@cache
def _usual() -> dict[str, Any]:
    return dict(_flat(plain(compose(Request(environ={})).config)))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _models(record: ExperimentRecord, place: Place) -> tuple[dict[str, list[str]], list[str]]:
    """Return the registered models of a run with the aliases that mean them now, and what could not be asked.

    The files of this output folder tell; a database that it shares with others adds what those say.
    """
    from dlgsum.tracking.registry.registry import ModelRegistry

    def asked(registry: ModelRegistry) -> dict[str, list[str]]:
        models = registry.search_models(experiment_id=record.id)
        return {it["model_id"]: sorted(it["aliases"]) for it in models}

    if place.store is None:
        return asked(ModelRegistry(place.output_dir)), []
    try:
        with opened(place, create=False) as store:
            return asked(ModelRegistry(place.output_dir, store)), []
    except EnvironmentProblem as error:
        found = asked(ModelRegistry(place.output_dir))
        return found, [f"Whether its model is registered elsewhere is not known: {error.message}"]


def _files(run: RunFolder) -> list[FileGroup]:
    groups: dict[str, list[int]] = {}
    try:
        for path in sorted(run.path.rglob("*")):
            parts = path.relative_to(run.path).parts
            if path.is_symlink() or not path.is_file() or parts[0].startswith("."):
                continue
            depth = 2 if parts[0] in ("models", "checkpoints") and len(parts) > 2 else 1
            name = "/".join(parts[:depth]) + "/" if len(parts) > depth else "records and log"
            groups.setdefault(name, []).append(path.stat().st_size)
    except OSError as error:  # a checkpoint that a running job just removed
        logger.debug("the files of %s changed while they were counted: %s", run.path, error)
    return [FileGroup(name, len(sizes), sum(sizes)) for name, sizes in groups.items()]


def _alerts(run: RunFolder) -> dict[str, int]:
    rows = (row for row in _rows(run.alerts) if row.get("row") != "answer")
    return dict(Counter(str(row.get("severity") or "info") for row in rows))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from read_jsonl(path)
    except OSError:
        return


def _commands(run: RunFolder, record: ExperimentRecord) -> list[str]:
    """Return what can be done with a run next, as commands for this folder."""
    # The way that the resume command names a run is right for the others too.
    resume = resume_command(run)
    name = resume.removeprefix("dlgsum resume ")
    commands = []
    if record.status == "running":
        commands.append(f"dlgsum watch {name}")
    elif record.status != "completed" and has_checkpoint(run):
        commands.append(resume)
    if run.best_model.is_dir():
        commands.append(f"dlgsum predict {name} test.csv -o submission.csv")
    return [*commands, f"dlgsum experiments rerun {name}"]
