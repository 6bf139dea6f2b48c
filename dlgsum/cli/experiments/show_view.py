"""How one experiment is shown: sections of a heading and rows, for a terminal of any width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dlgsum.cli.experiments import cells
from dlgsum.cli.watch_view import sparkline
from dlgsum.core.text import plural

if TYPE_CHECKING:
    from dlgsum.recipes.experiments_samples import SampleRow
    from dlgsum.recipes.experiments_show import Details
    from dlgsum.tracking.record import ExperimentRecord

_VERSIONS = ("dlgsum", "python", "torch", "transformers", "kiwipiepy")
_HASH = 8  # letters shown of a hash
_DIALOGUE = 600  # letters shown of a dialogue


def sections(details: Details) -> Iterator[RenderableType]:
    """Yield each section of an experiment that has anything to say."""
    record = details.found.record
    title = Text.assemble((record.id, "bold"), "  ", cells.status(record.status, missing=details.found.run is None))
    yield title
    for note in details.notes:
        yield Text(f"note: {cells.one_line(note)}", style="yellow")
    parts: list[tuple[str, RenderableType | None]] = [
        ("run", _pairs(_run(record))),
        ("made with", _pairs(_surroundings(record))),
        ("scores", _scores(details)),
        ("curves", _curves(details)),
        ("settings that are not the defaults", _changes(details)),
        ("samples", _samples(details)),
        ("models", _pairs([(name, ", ".join(aliases) or cells.NOTHING) for name, aliases in details.models.items()])),
        ("files", _files(details)),
        ("alerts", _alerts(details)),
    ]
    for heading, content in parts:
        if content is not None:
            yield Group(_heading(heading), Padding(content, (0, 0, 0, 2), expand=False))
    if details.commands:
        # Not broken into rows: they are to be copied.
        lines = (Text(f"  {command}", no_wrap=True, overflow="ignore") for command in details.commands)
        yield Group(_heading("next"), *lines)


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold cyan")


def _pairs(rows: Iterable[tuple[str, Any]]) -> Table | None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        if value not in (None, "", [], {}):
            table.add_row(Text(cells.one_line(name)), Text(str(value)))
    return table if table.row_count else None


def _run(record: ExperimentRecord) -> Iterator[tuple[str, Any]]:
    yield "name", cells.one_line(record.name)
    yield "description", record.description
    yield "reason", record.reason
    ended = f" to {cells.moment(record.ended)}" if record.ended else ""
    yield "when", f"{cells.moment(record.started)}{ended}, {cells.span(record.seconds)}"
    total = f" of {record.total_steps}" if record.total_steps not in (None, record.steps) else ""
    best = f", best at {record.best_step}" if record.best_step is not None else ""
    yield "steps", f"{record.steps}{total}{best}" if record.steps is not None else None
    yield "tags", " ".join(record.tags)
    yield "notes", record.notes
    yield "from", f"{record.parent_kind} {record.parent}".strip() if record.parent else None
    yield "seed", record.seed
    yield "command", cells.one_line(record.command)
    yield "folder", record.folder


def _surroundings(record: ExperimentRecord) -> Iterator[tuple[str, Any]]:
    changed = {True: ", with changes that are not committed", False: "", None: ""}[record.git_dirty]
    yield "commit", f"{record.git_commit[:12]}{changed}" if record.git_commit else None
    yield "config", record.config_hash[:_HASH]
    counts = {name: f"{plural(count, 'row')} " for name, count in record.rows.items()}
    yield "data", ", ".join(f"{name} {counts.get(name, '')}{value[:_HASH]}" for name, value in record.data.items())
    gpus = record.hardware.get("gpus")
    machine = [_gpu(gpu) for gpu in gpus] if isinstance(gpus, list) and gpus else ["no GPU"] if gpus == [] else []
    cores = record.hardware.get("cpu_count")
    yield "machine", ", ".join(filter(None, [record.host, *machine, f"{cores} cores" if cores else ""]))
    yield "versions", ", ".join(f"{name} {record.versions[name]}" for name in _VERSIONS if name in record.versions)
    yield "W&B run", record.wandb_run_id


def _gpu(gpu: Any) -> str:
    return str(gpu.get("name", gpu)) if isinstance(gpu, dict) else str(gpu)


def _scores(details: Details) -> RenderableType | None:
    if not details.scores:
        return None
    record = details.found.record
    columns = {"best": "best", "final": "last", "baseline": "lead", "test": "test", "test_baseline": "test lead"}
    kept = {it: head for it, head in columns.items() if any(getattr(row, it) is not None for row in details.scores)}
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("")
    for head in kept.values():
        table.add_column(head, justify="right", no_wrap=True)
    for row in details.scores:
        table.add_row(Text(cells.one_line(row.name)), *(cells.number(getattr(row, name)) for name in kept))
    below = ["lead: the dialogue's beginning as its summary"] if "baseline" in kept else []
    if record.signature:
        below.append(f"validation rows {record.validation_fingerprint[:_HASH]}, {record.signature}")
    if record.test_signature not in ("", record.signature):
        below.append(f"test: {record.test_signature}")
    return Group(table, *(Text(line, style="dim", overflow="fold") for line in below))


def _curves(details: Details) -> Table | None:
    table = Table.grid(padding=(0, 2, 0, 0))
    for curve in details.curves:
        table.add_row(
            Text(curve.name, style="dim", no_wrap=True),
            Text(sparkline(curve.points), no_wrap=True),
            Text(f"{cells.number(curve.first)} → {cells.number(curve.last)}", no_wrap=True),
            Text(f"steps {curve.steps[0]}–{curve.steps[1]}", style="dim"),
        )
    return table if table.row_count else None


def _changes(details: Details) -> Table | None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold", style="dim")
    for it in details.changes:
        table.add_row(Text(cells.one_line(it.key)), Text(_value(it.value)), Text(f"default {_value(it.default)}"))
    return table if table.row_count else None


def _value(value: Any) -> str:
    return "null" if value is None else cells.plain(value) if value not in ("", []) else "''" if value == "" else "[]"


def _samples(details: Details) -> Group | None:
    return Group(*(_sample(row) for row in details.samples)) if details.samples else None


def _sample(row: SampleRow) -> Group:
    head = Text(f"{row.which}: {cells.one_line(row.id)} at step {row.step}, {row.metric} {cells.number(row.score)}")
    dialogue = row.dialogue or ""
    pairs: list[tuple[str, str]] = [
        ("dialogue", _lines(dialogue[:_DIALOGUE] + (" …" if len(dialogue) > _DIALOGUE else ""))),
        ("prediction", _lines(row.prediction) or "(empty)"),
        *(("reference", _lines(text)) for text in row.references),
    ]
    return Group(head, Padding(_pairs(pairs) or "", (0, 0, 0, 2), expand=False))


def _lines(text: str) -> str:
    return "\n".join(cells.one_line(line) for line in text.splitlines())


def _files(details: Details) -> Table | None:
    return _pairs(
        (it.name, f"{_size(it.size)}{f' in {it.count} files' if it.count > 1 else ''}") for it in details.files
    )


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


def _alerts(details: Details) -> Text | None:
    if not details.alerts:
        return None
    return Text(", ".join(f"{count} {severity}" for severity, count in _by_severity(details.alerts.items())))


def _by_severity(counts: Iterable[tuple[str, int]]) -> Sequence[tuple[str, int]]:
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(counts, key=lambda it: order.get(it[0], 3))
