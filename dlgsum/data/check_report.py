"""What a check of the data finds: plain records that `dataclasses.asdict` turns into JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Level = Literal["error", "warning", "note"]
EXAMPLES = 5  # rows named for each finding
_BINS = 12


@dataclass(frozen=True)
class Noted:
    """How many rows have a property.

    Attributes:
        count: rows that have it.
        share: part of the rows that it could concern, 0 to 1; 0 where there are none.
        examples: at most ``EXAMPLES`` ids; where more is needed to find the place, it follows in brackets.
    """

    count: int = 0
    share: float = 0.0
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Distribution:
    """Numbers in a few numbers; all but ``count`` are None where there is nothing to describe."""

    count: int
    min: float | None = None
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class Histogram:
    """How many values lie from each start up to the next; the last bin has no end. Empty without values."""

    starts: list[int]
    counts: list[int]


@dataclass(frozen=True)
class TokenLengths:
    """Tokens of each row before anything is cut: prefix and end mark counted.

    Attributes:
        source: one length a row.
        target: one a row as well, 0 where the row has no summary.
    """

    source: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Limits:
    """The lengths in tokens at which sources and targets are cut."""

    encoder_max_len: int
    decoder_max_len: int


@dataclass(frozen=True)
class SideReport:
    """Token lengths of the sources or of the targets.

    Attributes:
        limit: tokens that are kept.
        lengths: before cutting.
        histogram: with the same starts in every split of a report.
        cut: rows that are longer than the limit, the longest as examples.
        lost_tokens: how many tokens the cut takes away.
        lost_share: their part of all tokens; 0 without tokens.
        lost_share_of_cut: their part of the tokens in the rows that are cut; 0 when none is.
    """

    limit: int
    lengths: Distribution
    histogram: Histogram
    cut: Noted
    lost_tokens: int
    lost_share: float
    lost_share_of_cut: float


@dataclass(frozen=True)
class TagCount:
    """How often a tag such as ``#Person1#`` occurs."""

    tag: str
    dialogues: int
    summaries: int


@dataclass(frozen=True)
class UnknownCharacter:
    """A character that the tokenizer has no token for: the model cannot read or write it."""

    character: str
    code: str
    count: int
    rows: int
    examples: list[str]


@dataclass(frozen=True)
class SplitReport:
    """What one split is like.

    Attributes:
        rows: the usable rows; every share in ``counts`` is of these.
        notes: what was decided when the file was read, such as its encoding.
        skipped: reason to the rows left out; shares are of all rows of the file.
        cleaning: cleaning step to the texts it changed.
        counts: each kind of ``dlgsum.data.check.KINDS`` to the rows that have it, also where none has.
        speakers: speakers of each dialogue.
        speaker_counts: number of speakers, as text, to dialogues.
        turns: lines of each dialogue that are not blank.
        dialogue_characters, summary_characters: lengths; of the first reference where there are several.
        tags: the most frequent ones.
        most_used_summary: rows that share the summary used most; 0 without summaries.
        source_tokens, target_tokens: None where nothing was tokenized.
        unknown: the most frequent unknown characters; None where nothing was tokenized.
        unknown_share: their part of all characters; None where nothing was tokenized.
    """

    name: str
    source: str
    rows: int
    notes: list[str]
    skipped: dict[str, Noted]
    cleaning: dict[str, int]
    counts: dict[str, Noted]
    speakers: Distribution
    speaker_counts: dict[str, int]
    turns: Distribution
    dialogue_characters: Distribution
    summary_characters: Distribution
    tags: list[TagCount]
    most_used_summary: int
    source_tokens: SideReport | None = None
    target_tokens: SideReport | None = None
    unknown: list[UnknownCharacter] | None = None
    unknown_share: float | None = None


@dataclass(frozen=True)
class Leak:
    """Dialogues that are in two splits, blanks aside; counted in rows of each side."""

    first: str
    second: str
    rows_first: int
    rows_second: int
    share_first: float
    share_second: float
    examples: list[str]


