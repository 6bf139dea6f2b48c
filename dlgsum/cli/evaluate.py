"""`dlgsum evaluate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlgsum.cli.completion.completers import complete_dialogues
from dlgsum.cli.output import AsJson, BatchSize, Debug, Overrides, Run, print_json, print_table, progress_bar, request
from dlgsum.core.console import messages

if TYPE_CHECKING:
    from dlgsum.metrics.significance import Interval
    from dlgsum.recipes.evaluate import Report


def evaluate(
    run: Run,
    overrides: Overrides = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="File to score on; without it the run's validation set.",
            autocompletion=complete_dialogues,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Also write the predictions: .csv or .jsonl.")
    ] = None,
    batch_size: BatchSize = None,
    worst: Annotated[int, typer.Option("--worst", min=0, help="How many of the lowest-scoring rows to show.")] = 5,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Score a model, with 95 % intervals, by topic and length, and show its worst rows.

    Examples:

      dlgsum evaluate latest --data dev.csv

      dlgsum evaluate best --data dev.csv metrics.scorer=char
    """
    from dlgsum.recipes import evaluate as recipe
    from dlgsum.recipes import predict
    from dlgsum.recipes.settle import check_names
    from dlgsum.recipes.use import find_model

    trained = find_model(run, request(overrides, None, None))
    check_names(trained.config)
    if output is not None:
        predict.check_output(output)
    split = recipe.read_data(data, trained)
    for note in split.notes:
        messages().print(f"{split.source}: {note}", markup=False)
    for skipped in split.skipped:
        messages().print(f"warning: row {skipped.id} skipped: {skipped.reason}", style="yellow", markup=False)
    with progress_bar("generating") as on_batch:
        report = recipe.evaluate(trained, split, batch_size=batch_size, worst=worst, on_batch=on_batch)
    if output is not None:
        predict.write_predictions(output, split.rows, report.predictions, index=False)
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        _show(report)


def _show(report: Report) -> None:
    rows = [
        [name, f"{100 * interval.mean:.2f}", _range(interval), f"{100 * report.baseline[name]:.2f}"]
        for name, interval in report.intervals.items()
    ]
    title = f"{report.model} on {report.data}: {report.rows} rows (F1 x 100)"
    print_table(title, ["metric", "model", "95 % interval", "lead baseline"], rows, caption=report.signature)
    others = [[name, f"{value:.4f}"] for name, value in report.metrics.items() if name not in report.intervals]
    print_table("Other metrics", ["metric", "value"], others)
    for heading, groups in (("By topic", report.topics), ("By length of the dialogue", report.lengths)):
        if groups:
            print_table(
                f"{heading} (rouge_combined_f1 x 100)",
                ["group", "rows", "score", "95 % interval"],
                [[g.name, str(g.rows), f"{100 * g.score.mean:.2f}", _range(g.score)] for g in groups[:30]],
            )
    if report.worst:
        print_table(
            "Worst rows",
            ["fname", "combined", "prediction", "reference"],
            [[w.fname, f"{100 * w.score:.2f}", w.prediction, w.reference] for w in report.worst],
        )


def _range(interval: Interval) -> str:
    # One row alone has no interval.
    return "–" if interval.low != interval.low else f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
