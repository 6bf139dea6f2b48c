"""Show what a check of the data found: a table with a column for each split, histograms, findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlgsum.core.text import plural
from dlgsum.data.check_findings import percent
from dlgsum.data.check_report import DataReport, Distribution, Finding, Noted, SideReport, SplitReport, TokenizerNote

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"error": "red", "warning": "yellow", "note": ""}
_LABELS = {
    "same_id": "id used before",
    "duplicate": "copies of a row",
    "other_summary": "same dialogue, other summary",
    "empty_dialogue": "empty dialogue",
    "no_summary": "no summary",
    "no_topic": "no topic",
    "no_speaker": "no speaker mark",
    "one_turn": "a single turn",
    "one_speaker": "a single speaker",
    "line_without_speaker": "a line without speaker",
    "turns_on_one_line": "two turns on one line",
    "foreign_tag": "summary has a tag the dialogue has not",
    "long_summary": "summary longer than dialogue",
    "shared_summary": "summary shared by three or more",
}
_BAR = 20  # characters of the longest bar
_TAGS = 12
_EIGHTHS = " ▏▎▍▌▋▊▉"
_NONE = "–"

Row = tuple[str, ...]


def show_report(report: DataReport, console: Console, *, compact: bool = False) -> None:
    """Print a report: colour and block characters on a terminal, plain text elsewhere.

    Args:
        compact: for the start of a run: the main numbers and the warnings; notes are only counted, and errors end
            the run with a message of their own.
    """
    if not report.splits:
        console.print("There are no splits to show.")
        return
    names = [split.name for split in report.splits]
    _table(console, "Data", names, _compact_rows(report.splits) if compact else _rows(report.splits))
    if report.tokenizer is not None:
        _show_tokenizer(console, report.tokenizer)
    if not compact:
        _tags(console, report)
        _histogram(console, report, "Tokens of a dialogue", lambda split: split.source_tokens)
        _histogram(console, report, "Tokens of a summary", lambda split: split.target_tokens)
    for split in report.splits:
        for note in split.notes:
            console.print(f"{split.name}: {note}", markup=False)
    shown = [finding for finding in report.findings if not compact or finding.level == "warning"]
    for finding in shown:
        _show(console, finding)
    notes = sum(finding.level == "note" for finding in report.findings)
    if compact and notes:
        console.print(f"{plural(notes, 'note')}: dlgsum data check", markup=False, highlight=False)
    elif not report.findings and (report.tokenizer is None or not report.tokenizer.caution):
        console.print("Nothing odd was found.", style="green")


def _show_tokenizer(console: Console, note: TokenizerNote) -> None:
    trained = ""
    if note.trained_on:
        rows = plural(note.trained_rows, "row")
        trained = f", trained on {rows} of {note.trained_on} ({Path(note.trained_source).name})"
    text = f"tokenizer: {note.name}, {plural(note.size, 'token')}{trained}"
    console.print(text, markup=False, highlight=False)
    if note.caution:
        console.print(f"warning: {note.caution}", style=_STYLES["warning"], markup=False, highlight=False)


def _show(console: Console, finding: Finding) -> None:
    console.print(
        f"{finding.level}: {finding.split}: {finding.message}",
        style=_STYLES[finding.level],
        markup=False,
        highlight=False,
    )
    if finding.examples:
        more = " …" if finding.count > len(finding.examples) else ""
        console.print(f"  {', '.join(finding.examples)}{more}", markup=False, highlight=False)


def _compact_rows(splits: Sequence[SplitReport]) -> list[Row]:
    """Return the rows of the table at the start of a run."""
    return [
        ("file", *(Path(split.source).name for split in splits)),
        ("rows", *(f"{split.rows:,}" for split in splits)),
        ("left out", *(_none_or(sum(noted.count for noted in split.skipped.values())) for split in splits)),
        ("turns: median / 95 % / most", *(_three(split.turns) for split in splits)),
        *_token_rows(splits),
    ]


def _rows(splits: Sequence[SplitReport]) -> list[Row]:
    reasons = _first_seen(split.skipped for split in splits)
    kinds = [kind for kind in _LABELS if any(split.counts[kind].count for split in splits)]
    speakers = sorted(_first_seen(split.speaker_counts for split in splits), key=int)
    return [
        ("file", *(Path(split.source).name for split in splits)),
        ("rows", *(f"{split.rows:,}" for split in splits)),
        *((f"left out: {reason}", *(_noted(split.skipped.get(reason)) for split in splits)) for reason in reasons),
        *((_LABELS[kind], *(_noted(split.counts[kind]) for split in splits)) for kind in kinds),
        *(
            (plural(int(number), "speaker"), *(_none_or(s.speaker_counts.get(number, 0)) for s in splits))
            for number in speakers
        ),
        ("turns: median / 95 % / most", *(_three(split.turns) for split in splits)),
        ("characters of a dialogue", *(_three(split.dialogue_characters) for split in splits)),
        ("characters of a summary", *(_three(split.summary_characters) for split in splits)),
        *_token_rows(splits),
    ]


def _token_rows(splits: Sequence[SplitReport]) -> list[Row]:
    sources = [split.source_tokens for split in splits]
    targets = [split.target_tokens for split in splits]
    if sources[0] is None or targets[0] is None:
        return []
    unknown = [percent(split.unknown_share) if split.unknown_share else _NONE for split in splits]
    return [
        ("tokens of a dialogue: median / 95 % / most", *map(_lengths, sources)),
        (f"dialogues cut at {sources[0].limit:,}, tokens lost", *map(_cut, sources)),
        ("tokens of a summary: median / 95 % / most", *map(_lengths, targets)),
        (f"summaries cut at {targets[0].limit:,}, tokens lost", *map(_cut, targets)),
        ("unknown characters", *unknown),
    ]


def _tags(console: Console, report: DataReport) -> None:
    counts = [{count.tag: count for count in split.tags} for split in report.splits]
    tags = _first_seen(counts)
    if not tags:
        return
    rows = []
    for tag in sorted(tags, key=lambda tag: -sum(found[tag].dialogues for found in counts if tag in found))[:_TAGS]:
        cells = [f"{found[tag].dialogues:,} + {found[tag].summaries:,}" if tag in found else _NONE for found in counts]
        rows.append((tag, *cells))
    more = f" (the {_TAGS} most frequent of {len(tags)})" if len(tags) > _TAGS else ""
    _table(console, f"Tags in dialogues + in summaries{more}", [split.name for split in report.splits], rows)


def _histogram(
    console: Console, report: DataReport, title: str, side_of: Callable[[SplitReport], SideReport | None]
) -> None:
    known = [(split.name, side) for split in report.splits if (side := side_of(split)) is not None]
    names = [name for name, side in known if side.lengths.count]
    sides = [side for _, side in known if side.lengths.count]
    if not sides:
        return
    starts = sides[0].histogram.starts
    totals = [side.lengths.count for side in sides]
    most = max(count / total for side, total in zip(sides, totals, strict=True) for count in side.histogram.counts)
    ends = [f"–{start - 1:,}" for start in starts[1:]] + [" and more"]
    blocks = console.is_terminal and console.encoding.lower().startswith("utf")
    rows = []
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        shares = [side.histogram.counts[place] / total for side, total in zip(sides, totals, strict=True)]
        cells = [f"{_bar(part / most, blocks=blocks)} {percent(part):>7}" for part in shares]
        rows.append((f"{start:,}{end}", *cells))
    _table(console, title, names, rows, justify="left")


def _bar(part: float, *, blocks: bool) -> str:
    """Return a bar of a part, 0 to 1, of the full width, filled up with blanks."""
    if not blocks:
        return ("#" * (round(part * _BAR) or (part > 0))).ljust(_BAR)
    eighths = round(part * _BAR * 8) or (1 if part > 0 else 0)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()).ljust(_BAR)


def _table(console: Console, title: str, names: list[str], rows: Iterable[Row], *, justify: str = "right") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in names:
        table.add_column(Text(name), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _first_seen(groups: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for group in groups for name in group))


def _noted(noted: Noted | None) -> str:
    return f"{noted.count:,} ({percent(noted.share)})" if noted is not None and noted.count else _NONE


def _none_or(count: int) -> str:
    return f"{count:,}" if count else _NONE


def _three(values: Distribution) -> str:
    if values.p50 is None or values.p95 is None or values.max is None:
        return _NONE
    return f"{values.p50:,.0f} / {values.p95:,.0f} / {values.max:,.0f}"


def _lengths(side: SideReport | None) -> str:
    return _NONE if side is None else _three(side.lengths)


def _cut(side: SideReport | None) -> str:
    return _NONE if side is None or not side.cut.count else f"{_noted(side.cut)}, {percent(side.lost_share)}"