@dataclass(frozen=True)
class Finding:
    """Something to act on, or to know.

    Attributes:
        level: an error stops a run; a warning does not; a note is there to be known.
        split: the split it is about, or ``first/second`` for two.
        kind: a short name that stays the same between versions.
        message: what it is, and what to do.
        examples: ids of rows, with what was found in brackets; a pair of rows as ``first = second``.
    """

    level: Level
    split: str
    kind: str
    message: str
    count: int
    share: float
    examples: list[str]


@dataclass(frozen=True)
class TokenizerNote:
    """Whose tokens a report counts.

    Attributes:
        name: the checkpoint that the tokenizer is from, or ``kobart_mini``.
        size: tokens that it knows.
        trained_on: the split that it was trained on; empty for one that came with its checkpoint.
        trained_source: that split's file.
        trained_rows: how many rows that are.
        caution: why its numbers are not those of the training to expect, and what to do; empty where they are.
    """

    name: str
    size: int
    trained_on: str = ""
    trained_source: str = ""
    trained_rows: int = 0
    caution: str = ""


@dataclass(frozen=True)
class DataReport:
    """What is in the splits of a run; errors come first among the findings, then warnings, then notes.

    ``tokenizer`` is None where nothing was tokenized, or nobody said by what.
    """

    splits: list[SplitReport]
    leaks: list[Leak]
    findings: list[Finding]
    tokenizer: TokenizerNote | None = None

    @property
    def errors(self) -> list[Finding]:
        """The findings that stop a run."""
        return [finding for finding in self.findings if finding.level == "error"]


def share(part: float, whole: float) -> float:
    """Return part of whole, 0 where the whole is 0."""
    return part / whole if whole else 0.0


def describe(values: npt.ArrayLike) -> Distribution:
    """Return count, extremes, mean and percentiles (linear between neighbours); only the count for no values."""
    numbers = np.asarray(values)
    if not numbers.size:
        return Distribution(0)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(numbers, [50, 90, 95, 99]))
    return Distribution(
        int(numbers.size), float(numbers.min()), float(numbers.mean()), p50, p90, p95, p99, float(numbers.max())
    )


def bin_starts(values: Sequence[npt.ArrayLike]) -> list[int]:
    """Return the starts of about a dozen bins that suit all these numbers; [] without any.

    The last bin takes what is above the 99th percentile, so that one giant does not squeeze the others into one bin.
    """
    arrays = [np.asarray(part) for part in values]
    if not sum(part.size for part in arrays):
        return []
    numbers = np.concatenate([part.ravel() for part in arrays])
    low, high = float(numbers.min()), float(np.percentile(numbers, 99))
    wanted = max(1.0, (high - low) / _BINS)
    scale = 10 ** int(np.floor(np.log10(wanted)))
    width = next(scale * step for step in (1, 2, 5, 10) if scale * step >= wanted)
    start = int(low // width) * width
    return list(range(start, max(start, int(high)) + 1, width))


def histogram(values: npt.ArrayLike, starts: Sequence[int]) -> Histogram:
    """Count values into bins; a value below the first start is counted in the first bin."""
    if not starts:
        return Histogram([], [])
    places = np.searchsorted(np.asarray(starts), np.asarray(values), side="right") - 1
    counts = np.bincount(np.maximum(places, 0).astype(np.int64), minlength=len(starts))
    return Histogram(list(starts), [int(count) for count in counts])


def side_report(lengths: npt.ArrayLike, limit: int, starts: Sequence[int], name: Callable[[int], str]) -> SideReport:
    """Describe token lengths and what a limit costs.

    Args:
        lengths: tokens of each text before cutting.
        limit: tokens that are kept of each.
        starts: of the bins.
        name: gives the id of the row by its place in ``lengths``; asked for a few rows only.
    """
    numbers = np.asarray(lengths, dtype=np.int64)
    over = numbers[numbers > limit]
    lost = int((over - limit).sum())
    longest = [int(place) for place in np.argsort(-numbers, kind="stable")[:EXAMPLES]]
    named = [f"{name(place)} ({numbers[place]:,} tokens)" for place in longest if numbers[place] > limit]
    return SideReport(
        limit=limit,
        lengths=describe(numbers),
        histogram=histogram(numbers, starts),
        cut=Noted(len(over), share(len(over), len(numbers)), named),
        lost_tokens=lost,
        lost_share=share(lost, int(numbers.sum())),
        lost_share_of_cut=share(lost, int(over.sum())),
    )
