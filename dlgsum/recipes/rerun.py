"""Train a run again: the same configuration and seed, what is not as it was, and whether the result is the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlgsum.config.compose import Composition, compose
from dlgsum.config.groups import load_yaml
from dlgsum.config.origin import flatten
from dlgsum.config.overrides import override_value
from dlgsum.config.request import Request
from dlgsum.config.schema import defaults
from dlgsum.core.errors import DataError, UsageError
from dlgsum.core.files import read_json, sha256_file, sha256_text
from dlgsum.data.sources import Splits
from dlgsum.models.base import read_base
from dlgsum.recipes import rerun_differences, starting_weights, wiring
from dlgsum.recipes.compare_pairs import signature_differences
from dlgsum.recipes.compare_settings import is_ours, lacking
from dlgsum.recipes.limits import Limits
from dlgsum.recipes.named import run_named
from dlgsum.recipes.rerun_differences import Changed
from dlgsum.recipes.result import TrainingResult
from dlgsum.recipes.settle import Settled, settle_config
from dlgsum.recipes.start import start
from dlgsum.recipes.stored import find_place
from dlgsum.tracking.run import Parent, RunFolder

_TELLS = 5  # names of settings that a note holds


@dataclass(frozen=True)
class Rerun:
    """A run that is to be trained again.

    Attributes:
        original: the run.
        splits: the rows, as they are now.
        changed: what is not as it was.
        notes: what else there is to know before the two are compared.
        processes: as many as are to train.
        base_unknown: why it cannot be told whether it starts from the same weights; empty where it can.
    """

    original: RunFolder
    settled: Settled
    splits: Splits
    changed: list[Changed]
    notes: list[str]
    processes: int = 1
    base_unknown: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a run that was trained again came to.

    Attributes:
        weights_then: SHA-256 of the original's best weights; None where they are gone.
        weights_now: SHA-256 of the new ones.
        same: whether the weights are the same, bit for bit; None where that cannot be known.
        metrics_then: validation metrics of the original's best model; empty where they are not known.
        step_then: the step of that model.
        other_scale: why the metrics of then and now are not on one scale; empty where they are.
        reasons: what may explain other weights; empty for the same ones.
    """

    result: TrainingResult
    original: str
    weights_then: str | None
    weights_now: str | None
    same: bool | None
    metrics_then: dict[str, float]
    step_then: int | None
    other_scale: str
    reasons: list[str]


def find(name: str, overrides: Sequence[str], request: Request, *, processes: int = 1) -> Rerun:
    """Find a run, compose what it is to be trained with, read its rows, and say what is not as it was.

    Args:
        name: as ``recipes.named.run_named`` takes it.
        overrides: changes of the run's own configuration.
        request: says where the runs and their index are; the new one goes there too.

    Raises:
        UsageError: no run fits, or it was not trained by dlgsum.
        ConfigError: an override, or the saved configuration, is wrong.
        DataError: a data file is gone, or has no usable rows any more.
        EnvironmentProblem: the folder of the model that it started from is gone.
    """
    here = find_place(request)
    run = run_named(name, here)
    saved = load_yaml(run.config)
    if not is_ours(saved):
        raise UsageError(
            f"{run.id} was not trained by dlgsum: its configuration lacks sections such as {lacking(saved)}",
            "Run the program again that recorded it.",
        )
    base = Request(base=run.config, environ={})
    places = [f"general.output_dir={override_value(str(here.output_dir))}"]
    if here.store is not None:
        places.append(f"tracking.store={override_value(here.store)}")
    now = compose(dataclasses.replace(base, overrides=[*overrides, *places]))
    then = compose(base) if overrides else now
    try:
        settled = settle_config(now.config)
        splits = wiring.build_splits(settled.config)
    except DataError as error:
        hint = f"{error.hint}\n" if error.hint else ""
        raise DataError(
            f"The data of {run.id} cannot be read: {error.message}",
            f"{hint}Put the rows of then back, or name another file, such as data.train=FILE.",
        ) from error
    starting_weights.refuse_missing(run, settled)
    notes = _notes(run, saved, now)
    unknown = starting_weights.why_unknown(run, then.config)
    of_now = read_base(settled.model, settled.config.model)
    if not unknown and of_now is not None and of_now.unknown:
        notes.append(f"whether {of_now.checkpoint} is as it was is found out later: {of_now.unknown}")
    notes += [unknown] if unknown else []
    changed = [
        *rerun_differences.changed_configuration(then, now),
        *rerun_differences.changed_base(run, of_now),
        *rerun_differences.changed_data(run, splits, notes),
        *rerun_differences.changed_environment(run, notes),
        *rerun_differences.changed_processes(
            run, processes, effective=now.config.training.effective_batch_size is not None
        ),
    ]
    return Rerun(run, settled, splits, changed, notes, processes, unknown)


