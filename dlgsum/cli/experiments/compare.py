"""`dlgsum experiments compare`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlgsum.cli.completion.completers import complete_run
from dlgsum.cli.output import AsJson, Debug, OutputDir, StoreUrl, place, print_json, print_table
from dlgsum.core.console import results
from dlgsum.core.files import dumps
from dlgsum.core.text import plural

if TYPE_CHECKING:
    from dlgsum.recipes.compare import ComparisonReport
    from dlgsum.recipes.compare_blocks import Block
    from dlgsum.recipes.compare_pairs import Pair
    from dlgsum.recipes.compare_settings import Difference

_WIDE = 4  # runs that fit beside one another into 80 columns
_SHARES = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rouge_combined_f1")  # shown x 100, as they are published
_CUT = 160  # characters of a text that are shown


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help="Two runs or more: ids or unique prefixes, latest, best, folders; the first is compared with.",
            autocompletion=complete_run,
        ),
    ],
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="Resamples of the paired bootstrap.")] = 10_000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the resampling; one seed, one answer.")] = 0,
    level: Annotated[float, typer.Option("--level", metavar="SHARE", help="Share inside an interval.")] = 0.95,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what differs between runs, their scores, and whether a difference of scores is more than luck.

    Only scores of one signature on the same rows are ranked. Each run is compared with the first by a paired bootstrap
    over the rows (Koehn 2004); of more than two runs the p-values are adjusted by Holm's method (Holm 1979).

    Examples:

      dlgsum experiments compare 20261121_1020 20261121_1054

      dlgsum experiments compare best latest --samples 100000 --level 0.99 --json
    """
    from dlgsum.recipes import compare as recipe
    from dlgsum.recipes.compare_pairs import Bootstrap

    report = recipe.compare(runs, place(output_dir, store), Bootstrap(samples, seed, level))
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        show(report)


def show(report: ComparisonReport) -> None:
    """Print a comparison on standard output."""
    for run in report.runs:
        _say(f"{run.label}  {run.id}  {run.name}{'' if run.status == 'completed' else f'  ({run.status})'}")
    for note in report.notes:
        _say(f"warning: {note}")
    labels = [run.label for run in report.runs]
    if report.settings:
        _show_differences("Settings that differ", labels, report.settings, unknown="–")
    else:
        _say("settings    the same settings")
    if report.others:
        _show_differences("What else differs", labels, report.others, unknown="not known")
    else:
        _say("else        nothing else that is recorded differs")
    for block in report.blocks:
        _show_block(block)
    for line in report.scales:
        _say(f"warning: {line}; these numbers are not ranked together")
    wide = len(labels) > _WIDE
    for pair in report.pairs:
        _show_pair(pair, report, short=wide)
    if wide:
        _show_all_pairs(report)
    if report.comparisons:
        several = f"; p adjusted by Holm's method for {report.comparisons} comparisons of a metric, intervals are not"
        _say(
            f"bootstrap   {report.bootstrap.samples:,} resamples of the rows, seed {report.bootstrap.seed}, "
            f"level {report.bootstrap.level:g}{several if report.comparisons > 1 else ''}"
        )


def _show_differences(title: str, labels: Sequence[str], found: Sequence[Difference], *, unknown: str) -> None:
    shown = {
        it.key: [_value(value) if given else unknown for value, given in zip(it.values, it.given, strict=True)]
        for it in found
    }
    if len(labels) <= _WIDE:
        print_table(title, ["", *labels], [[key, *values] for key, values in shown.items()], justify="left")
    else:
        rows = [row for key, values in shown.items() for row in _turned(key, labels, values)]
        print_table(title, ["", "value", "runs"], rows, justify="left")


def _turned(key: str, labels: Sequence[str], values: Sequence[str]) -> list[list[str]]:
    """Return a row for each value of a setting, with the runs that have it."""
    who: dict[str, list[str]] = {}
    for label, value in zip(labels, values, strict=True):
        who.setdefault(value, []).append(label)
    return [[key if number == 0 else "", value, " ".join(runs)] for number, (value, runs) in enumerate(who.items())]


def _value(value: Any) -> str:
    return _cut(value if isinstance(value, str) and value else dumps(value))


