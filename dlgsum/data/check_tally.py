"""Count one split row by row, in memory that does not grow with the texts."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dlgsum.data.check_report import EXAMPLES
from dlgsum.data.keys import NONE, as_keys, first_places, joined, text_key
from dlgsum.data.rows import Dialogue

# What is counted in every split, in the order shown; `check_findings` says what each means for a run.
KINDS = (
    "same_id", "duplicate", "other_summary", "empty_dialogue", "no_summary", "no_topic", "no_speaker", "one_turn",
    "one_speaker", "line_without_speaker", "turns_on_one_line", "foreign_tag", "long_summary", "shared_summary",
)  # fmt: skip
UnknownIn = Callable[[str], Mapping[str, int]]
_SHARED = 3  # rows with one summary before it counts as shared

_TAG = re.compile(r"#[A-Za-z]+[0-9]*#")
# At the start of a line: a person's tag even where its colon was forgotten, any other tag only before a colon.
_MARK = re.compile(r"\s*(#Person[0-9]*#|#[A-Za-z]+[0-9]*#(?=\s*[:：]))")
# `민수: …`; believed only where a dialogue has no tag as a mark, or every colon would make a speaker.
_NAME = re.compile(r"\s*([^\W\d_][^\s:：#]{0,19})\s*[:：](?!//)")
_PERSON = re.compile(r"#Person[0-9]+#\s*[:：]")


class Tally:
    """Counts one split: ``add`` for each row, then ``compare`` once.

    Args:
        unknown: gives the characters of a text that the tokenizer does not know, with their counts.

    Attributes:
        rows: rows added.
        counted: kind to the rows that have it.
        noted: kind to the first few of them by id.
        dialogue_keys: one key a row, ``NONE`` for an empty dialogue.
        most_used_summary: rows that share the summary used most, copies of rows aside; known after ``compare``.
    """

    def __init__(self, unknown: UnknownIn | None) -> None:
        self.unknown = unknown
        self.rows = 0
        self.noted: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self.counted: Counter[str] = Counter()
        self.dialogue_keys, self.summary_keys, self.id_keys = array("Q"), array("Q"), array("Q")
        self.speakers, self.turns = array("I"), array("I")
        self.dialogue_characters, self.summary_characters = array("I"), array("I")
        self.dialogue_tags: Counter[str] = Counter()
        self.summary_tags: Counter[str] = Counter()
        self.characters = 0
        self.unknown_counts: Counter[str] = Counter()
        self.unknown_rows: dict[str, tuple[int, list[str]]] = {}
        self.most_used_summary = 0

    def note(self, kind: str, example: str) -> None:
        """Count a row of a kind; the first few are remembered by name."""
        self.counted[kind] += 1
        if len(self.noted[kind]) < EXAMPLES:
            self.noted[kind].append(example)

    def add(self, row: Dialogue) -> None:
        """Count one row."""
        self.rows += 1
        self.dialogue_keys.append(text_key(row.dialogue))
        self.summary_keys.append(text_key(*row.references))
        self.id_keys.append(text_key(row.id))
        if not row.topic:
            self.note("no_topic", row.id)
        tags = _TAG.findall(row.dialogue)
        self.dialogue_tags.update(tags)
        if row.dialogue.strip():
            self._add_dialogue(row)
        else:
            self.note("empty_dialogue", row.id)
        if row.references:
            self._add_summary(row, set(tags))
        else:
            self.note("no_summary", row.id)
        if self.unknown is not None:
            self._add_characters(row)

    def compare(self, rows: Sequence[Dialogue]) -> None:
        """Note what is there twice, once every row was added; ``rows`` gives the names of a few of them."""
        dialogues, summaries = as_keys(self.dialogue_keys), as_keys(self.summary_keys)
        empty = dialogues == NONE
        by_dialogue = first_places(dialogues, ignore=empty)
        by_both = first_places(joined(dialogues, summaries), ignore=empty)
        by_id = first_places(as_keys(self.id_keys))
        own = np.arange(self.rows)
        copies = by_both != own

        def pair(first: npt.NDArray[np.int64]) -> Callable[[int], str]:
            return lambda place: f"{rows[int(first[place])].id} = {rows[place].id}"

        self._note_places("duplicate", copies, pair(by_both))
        self._note_places("other_summary", (by_dialogue != own) & ~copies, pair(by_dialogue))
        self._note_places("same_id", by_id != own, lambda place: rows[place].id)
        # A copied row shares its summary as well, but that is told already.
        used = summaries[~copies & (summaries != NONE)]
        if len(used):
            values, counts = np.unique(used, return_counts=True)
            self.most_used_summary = int(counts.max())
            shared = np.isin(summaries, values[counts >= _SHARED]) & ~copies
            self._note_places("shared_summary", shared, lambda place: rows[place].id)

    def _note_places(self, kind: str, having: npt.NDArray[np.bool_], example: Callable[[int], str]) -> None:
        self.counted[kind] = int(having.sum())
        self.noted[kind] = [example(place) for place in np.flatnonzero(having)[:EXAMPLES].tolist()]

    def _add_dialogue(self, row: Dialogue) -> None:
        lines = [line for line in row.dialogue.split("\n") if line.strip()]
        marks = [mark for mark in map(_MARK.match, lines) if mark]
        tagged = bool(marks)
        if not tagged:
            marks = [mark for mark in map(_NAME.match, lines) if mark]
        speakers = len({mark[1] for mark in marks})
        self.turns.append(len(lines))
        self.speakers.append(speakers)
        self.dialogue_characters.append(len(row.dialogue))
        if not speakers:
            self.note("no_speaker", row.id)
        if len(lines) == 1:
            self.note("one_turn", row.id)
        elif speakers == 1:
            self.note("one_speaker", row.id)
        if tagged and len(marks) < len(lines):
            self.note("line_without_speaker", row.id)
        if any(len(_PERSON.findall(line)) > 1 for line in lines):
            self.note("turns_on_one_line", row.id)

    def _add_summary(self, row: Dialogue, there: set[str]) -> None:
        tags = [tag for reference in row.references for tag in _TAG.findall(reference)]
        self.summary_tags.update(tags)
        self.summary_characters.append(len(row.references[0]))
        foreign = sorted(set(tags) - there)
        if foreign:
            self.note("foreign_tag", f"{row.id} ({', '.join(foreign)})")
        if row.dialogue.strip() and len(row.references[0]) > len(row.dialogue):
            self.note("long_summary", row.id)

    def _add_characters(self, row: Dialogue) -> None:
        assert self.unknown is not None
        found: Counter[str] = Counter()
        for text in (row.dialogue, *row.references):
            self.characters += len(text)
            found.update(self.unknown(text))
        for character, count in found.items():
            self.unknown_counts[character] += count
            rows, examples = self.unknown_rows.get(character, (0, []))
            self.unknown_rows[character] = (rows + 1, examples if len(examples) == EXAMPLES else [*examples, row.id])
