"""`dlgsum models show` and `compare`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dlgsum.cli.models.options import Model, Models, moment, number, size_of
from dlgsum.cli.output import AsJson, Debug, OutputDir, StoreUrl, place, print_json, print_table
from dlgsum.core.console import messages, results

if TYPE_CHECKING:
    from dlgsum.recipes.models import ModelComparison


def show(
    model: Model,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show all that is known of a model: scores and their signature, training, aliases and their history, files.

    Examples:

      dlgsum models show champion

      dlgsum models show kobart@2 --json
    """
    from dlgsum.recipes import models

    info = models.show_model(models.open_registry(place(output_dir, store)), model)
    if as_json:
        print_json({**info, "created": info["created"].isoformat()})
    else:
        _print(info)


def compare(
    names: Models,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare models with the first one: every metric with its difference, and the settings that are not the same.

    Scores that were computed in another way, or on other rows, are marked, and get no difference.

    Example:

      dlgsum models compare champion challenger
    """
    from dlgsum.recipes import models

    comparison = models.compare_models(models.open_registry(place(output_dir, store)), names)
    if as_json:
        print_json(asdict(comparison))
    else:
        _print_comparison(comparison)


def _print(info: dict[str, Any]) -> None:
    training = [(name, value) for name, value in info["training_info"].items() if not isinstance(value, dict)]
    lines = [
        ("model", info["model_id"]), ("aliases", ", ".join(info["aliases"]) or "none"),
        ("architecture", info["architecture"] or "unknown"), ("trained from", info["checkpoint"] or "unknown"),
        ("run", info["experiment_id"] or "unknown"), ("registered", f"{moment(info['created'])} on {info['host']}"),
        ("folder", info["path"]), ("files", f"{info['files_words']}, {size_of(info['size'])}"),
        ("sha256", info["sha256"]), ("signature", info["signature"] or "unknown"),
        ("rows", info["validation_fingerprint"][:12] or "unknown"),
        *((name.replace("_", " "), value) for name, value in training if value not in (None, "")),
    ]  # fmt: skip
    for name, value in lines:
        results().print(f"{name:<22}{value}", markup=False, soft_wrap=True)
    scores = [[name, number(value)] for name, value in info["performance"].items()]
    print_table("\nscores", ["metric", "value"], scores)
    files = [[name, size_of(it["size"]), it["sha256"][:16]] for name, it in info["files"].items()]
    print_table("\nfiles", ["file", "size", "sha256"], files, justify="left")
    if info["history"]:
        print_history("\naliases", info["history"])


def print_history(title: str, events: list[dict[str, Any]]) -> None:
    """Print changes of aliases."""
    from datetime import datetime

    rows = [
        [moment(datetime.fromisoformat(it["time"])), it["alias"], it["model_id"] or "nothing", it["by"], it["note"]]
        for it in events
    ]
    print_table(title, ["time", "alias", "means", "by", "note"], rows, justify="left")


def _print_comparison(comparison: ModelComparison) -> None:
    rows = []
    for row in comparison.metrics:
        cells = [number(None if math.isnan(value) else value) for value in row.values]
        for index, (step, same) in enumerate(zip(row.differences, row.comparable, strict=True)):
            if index and not math.isnan(row.values[index]):
                cells[index] += f" ({step:+.4f})" if step is not None else "" if same else " *"
        rows.append([row.metric, *cells])
    print_table("", ["metric", *comparison.models], rows)
    if not all(all(row.comparable) for row in comparison.metrics):
        messages().print(
            f"* not comparable with {comparison.models[0]}: computed in another way, or on other rows", markup=False
        )
        for model, scale in zip(comparison.models, comparison.scales, strict=True):
            messages().print(f"  {model}: {scale}", markup=False)
    settings = [
        [it.key, *(str(value) if there else "–" for value, there in zip(it.values, it.given, strict=True))]
        for it in comparison.settings
    ]
    if settings:
        print_table("\nsettings that differ", ["setting", *comparison.models], settings, justify="left")
    else:
        results().print("\nno setting differs")
