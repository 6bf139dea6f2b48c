"""Filter, sort and limit experiments, and say on which scales their scores are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from dlgsum.core.text import plural
from dlgsum.tracking.query_fields import Field, Fields, Value
from dlgsum.tracking.query_filter import Filter, as_number, parse_filter
from dlgsum.tracking.record import ExperimentRecord

__all__ = ["Answer", "Scales", "scales", "select"]

Rows = Literal["validation", "test"]


@dataclass(frozen=True)
class Scales:
    """How scores were computed, where that is not the same for all: only scores of one letter may be compared.

    Attributes:
        letters: id of a run to the letter of its scale; a run without scores has none.
        meaning: letter to what is special about its scale.
    """

    letters: Mapping[str, str] = field(default_factory=dict)
    meaning: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return len(self.meaning) > 1


@dataclass(frozen=True)
class Answer:
    """The experiments that were asked for.

    Attributes:
        records: in the order asked for, at most as many as asked for.
        fitting: how many there are without that limit.
        columns: the fields to show.
        used: the fields that filters and sorting read.
        notes: what was left out, and why, in words.
        scales: of scores on validation and on test rows, among all that fit and have one of those asked for.
    """

    records: list[ExperimentRecord]
    fitting: int
    columns: list[Field]
    used: list[Field]
    notes: list[str]
    scales: Mapping[Rows, Scales]


def select(
    records: Sequence[ExperimentRecord],
    filters: Sequence[str] = (),
    *,
    sort: str = "-started",
    columns: Sequence[str] = (),
    limit: int | None = None,
    missing: Collection[str] = (),
    now: datetime | None = None,
) -> Answer:
    """Return the experiments for which all filters hold, in order.

    NaN satisfies no comparison. A run without a value satisfies ``!=`` and ``!~`` alone. What a filter left out for
    one of these reasons, and every other filter let pass, is counted in the notes. Sorting puts what is missing and
    NaN last in both directions; equal values are in the order of their ids.

    Args:
        filters: as ``query_filter.parse_filter`` takes them.
        sort: name of a field; with a minus, the largest comes first.
        columns: names of fields.
        limit: how many are returned; None: all.
        missing: ids of the runs whose folders are gone.
        now: moment from which times such as ``7d`` are counted; None: this one.

    Raises:
        UsageError: a filter, or the name of a field, is wrong.
    """
    fields = Fields(records, missing)
    parsed = [parse_filter(word, fields, now or datetime.now().astimezone()) for word in filters]
    descending, by = sort.startswith("-"), fields.find(sort.lstrip("-+"))
    fitting, notes = _fitting(records, parsed)
    fitting = _sorted(fitting, by, descending=descending)
    shown, used = [fields.find(name) for name in columns], [*(it.field for it in parsed), by]
    return Answer(
        records=fitting if limit is None else fitting[:limit],
        fitting=len(fitting),
        columns=shown,
        used=used,
        notes=notes,
        scales={rows: scales(_scored(fitting, [*shown, *used], rows), rows) for rows in get_args(Rows)},
    )


def _scored(records: Sequence[ExperimentRecord], asked: Sequence[Field], rows: Rows) -> list[ExperimentRecord]:
    """Return the runs that have any of the scores asked for; all where none is asked for."""
    scores = [field for field in asked if field.rows == rows]
    return [it for it in records if any(field.read(it) is not None for field in scores)] if scores else list(records)


def scales(records: Sequence[ExperimentRecord], rows: Rows) -> Scales:
    """Return on which scales the scores of these runs are: two share one with equal signature and equal rows."""
    found: dict[str, tuple[str, str]] = {}
    for record in records:
        if rows == "validation" and (record.best_metrics or record.final_metrics):
            found[record.id] = (record.signature, record.validation_fingerprint)
        elif rows == "test" and record.test_metrics:
            found[record.id] = (record.test_signature, record.data.get("test", ""))
    counts = Counter(found.values())
    distinct = [scale for scale, _ in counts.most_common()]  # of equals, the first among the records
    letter = {scale: _letter(index, rows) for index, scale in enumerate(distinct)}
    shared = set.intersection(*(set(_parts(signature)) for signature, _ in distinct)) if distinct else set()
    meaning = {
        letter[signature, on]: ", ".join(
            [
                *(
                    [part for part in _parts(signature) if part not in shared]
                    or ([] if signature else ["signature unknown"])
                ),
                f"{rows} rows {on[:8] or 'unknown'}",
                plural(counts[signature, on], "run"),
            ]
        )
        for signature, on in distinct
    }
    return Scales({run: letter[scale] for run, scale in found.items()}, meaning)


def _parts(signature: str) -> list[str]:
    return [part for part in signature.split("|") if part]


def _letter(index: int, rows: Rows) -> str:
    first = ord("A" if rows == "validation" else "a")
    more, last = divmod(index, 26)
    return (_letter(more - 1, rows) if more else "") + chr(first + last)


def _fitting(
    records: Sequence[ExperimentRecord], filters: Sequence[Filter]
) -> tuple[list[ExperimentRecord], list[str]]:
    fitting = []
    without: Counter[tuple[str, str]] = Counter()
    for record in records:
        answers = [(it, it.judge(record)) for it in filters]
        if any(answer is False for _, answer in answers):
            continue
        unknown = {(it.field.name, answer) for it, answer in answers if isinstance(answer, str)}
        if unknown:
            without.update(unknown)
        else:
            fitting.append(record)
    notes = [
        f"{plural(count, 'run')} left out: {'it has' if count == 1 else 'they have'} {what.format(name)}"
        for (name, what), count in sorted(without.items())
    ]
    return fitting, notes


def _sorted(records: Sequence[ExperimentRecord], by: Field, *, descending: bool) -> list[ExperimentRecord]:
    keys = {record.id: _order(by, by.read(record)) for record in records}
    in_order = sorted(records, key=lambda record: record.id)
    known = [record for record in in_order if keys[record.id] is not None]
    # A stable sort keeps equals in the order of their ids, also when it is reversed.
    known.sort(key=lambda record: keys[record.id] or (), reverse=descending)
    return [*known, *(record for record in in_order if keys[record.id] is None)]


def _order(by: Field, value: Value) -> tuple[int, float, str] | None:
    """Return what sorts a value: numbers before texts; None for what is missing, empty or NaN."""
    if value is None or value in ("", []):
        return None
    if isinstance(value, datetime):
        return (0, value.timestamp(), "")
    if isinstance(value, list):
        return (1, 0.0, " ".join(map(str, value)))
    as_text = by.kind in ("text", "id", "hash", "status")
    number = None if as_text else float(value) if isinstance(value, bool) else as_number(value)
    if number is None:
        return (1, 0.0, str(value))
    return None if math.isnan(number) else (0, number, "")
