"""Two experiments on the same rows: who is better, by how much, and whether that is luck."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dlgsum.core.files import read_jsonl
from dlgsum.core.text import plural
from dlgsum.metrics.significance import Comparison, paired_bootstrap
from dlgsum.metrics.suite import COMBINED, ROUGE

METRICS = (*ROUGE, COMBINED)

Row = Mapping[str, Any]
Key = tuple[str, int]


@dataclass(frozen=True)
class Scored:
    """What a run predicted for one set of rows.

    Attributes:
        label: what the run is called in the comparison.
        path: its predictions; None where the run has none, for the reason in ``missing``.
        signature: how the scores were computed; empty where it is not known.
        fingerprint: of the rows; empty where it is not known.
    """

    label: str
    path: Path | None
    signature: str
    fingerprint: str
    missing: str = ""


@dataclass(frozen=True)
class Gap:
    """How much the second run's mean score exceeds the first's: F1 from -1 to 1, with its interval and p-value."""

    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float


@dataclass(frozen=True)
class RowGap:
    """A row on which the two differ: the combined score and the prediction of each, and the first reference."""

    fname: str
    first_score: float
    second_score: float
    first_prediction: str
    second_prediction: str
    reference: str


@dataclass(frozen=True)
class Pair:
    """The second run beside the first, on the rows of one split.

    Attributes:
        rows: how many rows both were compared on.
        notes: what was left out or is not as it should be.
        reason: why they were not compared; empty when they were.
        hint: commands that would help, one a line, where there are some.
        metrics: metric name to the difference, second minus first.
        wins: rows on which the second has the higher combined score.
        losses: rows on which the first has it.
        extremes: the rows on which they differ most.
        verdict: better, worse or "no difference shown", at the level asked for; empty when not compared.
    """

    first: str
    second: str
    split: str
    rows: int = 0
    notes: list[str] = field(default_factory=list)
    reason: str = ""
    hint: str = ""
    metrics: dict[str, Gap] = field(default_factory=dict)
    wins: int = 0
    losses: int = 0
    ties: int = 0
    extremes: list[RowGap] = field(default_factory=list)
    verdict: Literal["", "better", "worse", "no difference shown"] = ""
    sentence: str = ""


@dataclass(frozen=True)
class Bootstrap:
    """How differences are tested: resamples, seed of the random generator, share inside an interval."""

    samples: int = 10_000
    seed: int = 0
    level: float = 0.95


def compare_pair(first: Scored, second: Scored, split: str, test: Bootstrap, *, hint: str = "") -> Pair:
    """Compare two runs on the rows that both predicted; p-values are not adjusted yet.

    A row counts when both runs have it under the same name, with the same references and with finite scores. Names
    that occur more than once are matched in order where the rows are known to be the same, else left out. What was
    left out is said in ``notes``.

    Args:
        hint: commands that bring scores with different signatures on one scale.
    """
    pair = Pair(first.label, second.label, split)
    for one in (first, second):
        if one.path is None:
            return replace(pair, reason=f"{one.label} has no predictions: {one.missing}")
    if not first.signature or not second.signature:
        unknown = " and ".join(it.label for it in (first, second) if not it.signature)
        return replace(pair, reason=f"it is not known how the scores of {unknown} were computed")
    if first.signature != second.signature:
        parts = signature_differences([first.signature, second.signature])
        return replace(pair, reason=f"the scores were computed in different ways ({parts})", hint=hint)
    try:
        notes, matched = _matched(first, second)
    except OSError as error:
        return replace(pair, reason=f"{error.filename} cannot be read: {error.strerror}")
    pair = replace(pair, rows=len(matched), notes=notes)
    if len(matched) < 2:
        return replace(pair, reason=f"{plural(len(matched), 'row')} in common; at least 2 are needed")
    return _tested(pair, matched, test)


def adjusted(pairs: Sequence[Pair], level: float) -> list[Pair]:
    """Adjust the p-values of each split and metric for the number of pairs, and say in words what each pair shows.

    With one pair nothing is adjusted. Source: Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    families: dict[tuple[str, str], list[float]] = {}
    for pair in pairs:
        for name, gap in pair.metrics.items():
            families.setdefault((pair.split, name), []).append(gap.p)
    after = {key: iter(holm(values)) for key, values in families.items()}
    done = []
    for pair in pairs:
        gaps = {name: replace(gap, p_adjusted=next(after[pair.split, name])) for name, gap in pair.metrics.items()}
        done.append(_in_words(replace(pair, metrics=gaps), level))
    return done


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in their order; each at most 1. Source: Holm (1979)."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    result, largest = [0.0] * len(values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, values[index] * (len(values) - place)))
        result[index] = largest
    return result


def signature_differences(signatures: Sequence[str]) -> str:
    """Return the parts of signatures that are not the same in all, such as ``scorer:char / scorer:kiwi``."""
    parts = [dict(_part(piece) for piece in signature.split("|")) for signature in signatures]
    names = dict.fromkeys(name for part in parts for name in part)
    told = []
    for name in names:
        values = [part.get(name, "–") for part in parts]
        if any(value != values[0] for value in values):
            told.append(f"{name} {' / '.join(dict.fromkeys(values))}")
    return ", ".join(told)


