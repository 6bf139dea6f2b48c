"""`dlgsum debug-nan`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlgsum.cli.completion.completers import complete_run
from dlgsum.cli.output import AsJson, Debug, print_json, print_table, request
from dlgsum.core.console import results

if TYPE_CHECKING:
    from dlgsum.recipes.debug_nan import Debugged


class _Precision(StrEnum):
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class _Device(StrEnum):
    auto = "auto"
    cuda = "cuda"
    mps = "mps"
    cpu = "cpu"


def debug_nan(
    run: Annotated[
        str,
        typer.Argument(
            help="A run's id or unique prefix, latest, its folder, or the folder of a report.",
            autocompletion=complete_run,
            show_default=True,
        ),
    ] = "latest",
    step: Annotated[int | None, typer.Option("--step", min=1, help="Which of the run's reports.")] = None,
    precision: Annotated[
        _Precision | None, typer.Option("--precision", help="Do it again in this precision, not in the training's.")
    ] = None,
    device: Annotated[_Device, typer.Option("--device", help="Where to do it again.")] = _Device.auto,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Do the step again at which a run's loss or gradient became NaN, and show the first module that did it.

    Exit code 0 whether or not it happens again; the answer is in the first line, and in "reproduced" with --json.

    Examples:

      dlgsum debug-nan latest

      dlgsum debug-nan 20261121_1612 --precision fp32 --device cpu
    """
    from dlgsum.recipes import debug_nan as recipe

    folder, others = recipe.find(run, request(None, None, None), step)
    done = recipe.debug_nan(folder, others, precision=precision and precision.value, device=device.value)
    if as_json:
        print_json(_content(done))
    else:
        _show(done)


def _content(done: Debugged) -> dict[str, Any]:
    from dlgsum.monitoring.nan_report import as_json

    common = {"report": str(done.report.folder), "other_reports": [str(path) for path in done.others]}
    if done.seen is None:
        why = f"the report has no weights: {done.report.content.get('no_weights', '')}"
        return {**common, "reproduced": None, "not_tried_because": why, "at_the_time": done.report.content}
    again = as_json(done.bad, done.seen)
    return {**common, "device": done.device, "notes": done.notes, **again, "at_the_time": done.report.content["what"]}


def _show(done: Debugged) -> None:
    from dlgsum.monitoring.nan.advice import advice, found

    def show(text: str) -> None:
        results().print(text, markup=False)

    content = done.report.content
    show(f"report      {done.report.folder}")
    show(f"then        {content['what']}")
    if done.seen is None:
        show(f"now         not done again: the report has no weights ({content.get('no_weights', '')})")
        sentences, todo = content["found"], content["advice"]
    else:
        now = {
            True: "reproduced: it is not finite again",
            False: "not reproduced: it is finite now",
            None: f"could not be done again: {done.seen.replay.why_not}",
        }[done.seen.replay.reproduced]
        show(f"now         {now} ({done.bad.precision} on {done.device})")
        sentences, todo = found(done.bad, done.seen), advice(done.bad, done.seen)
    for title, lines in (("note", done.notes), ("found", sentences), ("to do", todo)):
        for number, line in enumerate(lines):
            show(f"{'' if number else title:<12}{line}")
    _show_modules(done)
    _show_rows(done)
    if done.others:
        show(f"others      {', '.join(path.name for path in done.others)} (--step N)")


def _show_modules(done: Debugged) -> None:
    from dlgsum.monitoring.nan.text import surroundings

    rows = [
        [
            ("→ " if culprit else "  ") + (event.weight or event.module or event.kind),
            event.kind,
            event.place,
            str(event.figures),
        ]
        for event, culprit in (surroundings(done.seen) if done.seen is not None else [])
    ]
    if rows:
        print_table("Modules, in the order of computing", ["module", "class", "what", "values"], rows, justify="left")


def _show_rows(done: Debugged) -> None:
    from dlgsum.monitoring.nan.text import token_counts

    alone = done.seen.replay.rows if done.seen is not None else None
    rows = [
        [batch.name(row), str(number + 1), str(source), str(target), _yes(done, number, batch.name(row))]
        for number, batch in enumerate(done.bad.micro_batches)
        for row, (source, target) in enumerate(token_counts(batch))
    ]
    columns = ["row", "micro-batch", "source tokens", "target tokens", "not finite alone"]
    if alone is None:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    print_table("Rows (their text is in rows.jsonl)", columns, rows)


def _yes(done: Debugged, number: int, row: str) -> str:
    replay = done.seen.replay if done.seen is not None else None
    tried = replay is not None and replay.micro_batch == number and replay.rows is not None
    return ("yes" if row in (replay.rows or ()) else "no") if tried and replay is not None else ""