def _show_block(block: Block) -> None:
    from dlgsum.metrics.suite import HEALTH

    cells = {
        row.name: [
            _number(row.name, value) + (" *" if label in row.best else "  ")
            for label, value in zip(block.runs, row.values, strict=True)
        ]
        for row in block.metrics
    }
    title = f"{block.split} (F1 x 100)"
    if not cells:
        _say(f"{block.split} of {', '.join(block.runs)}: no metrics yet")
    elif len(block.runs) <= _WIDE:
        print_table(title, ["", *block.runs], [[name, *row] for name, row in cells.items()])
    else:
        kept = [name for name in cells if name not in HEALTH]
        turned = [[label, *(cells[name][index] for name in kept)] for index, label in enumerate(block.runs)]
        print_table(title, ["", *(name.removesuffix("_f1").removeprefix("rouge_") for name in kept)], turned)
        if len(kept) < len(cells):
            _say(f"            --json has {', '.join(name for name in cells if name not in kept)} too")
    if any(row.best for row in block.metrics):
        _say("            * the best of its metric among these runs")
    for note in block.notes:
        _say(f"            {note}")
    if block.known and cells:
        _say(f"            {block.signature}, rows {block.fingerprint[:12]}")


def _number(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if not isinstance(value, (int, float)):
        return str(value)  # NaN and infinities are words in a file
    return f"{100 * value:.2f}" if name in _SHARES else f"{value:.4g}"


def _show_pair(pair: Pair, report: ComparisonReport, *, short: bool) -> None:
    from dlgsum.recipes.compare_pairs import p_text

    if not short:
        _say("")
    _say(f"{pair.split}: {pair.sentence}")
    for note in pair.notes:
        _say(f"warning: {note}")
    if pair.hint:
        _say("Score both in one way, with intervals:")
        for line in pair.hint.splitlines():
            _say(f"  {line}")
    if short or not pair.metrics:
        return
    share = f"{100 * report.bootstrap.level:g} % interval"
    rows = [
        [name, f"{100 * gap.difference:+.2f}", f"{100 * gap.low:+.2f} to {100 * gap.high:+.2f}", p_text(gap.p_adjusted)]
        for name, gap in pair.metrics.items()
    ]
    title = f"{pair.second} minus {pair.first} on {plural(pair.rows, 'row')} (F1 x 100)"
    print_table(title, ["", "difference", share, "p, Holm" if report.comparisons > 1 else "p"], rows)
    _say(f"rows        {pair.second} wins {pair.wins:,}, loses {pair.losses:,}, ties {pair.ties:,} (combined score)")
    for row in pair.extremes:
        _say(f"{row.fname}")
        _say(f"  {pair.first} {100 * row.first_score:6.2f}  {_cut(row.first_prediction)}")
        _say(f"  {pair.second} {100 * row.second_score:6.2f}  {_cut(row.second_prediction)}")
        _say(f"  reference  {_cut(row.reference)}")


def _show_all_pairs(report: ComparisonReport) -> None:
    from dlgsum.metrics.suite import COMBINED
    from dlgsum.recipes.compare_pairs import p_text

    rows = [
        [
            pair.second + ("" if pair.split == "validation" else f", {pair.split}"),
            str(pair.rows), f"{100 * gap.difference:+.2f}",
            f"{100 * gap.low:+.2f} to {100 * gap.high:+.2f}", p_text(gap.p_adjusted),
            f"{pair.wins}/{pair.losses}/{pair.ties}",
        ]
        for pair in report.pairs
        if (gap := pair.metrics.get(COMBINED)) is not None
    ]  # fmt: skip
    if rows:
        columns = ["", "rows", "difference", f"{100 * report.bootstrap.level:g} %", "p, Holm", "won/lost/tied"]
        print_table(f"combined score minus that of {report.runs[0].label} (F1 x 100; --json has all)", columns, rows)


def _cut(text: str) -> str:
    text = " ".join(text.split()) or "(empty)"
    return text if len(text) <= _CUT else f"{text[:_CUT]} …"


def _say(text: str) -> None:
    results().print(text, markup=False)