def _part(piece: str) -> tuple[str, str]:
    name, colon, value = piece.partition(":")
    return (name, value) if colon else ("metric", name)


def _matched(first: Scored, second: Scored) -> tuple[list[str], list[tuple[Row, Row]]]:
    """Return notes on what was left out, and the rows of both; in the order of the first."""
    notes: list[str] = []
    same = bool(first.fingerprint) and first.fingerprint == second.fingerprint
    ours, theirs = (_read(one, in_order=same, notes=notes) for one in (first, second))
    common = [key for key in ours if key in theirs]
    equal = [key for key in common if ours[key].get("references") == theirs[key].get("references")]
    finite = [key for key in equal if _finite(ours[key]) and _finite(theirs[key])]
    if not same:
        why = "are other rows" if first.fingerprint and second.fingerprint else "are not known to be the same rows"
        notes.append(
            f"NOT ALL ROWS: these {why}; compared on the {len(equal):,} with the same name and references "
            f"({first.label} has {len(ours):,}, {second.label} has {len(theirs):,})"
        )
    elif not len(equal) == len(ours) == len(theirs):
        notes.append(
            f"the files do not hold the same rows although the data are the same: {first.label} has {len(ours):,}, "
            f"{second.label} has {len(theirs):,}, {len(equal):,} in common"
        )
    if len(finite) < len(equal):
        notes.append(f"{plural(len(equal) - len(finite), 'row')} without a finite score left out")
    return notes, [(ours[key], theirs[key]) for key in finite]


def _read(one: Scored, *, in_order: bool, notes: list[str]) -> dict[Key, Row]:
    assert one.path is not None
    rows = [row for row in read_jsonl(one.path) if "fname" in row]
    seen: Counter[str] = Counter()
    found: dict[Key, Row] = {}
    for row in rows:
        name = str(row["fname"])
        found[name, seen[name]] = row
        seen[name] += 1
    more = {name for name, count in seen.items() if count > 1}
    if more and not in_order:
        left = sum(seen[name] for name in more)
        notes.append(f"{one.label}: {plural(left, 'row')} left out, whose name occurs more than once")
        return {key: row for key, row in found.items() if key[0] not in more}
    return found


def _finite(row: Row) -> bool:
    return all(isinstance(row.get(name), (int, float)) and math.isfinite(row[name]) for name in METRICS)


def _tested(pair: Pair, matched: Sequence[tuple[Row, Row]], test: Bootstrap) -> Pair:
    gaps = {}
    for name in METRICS:
        ours, theirs = ([row[name] for row in side] for side in zip(*matched, strict=True))
        found: Comparison = paired_bootstrap(theirs, ours, samples=test.samples, seed=test.seed, level=test.level)
        gaps[name] = Gap(found.difference, found.low, found.high, found.p, found.p)
    differences = [theirs[COMBINED] - ours[COMBINED] for ours, theirs in matched]
    most = sorted(range(len(matched)), key=lambda index: -abs(differences[index]))[:3]
    return replace(
        pair,
        metrics=gaps,
        wins=sum(gap > 0 for gap in differences),
        losses=sum(gap < 0 for gap in differences),
        ties=sum(gap == 0 for gap in differences),
        extremes=[_row_gap(*matched[index]) for index in most if differences[index]],
    )


def _row_gap(ours: Row, theirs: Row) -> RowGap:
    references = ours.get("references") or [""]
    return RowGap(
        fname=str(ours["fname"]),
        first_score=ours[COMBINED],
        second_score=theirs[COMBINED],
        first_prediction=str(ours.get("prediction", "")),
        second_prediction=str(theirs.get("prediction", "")),
        reference=str(references[0]),
    )


def _in_words(pair: Pair, level: float) -> Pair:
    gap = pair.metrics.get(COMBINED)
    if gap is None:
        return replace(pair, sentence=f"{pair.second} and {pair.first} were not compared: {pair.reason}.")
    share = f"{100 * level:g} %"
    points, low, high = 100 * gap.difference, 100 * gap.low, 100 * gap.high
    figures = f"{share} {low:.2f} to {high:.2f}, p {p_text(gap.p_adjusted)}"
    if gap.p_adjusted > 1 - level:
        sentence = f"no difference shown: {pair.second} has {points:+.2f} points beside {pair.first} ({figures})"
        return replace(pair, verdict="no difference shown", sentence=f"{sentence}.")
    if points < 0:
        figures = f"{share} {-high:.2f} to {-low:.2f}, p {p_text(gap.p_adjusted)}"
    which = "better" if points > 0 else "worse"
    sentence = f"{pair.second} is {which} than {pair.first} by {abs(points):.2f} points ({figures})."
    return replace(pair, verdict=which, sentence=sentence)  # type: ignore[arg-type]


def p_text(p: float) -> str:
    """Return a p-value as people write it."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1g}"
