"""Look at the rows of a run before any training: what is odd in each split, and what two splits share."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dlgsum.core.text import plural
from dlgsum.data.check_findings import judge
from dlgsum.data.check_report import (
    EXAMPLES,
    DataReport,
    Leak,
    Limits,
    Noted,
    SideReport,
    SplitReport,
    TagCount,
    TokenizerNote,
    TokenLengths,
    UnknownCharacter,
    bin_starts,
    describe,
    share,
    side_report,
)
from dlgsum.data.check_tally import KINDS, Tally, UnknownIn
from dlgsum.data.keys import NONE, Keys, as_keys
from dlgsum.data.rows import Dialogue, Skipped, Split

Progress = Callable[[int, int], None]
_TAGS_SHOWN = 40
_CHARACTERS_SHOWN = 40
_WIDTH = re.compile(r"^[\d,]+ fields? where the header has ([\d,]+)$")


def inspect_splits(
    splits: Iterable[Split],
    *,
    tokens: Mapping[str, TokenLengths] | None = None,
    limits: Limits | None = None,
    unknown: UnknownIn | None = None,
    tokenizer: TokenizerNote | None = None,
    progress: Progress | None = None,
) -> DataReport:
    """Inspect splits and compare them; each row is read once, and no text is kept.

    Equal texts are found by 64-bit keys, with blanks and newlines made alike, so that a million rows take some
    50 MB beside the rows themselves. An empty split gives counts of 0 and no statistics; no splits, an empty report.

    Args:
        splits: the one named ``train`` is compared with ``validation`` more strictly than others; see ``judge``.
        tokens: split name to the token lengths of its rows; needs ``limits``.
        limits: where sources and targets are cut.
        unknown: gives the characters of a text that the tokenizer does not know, with their counts.
        tokenizer: whose tokens these are, for the report.
        progress: called with the rows read so far and all rows, every thousand rows and at the end.

    Raises:
        ValueError: two splits have one name, there are other numbers of lengths than of rows, or no limits.
    """
    parts = list(splits)
    tokens = tokens or {}
    _check(parts, tokens, limits)
    starts = [
        bin_starts([tokens[part.name].source for part in parts if part.name in tokens]),
        bin_starts([_targets(tokens[part.name]) for part in parts if part.name in tokens]),
    ]
    total, done = sum(len(part.rows) for part in parts), 0
    reports, keys = [], []
    for part in parts:
        tally = Tally(unknown)
        for number, row in enumerate(part.rows, start=1):
            tally.add(row)
            if progress is not None and (number % 1000 == 0 or number == len(part.rows)):
                progress(done + number, total)
        done += len(part.rows)
        tally.compare(part.rows)
        lengths = tokens.get(part.name)
        sides = None if lengths is None or limits is None else _sides(part.rows, lengths, limits, starts)
        reports.append(_report(part, tally, sides))
        keys.append(as_keys(tally.dialogue_keys))
    leaks = [
        leak
        for (one, first), (two, second) in itertools.combinations(enumerate(parts), 2)
        if (leak := _leak(first, keys[one], second, keys[two])) is not None
    ]
    return DataReport(reports, leaks, judge(reports, leaks), tokenizer)


def _check(parts: Sequence[Split], tokens: Mapping[str, TokenLengths], limits: Limits | None) -> None:
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise ValueError(f"the splits {names} must have different names")
    if tokens and limits is None:
        raise ValueError("token lengths need limits")
    for part in parts:
        lengths = tokens.get(part.name)
        if lengths is not None and not len(lengths.source) == len(lengths.target) == len(part.rows):
            sizes = f"{len(lengths.source)} sources and {len(lengths.target)} targets"
            raise ValueError(f"{part.name}: lengths of {sizes} for {plural(len(part.rows), 'row')}")


def _report(part: Split, tally: Tally, sides: tuple[SideReport, SideReport] | None) -> SplitReport:
    asked = tally.unknown is not None
    return SplitReport(
        name=part.name,
        source=part.source,
        rows=tally.rows,
        notes=list(part.notes),
        skipped=_skipped(part.skipped, tally.rows),
        cleaning=dict(part.cleaning),
        counts={
            kind: Noted(tally.counted[kind], share(tally.counted[kind], tally.rows), tally.noted[kind])
            for kind in KINDS
        },
        speakers=describe(tally.speakers),
        speaker_counts={str(number): count for number, count in sorted(Counter(tally.speakers).items())},
        turns=describe(tally.turns),
        dialogue_characters=describe(tally.dialogue_characters),
        summary_characters=describe(tally.summary_characters),
        tags=[
            TagCount(tag, tally.dialogue_tags[tag], tally.summary_tags[tag])
            for tag, _ in sorted((tally.dialogue_tags + tally.summary_tags).items(), key=lambda item: (-item[1], item))
        ][:_TAGS_SHOWN],
        most_used_summary=tally.most_used_summary,
        source_tokens=sides[0] if sides else None,
        target_tokens=sides[1] if sides else None,
        unknown=[
            UnknownCharacter(character, f"U+{ord(character):04X}", count, *tally.unknown_rows[character])
            for character, count in sorted(tally.unknown_counts.items(), key=lambda item: (-item[1], item))
        ][:_CHARACTERS_SHOWN]
        if asked
        else None,
        unknown_share=share(sum(tally.unknown_counts.values()), tally.characters) if asked else None,
    )


def _skipped(skipped: Iterable[Skipped], rows: int) -> dict[str, Noted]:
    """Group the rows left out by reason; those that stayed all the same are counted by kind elsewhere."""
    reasons: dict[str, list[Skipped]] = {}
    for row in skipped:
        if not row.kept:
            # "2 fields where the header has 4" and "3 fields …" are one reason.
            reasons.setdefault(_WIDTH.sub(r"another number of fields than the header's \1", row.reason), []).append(row)
    total = rows + sum(map(len, reasons.values()))
    return {
        reason: Noted(
            len(found), share(len(found), total), [f"{row.id or 'no id'} (line {row.line})" for row in found[:EXAMPLES]]
        )
        for reason, found in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    }


def _targets(lengths: TokenLengths) -> npt.NDArray[np.int32]:
    return lengths.target[lengths.target > 0]


def _sides(
    rows: Sequence[Dialogue], lengths: TokenLengths, limits: Limits, starts: Sequence[Sequence[int]]
) -> tuple[SideReport, SideReport]:
    places = np.flatnonzero(lengths.target > 0)
    return (
        side_report(lengths.source, limits.encoder_max_len, starts[0], lambda place: rows[place].id),
        side_report(_targets(lengths), limits.decoder_max_len, starts[1], lambda place: rows[int(places[place])].id),
    )


def _leak(first: Split, first_keys: Keys, second: Split, second_keys: Keys) -> Leak | None:
    in_first = np.isin(first_keys, second_keys) & (first_keys != NONE)
    in_second = np.isin(second_keys, first_keys) & (second_keys != NONE)
    if not in_second.any():
        return None
    examples = []
    for place in np.flatnonzero(in_second)[:EXAMPLES].tolist():
        other = int(np.flatnonzero(first_keys == second_keys[place])[0])
        examples.append(f"{first.rows[other].id} = {second.rows[place].id}")
    counts = int(in_first.sum()), int(in_second.sum())
    return Leak(
        first.name, second.name, *counts,
        share(counts[0], len(first_keys)), share(counts[1], len(second_keys)), examples,
    )  # fmt: skip
