"""What a data file becomes: dialogues, the rows that were passed over, and a record of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dlgsum.core.files import sha256_text


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One row: a cleaned dialogue and its reference summaries.

    Attributes:
        id: the row's identifier, exactly as the file has it.
        dialogue: turns separated by newlines; empty only in files read for prediction.
        references: reference summaries, the training target first; empty when there is none.
        topic: empty when the file has none.
    """

    id: str
    dialogue: str
    references: tuple[str, ...]
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """One row that was passed over, or kept although something is odd about it.

    Attributes:
        id: the row's identifier; empty when it has none.
        line: line of the file on which the row begins, counted from 1.
        reason: what is wrong with it.
        kept: whether the row is among the rows all the same.
    """

    id: str
    line: int
    reason: str
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of one file, in the file's order.

    Attributes:
        name: what the rows are for, such as ``train``.
        source: the file, as text.
        rows: the usable rows.
        skipped: every row that was left out, or kept with an oddity.
        cleaning: cleaning step to the number of texts it changed, in the configured order.
        fingerprint: SHA-256 of identifiers and cleaned texts.
    """

    name: str
    source: str
    rows: tuple[Dialogue, ...]
    skipped: tuple[Skipped, ...]
    cleaning: Mapping[str, int]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_summaries(self) -> bool:
        """Whether every row has a reference, so that the whole split can be scored. False when empty."""
        return bool(self.rows) and all(row.references for row in self.rows)

    def describe(self) -> dict[str, Any]:
        """Return a record for JSON: name, source, number of rows, every skipped row, cleaning, fingerprint."""
        return {
            "name": self.name,
            "source": self.source,
            "rows": len(self.rows),
            "skipped": [
                {"id": row.id, "line": row.line, "reason": row.reason, "kept": row.kept} for row in self.skipped
            ],
            "cleaning": dict(self.cleaning),
            "fingerprint": self.fingerprint,
        }


def make_split(name: str, source: str, rows: Iterable[Dialogue]) -> Split:
    """Return a split of rows that no file was read for."""
    kept = tuple(rows)
    return Split(name, source, kept, (), {}, fingerprint(kept))


def fingerprint(rows: Iterable[Dialogue]) -> str:
    """Return the SHA-256 of the rows' identifiers, dialogues and references, in order.

    Topics do not count: they never reach a model.
    """
    parts: list[str] = []
    for row in rows:
        parts += [row.id, row.dialogue, str(len(row.references)), *row.references]
    return sha256_text(*parts)
