"""Find experiments, and rebuild the index that finds them. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dlgsum.core.errors import UsageError
from dlgsum.recipes.named import folder_of, record_named, run_named
from dlgsum.recipes.stored import Place, opened
from dlgsum.tracking.query import Answer, select
from dlgsum.tracking.query_fields import metric_of
from dlgsum.tracking.record import ExperimentRecord, read_record
from dlgsum.tracking.run import RunFolder, list_runs

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Listing:
    """Experiments as they were asked for.

    Attributes:
        total: how many are known.
        missing: ids of those whose folders are gone.
        notes: what was found when the folders were looked through, such as damaged ones.
        place: folder that they are in.
        ids: of all, by which a short form of one is known to be unique.
    """

    answer: Answer
    total: int
    missing: frozenset[str]
    notes: list[str]
    place: str
    ids: list[str] = field(default_factory=list)

    @property
    def by_status(self) -> dict[str, int]:
        """How many of those listed have each status."""
        return dict(Counter(record.status for record in self.answer.records).most_common())


@dataclass(frozen=True)
class Found:
    """One experiment: what is known of it, and its folder; None where that is gone or on another machine."""

    record: ExperimentRecord
    run: RunFolder | None


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild of the index did: ids of runs added, read again and dropped, ids of models, notes for people.

    ``registered`` are the models of completed runs that had not been registered before.
    """

    added: list[str]
    updated: list[str]
    dropped: list[str]
    models: list[str]
    registered: list[str]
    notes: list[str]


def list_experiments(
    place: Place,
    filters: Sequence[str] = (),
    *,
    sort: str = "-started",
    columns: Sequence[str] = (),
    limit: int | None = None,
) -> Listing:
    """Bring the index in step with the folders, and return the experiments that are asked for.

    Args:
        filters: as ``tracking.query.select`` takes them; so are sort, columns and limit. Without columns, the usual
            ones, and those that are filtered or sorted by.

    Raises:
        UsageError: a filter, or the name of a field, is wrong.
        EnvironmentProblem: the database cannot be used.
    """
    with opened(place, create=False) as store:
        synced = store.sync()
        records = store.records()
    missing = frozenset(record.id for record in records if record.missing)
    notes = [*synced.notes, *(f"the folder of {run} is gone; `reindex` drops its record" for run in synced.missing)]
    wanted = list(columns) or _usual_columns(records)
    answer = select(records, filters, sort=sort, columns=wanted, limit=limit, missing=missing)
    if not columns:
        shown = {it.name for it in answer.columns}
        further = [it for it in dict.fromkeys(it.name for it in answer.used) if it not in shown and it != "missing"]
        if further:
            answer = select(records, filters, sort=sort, columns=[*wanted, *further], limit=limit, missing=missing)
    return Listing(answer, len(records), missing, notes, str(place.output_dir), [record.id for record in records])


def find_experiment(name: str, place: Place) -> Found:
    """Return the experiment that a name means: an id, a unique beginning of one, ``latest``, ``best``,
    ``models:NAME``, or a folder.

    ``latest`` is the newest, whatever it has. The folder is looked for first; where there is none, the index is asked.

    Raises:
        UsageError: none, or more than one, fits.
        EnvironmentProblem: the folder cannot be read, or the database cannot be used.
    """
    try:
        run = _folder(name, place)
    except UsageError as error:
        record = _in_index(name, place)
        if record is None:
            raise error from None
        found = folder_of(record)
        if found is None:
            return Found(record, None)
        run = found
    return Found(read_record(run), run)


def rebuild_index(place: Place, *, progress: Progress | None = None) -> Rebuilt:
    """Read every run folder and every registered model again; what the index has of others is dropped.

    Raises:
        UsageError: there is no such folder of results.
        EnvironmentProblem: the database cannot be used.
    """
    if not place.output_dir.is_dir():
        raise UsageError(
            f"There is no folder {place.output_dir}", "Name the folder of all results: --output-dir, or OUTPUT_DIR."
        )
    from dlgsum.tracking.registry.registry import ModelRegistry
    from dlgsum.tracking.registry.reindex import reindex

    with opened(place, replace_broken=True) as store:
        synced = store.reindex(progress)
        models = reindex(ModelRegistry(store.output_dir, store))
    notes = [*synced.notes, *models.notes]
    return Rebuilt(synced.added, synced.updated, synced.missing, models.models, models.registered, notes)


def as_plain(record: ExperimentRecord) -> dict[str, Any]:
    """Return all that is known of an experiment as JSON holds it; times are in UTC, as ISO 8601 has them."""
    return {name: plain_value(value) for name, value in asdict(record).items()}


def plain_value(value: Any) -> Any:
    """Return one value of a record as JSON holds it."""
    return value.isoformat() if isinstance(value, datetime) else value


def _usual_columns(records: Sequence[ExperimentRecord]) -> list[str]:
    common = Counter(metric_of(record) for record in records).most_common(1)
    metric = common[0][0] if common else "rouge_combined_f1"
    scores = [metric]
    if any(metric in record.test_metrics for record in records):
        scores.append(f"test.{metric}")
    return ["id", "name", "status", "started", "seconds", *scores, "steps", "tags"]


def _folder(name: str, place: Place) -> RunFolder:
    path = Path(name)
    if (path / "config.yaml").is_file():
        return RunFolder(path if path.name not in ("", "..") else path.resolve())
    runs = list_runs(place.output_dir) if name == "latest" else []
    return runs[-1] if runs else run_named(name, place)


def _in_index(name: str, place: Place) -> ExperimentRecord | None:
    with opened(place, create=False) as store:
        store.sync()
        if name == "latest":
            return max(store.records(), key=lambda it: it.id, default=None)
        return record_named(name, store)


__all__ = [
    "Found", "Listing", "Rebuilt", "as_plain", "find_experiment", "list_experiments",
    "plain_value", "rebuild_index",
]  # fmt: skip