def train(rerun: Rerun, limits: Limits | None = None) -> Outcome:
    """Train, and compare the result with the original.

    Raises:
        DlgsumError: as ``recipes.start.start``.
    """
    then = _weights(rerun.original.best_model)  # before anything can happen to it
    metrics, step = _best(rerun.original)
    result = start(
        rerun.settled,
        processes=rerun.processes,
        limits=limits,
        parent=Parent("rerun", rerun.original.id),
        splits=rerun.splits if rerun.processes == 1 else None,
    )
    now = _weights(Path(result.model_path))
    same = None if then is None or now is None else then == now
    reasons = [] if same is not False else _reasons(rerun, result, step)
    scale = _other_scale(rerun.original.read_results() or {}, result)
    return Outcome(result, rerun.original.id, then, now, same, metrics, step, scale, reasons)


def _notes(run: RunFolder, saved: Mapping[str, Any], now: Composition) -> list[str]:
    notes = []
    if run.state != "completed":
        notes.append(f"it is {run.state or 'of unknown state'}: there is no final result to compare with")
    known = {str(key) for key, _ in flatten(saved)}
    younger = [key for key, _ in flatten(defaults()) if key not in known]
    if younger:
        more = f" and {len(younger) - _TELLS} more" if len(younger) > _TELLS else ""
        notes.append(f"settings that are younger than the run get their defaults: {', '.join(younger[:_TELLS])}{more}")
    config = now.config
    if config.training.unsettled:
        notes.append("it ended before its batch size was settled; what fits is found again")
    if config.model.checkpoint == "auto":
        notes.append("its model was never settled; it is chosen again")
    if config.general.device == "auto" or config.training.precision == "auto":
        device = _choices(run).get("device")
        notes.append(f"device and precision are chosen again{f'; then: {device}' if device else ''}")
    return notes


def _choices(run: RunFolder) -> dict[str, Any]:
    choices = (run.read_results() or {}).get("choices")
    return choices if isinstance(choices, dict) else {}


def _best(run: RunFolder) -> tuple[dict[str, float], int | None]:
    """Return the validation metrics of a run's best model and its step, of a run that did not end too."""
    results = run.read_results() or {}
    metrics, step = results.get("best_metrics"), results.get("best_step")
    if not isinstance(metrics, dict):
        try:
            record = read_json(run.best_model / "metrics.json")
        except (OSError, ValueError):
            return {}, None
        metrics, step = record.get("metrics"), record.get("step")
    numbers = metrics if isinstance(metrics, dict) else {}
    return (
        {str(name): value for name, value in numbers.items() if isinstance(value, (int, float))},
        step if isinstance(step, int) else None,
    )


def _other_scale(then: Mapping[str, Any], now: TrainingResult) -> str:
    parts = []
    if then.get("validation_fingerprint") not in (None, "", now.validation_fingerprint):
        parts.append("other validation rows")
    signature = then.get("signature") or now.signature
    if signature != now.signature:
        parts.append(f"scored in another way ({signature_differences([str(signature), now.signature])})")
    return ", ".join(parts)


def _weights(folder: Path) -> str | None:
    """Return the SHA-256 of a model's weights, of several files that of their hashes; None where there are none."""
    try:
        hashes = [sha256_file(path) for path in sorted(folder.glob("*.safetensors"))]
    except OSError:
        return None
    return hashes[0] if len(hashes) == 1 else sha256_text(*hashes) if hashes else None


def _reasons(rerun: Rerun, result: TrainingResult, step: int | None) -> list[str]:
    """Return what may have led to other weights: what is not as it was, or else what nobody records."""
    # What came from the hub only now is known by now.
    base = rerun_differences.changed_base(rerun.original, starting_weights.recorded(RunFolder(Path(result.run_dir))))
    reasons = [str(it) for it in [*rerun.changed, *base] if it.decides]
    reasons = list(dict.fromkeys(reasons))
    device, before = result.choices.get("device"), _choices(rerun.original).get("device")
    if before and device != before:
        reasons.append(f"device: {before} → {device}")
    if rerun.original.state != "completed":
        reasons.append(f"the original is {rerun.original.state}: its best model is of step {step}")
    if rerun.base_unknown:
        reasons.append(rerun.base_unknown)
    if not reasons and str(device).startswith("cuda"):
        reasons.append("sums on a GPU come in no fixed order unless training.full_determinism=true")
    return reasons or ["nothing that is recorded; another model of processor adds up in another order"]
