"""`dlgsum experiments list`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlgsum.cli.output import AsJson, Debug, OutputDir, StoreUrl, place
from dlgsum.core.console import messages, results
from dlgsum.core.files import dumps

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from dlgsum.recipes.experiments import Listing
    from dlgsum.tracking.query import Answer
    from dlgsum.tracking.query_fields import Field
    from dlgsum.tracking.record import ExperimentRecord

_LIMIT = 30
_HEADS = {"seconds": "took"}
_SPARED = ("tags", "steps", "seconds", "name")  # what a narrow terminal does without, first to last
_FLEXIBLE = {"name": 10, "tags": 8}  # columns that can be cut short, and what must be left of them


def list_(
    filters: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILTER", help="FIELD, then = != > >= < <= ~ (contains) or !~, then a value; quoted."),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="FIELD", help="Sort by a field; with a minus before it, the largest first.")
    ] = "-started",
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="FIELD,FIELD…", help="What to show, separated by commas.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help=f"Show N at most; without it {_LIMIT}, with --json all."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show all, however many.")] = False,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List experiments, the newest first.

    A field is id, name, status, started, ended, seconds, tag, notes, seed, steps, host, parent, git_commit, missing or
    another of the record; a metric of the best model, such as rouge1_f1 or loss; final.METRIC or test.METRIC; or any
    setting, such as training.learning_rate. All filters must hold. NaN satisfies none, and what a run does not have
    only != and !~; FIELD= finds runs without a value. Times are dates or how long ago (started>7d: later than seven
    days ago), durations 90s, 45m, 2h.

    Scores are shown from 0 to 1, as filters take them. Those with different letters behind them were computed in
    different ways or on different rows, and cannot be compared; with --json each row has its letter as scale.

    Examples:

      dlgsum experiments list

      dlgsum experiments list status=completed 'rouge_combined_f1>0.3' tag=baseline --sort -rouge_combined_f1

      dlgsum experiments list 'started>7d' 'training.learning_rate>=1e-5' --columns id,name,training.learning_rate,loss
    """
    from dlgsum.recipes.experiments import list_experiments
    from dlgsum.recipes.stored import find_place

    if limit is None and not everything and not as_json:
        limit = _LIMIT
    names = [name.strip() for name in (columns or "").split(",") if name.strip()]
    where = find_place(place(output_dir, store))
    listing = list_experiments(where, filters or [], sort=sort, columns=names, limit=None if everything else limit)
    for note in listing.notes:
        messages().print(f"note: {note}", style="yellow", markup=False)
    if as_json:
        for note in listing.answer.notes:
            messages().print(note, markup=False)
        _show_scales(listing.answer, messages())
        typer.echo(dumps(_as_json(listing, names), indent=2))
    elif not listing.answer.records:
        _show_none(listing)
    else:
        _show(listing, chosen=bool(names))


def _as_json(listing: Listing, names: Sequence[str]) -> list[dict[str, Any]]:
    from dlgsum.recipes.experiments import as_plain, plain_value

    scales = {"scale": listing.answer.scales["validation"], "test_scale": listing.answer.scales["test"]}
    several = {name: it.letters for name, it in scales.items() if it}
    rows = []
    for record in listing.answer.records:
        plain = as_plain(record) if not names else {
            it.name: plain_value(it.read(record)) for it in listing.answer.columns
        }  # fmt: skip
        rows.append(plain | {name: letters.get(record.id) for name, letters in several.items()})
    return rows


def _show_none(listing: Listing) -> None:
    if not listing.total:
        results().print(f"There are no experiments in {listing.place} yet; `dlgsum train` makes one.", markup=False)
        return
    results().print(f"None of {listing.total} experiments fits.", markup=False)
    for note in listing.answer.notes:
        results().print(note, markup=False)


