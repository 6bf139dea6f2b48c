"""Registering what runs have trained, from their folders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dlgsum.core.errors import DataError, EnvironmentProblem
from dlgsum.core.files import read_json
from dlgsum.tracking.registry.files import placed
from dlgsum.tracking.registry.registry import ModelRegistry
from dlgsum.tracking.run import RunFolder, list_runs


def register_run(registry: ModelRegistry, run: RunFolder, result: Any) -> str:
    """Register the best model of a run, and return its id.

    A run that is registered keeps its id. Where its weights have changed since, as when it was resumed, they become
    the next version.

    Args:
        result: what the run ended with: the dataclass, or the content of ``training_results.json``.

    Raises:
        DataError: the run's configuration or result cannot be read, or it has no best model.
        EnvironmentProblem: the registration cannot be written.
    """
    content = asdict(cast(Any, result)) if is_dataclass(result) else dict(result)
    config = _config(run)
    if not run.best_model.is_dir():
        raise DataError(f"Run {run.id} has no model in {run.best_model}, so none can be registered")
    try:
        performance = {**_numbers(content["best_metrics"]), **_numbers(content.get("test_metrics", {}), "test_")}
        info = _training_info(run, config, content)
        meta, model = _section(config, "meta"), _section(config, "model")
        return registry.register(
            str(meta.get("experiment_name") or run.id), run.best_model,
            reuse=lambda it, files: it.experiment_id == run.id and _same_weights(it.files, files),
            architecture=str(model.get("architecture", "")), checkpoint=_checkpoint(run, model),
            config=config, performance=performance, training_info=info,
            experiment_id=run.id, signature=str(content.get("signature", "")),
            validation_fingerprint=str(content.get("validation_fingerprint") or info["data"].get("validation", "")),
        ).id  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{run.results} cannot be read: {type(error).__name__}: {error}") from error


def _config(run: RunFolder) -> dict[str, Any]:
    """Return the saved configuration, which has no secrets."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(run.config), resolve=True)
    except (OSError, YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise DataError(f"{run.config} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{run.config} is no configuration")
    return cast(dict[str, Any], content)


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _checkpoint(run: RunFolder, model: Mapping[str, Any]) -> str:
    """Return what a run was trained from; a folder absolute, also of a run that recorded it as it was written."""
    checkpoint = str(model.get("checkpoint", ""))
    try:
        return placed(checkpoint, Path(str(read_json(run.path / "environment.json")["working_directory"])))
    except (OSError, ValueError, KeyError, TypeError):
        return checkpoint


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return metrics as numbers under names with a prefix; what cannot be read as a number becomes NaN."""
    found = {}
    for name, value in metrics.items():
        try:
            found[f"{prefix}{name}"] = float(value)
        except (TypeError, ValueError):
            found[f"{prefix}{name}"] = math.nan
    return found


def _training_info(run: RunFolder, config: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    training, general = _section(config, "training"), _section(config, "general")
    try:
        splits = {str(it["name"]): it for it in read_json(run.path / "data.json")["splits"]}
    except (OSError, ValueError, KeyError, TypeError):
        splits = {}
    try:
        version = str(read_json(run.path / "environment.json").get("dlgsum", ""))
    except (OSError, ValueError):
        version = ""
    return {
        "epochs": content.get("epochs"), "batch_size": training.get("per_device_train_batch_size"),
        "effective_batch_size": training.get("effective_batch_size"), "learning_rate": training.get("learning_rate"),
        "steps": content.get("steps"), "best_step": content.get("best_step"), "seconds": content.get("seconds"),
        "stopped_early": content.get("stopped_early"), "seed": general.get("seed"),
        "test_signature": str(content.get("test_signature", "")),
        "data": {name: str(it.get("fingerprint", "")) for name, it in splits.items()},
        "rows": {name: it.get("rows") for name, it in splits.items()},
        "dlgsum": version,
    }  # fmt: skip


def _same_weights(one: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]) -> bool:
    """Say whether two lists of files have the same weights; the card and other words beside them may differ."""
    weights = [
        {name: it["sha256"] for name, it in files.items() if name.endswith((".safetensors", ".bin"))}
        for files in (one, other)
    ]
    return weights[0] == weights[1]


def unregistered(registry: ModelRegistry) -> list[RunFolder]:
    """Return the completed runs that have a best model and no registration, oldest first."""
    known = {model.experiment_id for model in registry.models()}
    return [
        run
        for run in list_runs(registry.output_dir)
        if run.id not in known and run.state == "completed" and (run.best_model / "config.json").is_file()
    ]


def register_missing(registry: ModelRegistry) -> tuple[list[str], list[str]]:
    """Register the completed runs that are not yet; return the new ids, and notes on those that cannot be."""
    ids, notes = [], []
    for run in unregistered(registry):
        result = run.read_results()
        if result is None:
            notes.append(f"run {run.id} is complete, but its result cannot be read; its model is not registered")
            continue
        try:
            ids.append(register_run(registry, run, result))
        except (DataError, EnvironmentProblem) as error:
            notes.append(f"the model of run {run.id} is not registered: {error.message}")
    return ids, notes
