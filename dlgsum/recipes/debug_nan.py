"""Do a step again that was not finite, from the report that the training wrote about it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.core.device import plan_device
from dlgsum.core.errors import DataError, EnvironmentProblem, UsageError
from dlgsum.recipes import wiring
from dlgsum.recipes.named import run_named
from dlgsum.recipes.stored import place_of
from dlgsum.tracking.run import list_runs

if TYPE_CHECKING:
    from dlgsum.monitoring.nan.examine import Examination
    from dlgsum.monitoring.nan.folder import SavedReport
    from dlgsum.monitoring.nan.step import BadStep

_WHEN = (
    "One is written at the first step whose loss or gradient is not finite, with monitoring.enabled=true and "
    "monitoring.nan_report=true."
)


@dataclass(frozen=True)
class Debugged:
    """A report, and what came of doing its step again.

    Attributes:
        others: the run's other reports, the earliest first.
        seen: what was found now; None where the report has no weights.
        bad: the step as it was done again.
        device: where it was done again.
        notes: in what the second time differs from the first.
    """

    report: SavedReport
    others: list[Path]
    seen: Examination | None
    bad: BadStep
    device: str
    notes: list[str]


def find(name: str, request: Request, step: int | None = None) -> tuple[Path, list[Path]]:
    """Return the report that is meant, and the run's other ones.

    Args:
        name: a report's folder, or a run as ``recipes.named.run_named`` takes it; ``latest`` is the newest run that has
            a report, as a run that ends in NaN may have no model.
        step: of the report; the latest one without.

    Raises:
        UsageError: there is no such run, or it has no such report.
    """
    from dlgsum.monitoring.nan.folder import find_reports, is_report, step_of

    given = Path(name).parent if Path(name).is_file() else Path(name)  # report.md, to which a log may link
    if is_report(given):
        return given, []
    if given.name == "nan_reports":
        name = str(given.parent)
    elif given.is_dir() and not (given / "config.yaml").is_file():
        raise DataError(f"{given} has no report.json, so that it is no whole report", "Name another one, or a run.")
    config = compose(request).config
    folder = wiring.output_dir(config)
    if name == "latest":
        runs = [run for run in list_runs(folder) if find_reports(run.path)]
        if not runs:
            raise UsageError(f"No run in {folder / 'experiments'} has a report about NaN", _WHEN)
        run = runs[-1]
    else:
        run = run_named(name, place_of(config))
    reports = find_reports(run.path)
    if not reports:
        raise UsageError(f"Run {run.id} has no report about NaN", _WHEN)
    chosen = [path for path in reports if step is None or step_of(path) == step]
    if not chosen:
        raise UsageError(
            f"Run {run.id} has no report about step {step}",
            f"It has {', '.join(path.name for path in reports)}.",
        )
    return chosen[-1], [path for path in reports if path != chosen[-1]]


def debug_nan(folder: Path, others: list[Path], *, precision: str | None = None, device: str = "auto") -> Debugged:
    """Do the step of a report again; nothing is written.

    Args:
        precision: "fp32", "bf16" or "fp16"; as in training when None.
        device: "auto", "cuda", "mps" or "cpu".

    Raises:
        DataError: the report is damaged.
        EnvironmentProblem: there is no such device.
    """
    from dlgsum.monitoring.nan.examine import examine
    from dlgsum.monitoring.nan.folder import read_report
    from dlgsum.training.loss import SummaryLoss

    report = read_report(folder)
    chosen = _device(device)
    bad: BadStep = report.bad if precision is None else dataclasses.replace(report.bad, precision=precision)  # type: ignore[arg-type]
    if not report.has_weights:
        return Debugged(report, others, None, bad, chosen, [])
    model = _load(report).to(chosen)
    model.train()
    seen = examine(model, bad, SummaryLoss(bad.smoothing), rerun=True)
    notes = _differences(report, bad, chosen)
    if report.content.get("reproduced") and seen.replay.reproduced is False and not notes:
        notes.append("in the training's own process it did happen again: program, plugins or machine differ")
    return Debugged(report, others, seen, bad, chosen, notes)


def _device(wanted: str) -> str:
    try:
        return plan_device(wanted, "fp32").device
    except EnvironmentProblem as problem:
        why = problem.message.partition(", but ")[2]
        raise EnvironmentProblem(f"--device {wanted}: {why}", "Use --device auto or --device cpu.") from problem


def _load(report: SavedReport) -> Any:
    """Build the model from its configuration; no code that came with a checkpoint is run."""
    import torch
    from safetensors.torch import load_model
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    from dlgsum.core.log import route_transformers
    from dlgsum.monitoring.nan.folder import CONFIG, TEXT, WEIGHTS, in_words

    route_transformers()
    try:
        config = AutoConfig.from_pretrained(report.folder, local_files_only=True, trust_remote_code=False)
        dtype = getattr(torch, str(report.content.get("dtype", "float32")))
        model = AutoModelForSeq2SeqLM.from_config(config, dtype=dtype, trust_remote_code=False)  # type: ignore[no-untyped-call]
        load_model(model, report.folder / WEIGHTS, strict=True)
    except Exception as error:  # safetensors, torch and transformers each have kinds of their own
        raise DataError(
            f"The weights in {report.folder} cannot be loaded: {in_words(error)}",
            f"{CONFIG} and {WEIGHTS} should be as they were written; {TEXT} can be read by itself.",
        ) from error
    return model


def _differences(report: SavedReport, bad: BadStep, device: str) -> list[str]:
    notes = []
    before = str(report.content.get("device", "")).partition(":")[0]
    if before and before != device:
        notes.append(
            f"the training ran on {before}, this on {device}: dropout draws other numbers, and products are rounded "
            "in another way"
        )
    if bad.precision != report.bad.precision:
        notes.append(f"the training ran in {report.bad.precision}, this in {bad.precision}")
    return notes