def _show(listing: Listing, *, chosen: bool) -> None:
    from rich.table import Table

    from dlgsum.cli.experiments.cells import put

    console, answer = results(), listing.answer
    width = console.width if console.is_terminal else None
    cells = [
        [_cell(it, record, listing, short=width is not None) for record in answer.records] for it in answer.columns
    ]
    heads = [_head(it.name, answer, short=not chosen) for it in answer.columns]
    room = [max(len(head), *(cell.cell_len for cell in column)) for head, column in zip(heads, cells, strict=True)]
    kept, spared = list(range(len(heads))), list[str]()
    if width is not None and not chosen:
        kept, spared = _fit([it.name for it in answer.columns], room, width)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for index in kept:
        field = answer.columns[index]
        numeric = field.kind in ("number", "metric", "duration")
        flexible = width is not None and (chosen or field.name in _FLEXIBLE)
        table.add_column(
            heads[index],
            justify="right" if numeric else "left",
            no_wrap=not chosen,
            overflow="fold" if chosen else "ellipsis",
            min_width=None if flexible else room[index],
            max_width=room[index],
        )
    for row in zip(*(cells[index] for index in kept), strict=True):
        table.add_row(*row)
    put(table, width or sum(room) + 2 * len(room))
    _show_caption(listing, spared)


def _fit(names: Sequence[str], room: list[int], width: int) -> tuple[list[int], list[str]]:
    """Return which columns a terminal has room for, cutting long names short, and which it has not."""
    kept, spared = list(range(len(names))), []
    tests = [name for name in names if name.startswith("test.")]
    for name in ("", *_SPARED, *tests, "started"):
        if name in names:
            kept = [index for index in kept if names[index] != name]
            spared.append(name)
        needed = sum(min(room[index], _FLEXIBLE.get(names[index], room[index])) + 2 for index in kept)
        if needed <= width:
            break
    return kept, spared


def _head(name: str, answer: Answer, *, short: bool) -> str:
    if not short:
        return name
    if name.startswith("test.") and len(name) > 12:
        return "test"
    return {"rouge_combined_f1": "combined", **_HEADS}.get(name, name)


def _cell(field: Field, record: ExperimentRecord, listing: Listing, *, short: bool) -> Text:
    from rich.text import Text

    from dlgsum.cli.experiments import cells

    value = field.read(record)
    if field.kind == "status":
        return cells.status(str(value), missing=record.id in listing.missing)
    if field.kind == "id" and short and isinstance(value, str):
        return Text(cells.short_id(value, listing.ids))
    if field.kind == "duration":
        return Text(cells.span(value if isinstance(value, (int, float)) else None))
    if field.name == "steps" and record.steps is not None and record.total_steps not in (None, record.steps):
        return Text(f"{record.steps}/{record.total_steps}")
    if field.kind == "metric" and isinstance(value, (int, float)):
        return Text.assemble(cells.number(value), (_letter(field, record, listing.answer), "bold magenta"))
    return Text(cells.plain(value))


def _letter(field: Field, record: ExperimentRecord, answer: Answer) -> str:
    if not field.rows or not (scales := answer.scales[field.rows]):
        return ""
    return f" {scales.letters.get(record.id, '')}"


def _show_caption(listing: Listing, spared: Sequence[str]) -> None:
    console, answer = results(), listing.answer
    counts = ", ".join(f"{count} {status}" for status, count in listing.by_status.items())
    shown = len(answer.records)
    of = f" of {listing.total}" if shown < listing.total else ""
    lines = ["", f"{shown}{of} experiment{'s' * (max(shown, listing.total) != 1)}: {counts}"]
    if answer.fitting > shown:
        lines.append(f"{answer.fitting - shown} more fit: --all, or --limit {answer.fitting}")
    if any(record.id in listing.missing for record in answer.records):
        lines.append("gone: the folder is not there any more; `dlgsum experiments reindex` drops the record")
    lines += answer.notes
    if spared:
        lines.append(f"no room here for {', '.join(reversed(spared))}: --columns chooses, a pipe shows all")
    for line in lines:
        console.print(line, style="dim", markup=False)
    _show_scales(answer, console)


def _show_scales(answer: Answer, console: Console) -> None:
    for rows, scales in answer.scales.items():
        if not scales or not any(it.rows == rows for it in (*answer.columns, *answer.used)):
            continue
        compared = any(it.rows == rows for it in answer.used)
        title = f"The {rows} scores are on {len(scales.meaning)} different scales; compare only those of one letter."
        if compared:
            title = f"warning: {title} Filters and sorting took them for one."
        console.print(title, style="bold yellow" if compared else "dim", markup=False)
        for letter, meaning in scales.meaning.items():
            console.print(f"  {letter}  {meaning}", style="yellow" if compared else "dim", markup=False)
