"""Look at the registered models: list, rank, show, compare; give aliases and take them away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from dlgsum.config.request import Request
from dlgsum.core.errors import DataError, UsageError
from dlgsum.recipes.compare_settings import Difference, setting_differences
from dlgsum.recipes.stored import find_place
from dlgsum.tracking.record import ExperimentRecord
from dlgsum.tracking.registry import ModelRegistry
from dlgsum.tracking.registry.files import Progress, check_files, look_at
from dlgsum.tracking.registry.model import RegisteredModel
from dlgsum.tracking.registry.names import PREFIX
from dlgsum.tracking.registry.ranking import rank, scale_of, side_by_side
from dlgsum.tracking.registry.reference import folder_there
from dlgsum.tracking.run import find_run, list_runs

_USUAL = "rouge_combined_f1"


def open_registry(request: Request) -> ModelRegistry:
    """Return the registry of the folder of results that a command means.

    Raises:
        ConfigError: a setting is wrong.
    """
    place = find_place(request)
    return ModelRegistry(place.output_dir, place.store)


def find_registered(registry: ModelRegistry, name: str) -> RegisteredModel:
    """Return the model that a user means: its name, an alias, or the run that trained it, also ``latest`` or ``best``.

    Raises:
        UsageError: nothing fits.
    """
    try:
        return registry.resolve(name)
    except UsageError as unknown:
        if name.startswith(PREFIX) or name in registry.aliases():
            raise
        try:
            run = find_run(name, registry.output_dir)
        except UsageError as no_run:
            raise (no_run if name in ("latest", "best") else unknown) from None
    models = [model for model in registry.models() if model.experiment_id == run.id]
    if not models:
        raise UsageError(
            f"The model of run {run.id} is not registered",
            "A model is registered when its training completes; `dlgsum experiments reindex` registers earlier ones.",
        )
    return models[-1]


@dataclass(frozen=True)
class ModelLine:
    """A registered model in a list.

    Attributes:
        metric: the metric of ``score``; empty where the model has none.
        scale: stands for the score's signature and rows; only scores of one scale can be compared.
        scorer: the scorer of the signature; empty where it is not known.
        files_state: there, changed, gone or elsewhere.
        files_words: the same for people.
    """

    id: str
    name: str
    version: int
    aliases: list[str]
    architecture: str
    metric: str
    score: float | None
    scorer: str
    scale: str
    signature: str
    size: int
    created: datetime
    experiment_id: str | None
    files_state: str
    files_words: str
    path: str


def list_models(
    registry: ModelRegistry, *, name: str | None = None, architecture: str | None = None, alias: str | None = None
) -> list[ModelLine]:
    """Return the models that fit, oldest first, each with the metric that its training chose the best model by."""
    found = registry.search_models(name=name, architecture=architecture, alias=alias)
    ids = {info["model_id"] for info in found}
    return _lines(registry, [model for model in registry.models() if model.id in ids])


def best_models(
    registry: ModelRegistry, metric: str, limit: int, signature: str | None
) -> tuple[list[ModelLine], list[str]]:
    """Return the models with the best values of a metric, best first, and what was left out, in words.

    Raises:
        UsageError: the scores are on several scales, or no model has the metric.
    """
    ranked = rank(registry.models(), metric, signature)
    return _lines(registry, ranked.models[:limit], metric), ranked.left_out


def _lines(registry: ModelRegistry, models: Sequence[RegisteredModel], metric: str | None = None) -> list[ModelLine]:
    lines = []
    aliases = registry.aliases()
    for model in models:
        files = look_at(model, registry.output_dir)
        shown = metric or _metric_of(model)
        scale = scale_of(model, shown)
        parts = dict(part.partition(":")[::2] for part in scale.signature.split("|"))
        lines.append(
            ModelLine(
                id=model.id, name=model.name, version=model.version,
                aliases=[alias for alias, meant in aliases.items() if meant == model.id],
                architecture=model.architecture, metric=shown, score=model.performance.get(shown),
                scorer=parts.get("scorer", ""), scale=scale.id, signature=scale.signature, size=model.size,
                created=model.created, experiment_id=model.experiment_id, files_state=files.state,
                files_words=files.words, path=str(files.folder or model.path),
            )
        )  # fmt: skip
    return lines


def _metric_of(model: RegisteredModel) -> str:
    metrics = model.config.get("metrics")
    chosen = str(metrics.get("best", "")) if isinstance(metrics, dict) else ""
    return next((name for name in (chosen, _USUAL, *model.performance) if name in model.performance), "")


def show_model(registry: ModelRegistry, name: str) -> dict[str, Any]:
    """Return everything about a model, with ``history``: the events that gave it an alias, or gave that on.

    Raises:
        UsageError: there is no such model.
    """
    model = find_registered(registry, name)
    info = registry.infos([model])[0]
    events = registry.history()
    its = {event.alias for event in events if event.model_id == model.id}
    return {**info, "history": [event.as_json() for event in events if event.alias in its]}


@dataclass(frozen=True)
class MetricRow:
    """A metric of several models.

    Attributes:
        values: in the order of the models; NaN where one lacks it.
        differences: from the first model; None where the two do not compare, or one has no finite value.
        comparable: whether each was computed as the first was, on the same rows.
    """

    metric: str
    values: list[float]
    differences: list[float | None]
    comparable: list[bool]


@dataclass(frozen=True)
class ModelComparison:
    """Models side by side: metrics, and the settings that are not the same in all of them."""

    models: list[str]
    scales: list[str]
    metrics: list[MetricRow]
    settings: list[Difference]


def compare_models(registry: ModelRegistry, names: Sequence[str]) -> ModelComparison:
    """Compare models with the first one.

    Raises:
        UsageError: a model does not exist, or fewer than two are given.
    """
    if len(names) < 2:
        raise UsageError("There is nothing to compare with", "Name two models or more.")
    models = [find_registered(registry, name) for name in names]
    records = [_record(model) for model in models]
    rows = []
    for metric, values in side_by_side(models).items():
        same = [scale_of(model, metric) == scale_of(models[0], metric) for model in models]
        steps = [value - values[0] for value in values]
        shown = [step if ok and math.isfinite(step) else None for step, ok in zip(steps, same, strict=True)]
        rows.append(MetricRow(metric, values, shown, same))
    scales = [str(scale_of(model, _USUAL)) for model in models]
    return ModelComparison([model.id for model in models], scales, rows, setting_differences(records))


def _record(model: RegisteredModel) -> ExperimentRecord:
    data = model.training_info.get("data")
    return ExperimentRecord(
        id=model.id, folder=model.path, config=model.config, data=data if isinstance(data, dict) else {}
    )  # fmt: skip


@dataclass(frozen=True)
class Promotion:
    """What an alias means now, and what it meant before; None: nothing."""

    alias: str
    model: str
    before: str | None
    warnings: list[str]


def promote(
    registry: ModelRegistry,
    name: str,
    alias: str,
    *,
    note: str = "",
    force: bool = False,
    on_progress: Progress | None = None,
) -> Promotion:
    """Give an alias to a model whose files are whole.

    Args:
        force: warn of files that are gone or changed, instead of refusing.

    Raises:
        UsageError: there is no such model, or the alias cannot be one.
        DataError: files are gone or changed.
    """
    model = find_registered(registry, name)
    problem = _file_problem(registry, model, on_progress)
    if problem and not force:
        raise DataError(f"{model.id} is not promoted: {problem}", "Promote it regardless with --force.")
    before = registry.promote(model.id, alias, note)
    return Promotion(alias, model.id, before, [f"{model.id}: {problem}"] if problem else [])


def _file_problem(registry: ModelRegistry, model: RegisteredModel, on_progress: Progress | None) -> str:
    """Return what is wrong with a model's files, read from end to end; empty where nothing is."""
    try:
        folder = folder_there(registry, model)
    except UsageError as error:
        return error.message
    check = check_files(model, folder, on_progress)
    found = {"changed": check.changed, "missing": check.missing}
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in found.items() if names)


def history_of(registry: ModelRegistry, alias: str | None) -> list[dict[str, Any]]:
    """Return the changes of an alias, or of all, oldest first.

    Raises:
        UsageError: there never was such an alias.
    """
    events = registry.history(alias)
    if alias is not None and not events:
        known = sorted({event.alias for event in registry.history()})
        raise UsageError(f"There never was an alias '{alias}'", f"There are: {', '.join(known) or 'none'}")
    return [event.as_json() for event in events]


def run_ids(registry: ModelRegistry) -> set[str]:
    """Return the ids of the runs in the folder of results."""
    return {run.id for run in list_runs(registry.output_dir)}


def as_rows(lines: Sequence[ModelLine]) -> list[dict[str, Any]]:
    """Return lines as JSON holds them."""
    return [{**asdict(line), "created": line.created.isoformat()} for line in lines]
