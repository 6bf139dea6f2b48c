"""What a data file becomes: dialogues, the rows that were passed over, and a record of both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlgsum.data.dialogues import Dialogue, RowWriter, StoredRows

__all__ = ["Dialogue", "Fingerprint", "Skipped", "Split", "fingerprint", "make_split"]


@dataclass(frozen=True, slots=True)
class Skipped:
    """One row that was passed over, or kept although something is odd about it.

    Attributes:
        id: the row's identifier; empty when it has none.
        line: line of the file on which the row begins, counted from 1; the row's number in Parquet files and
            data sets, which have no lines.
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
        notes: what was decided about the whole file, such as ``read as cp949``.
    """

    name: str
    source: str
    rows: Sequence[Dialogue]
    skipped: tuple[Skipped, ...]
    cleaning: Mapping[str, int]
    fingerprint: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_summaries(self) -> bool:
        """Whether every row has a reference, so that the whole split can be scored. False when empty."""
        if isinstance(self.rows, StoredRows):
            return 0 < len(self.rows) == self.rows.summarised
        return bool(self.rows) and all(row.references for row in self.rows)

    def describe(self) -> dict[str, Any]:
        """Return a record for JSON: name, source, rows, notes, every skipped row, cleaning, fingerprint."""
        return {
            "name": self.name,
            "source": self.source,
            "notes": list(self.notes),
            "rows": len(self.rows),
            "skipped": [
                {"id": row.id, "line": row.line, "reason": row.reason, "kept": row.kept} for row in self.skipped
            ],
            "cleaning": dict(self.cleaning),
            "fingerprint": self.fingerprint,
        }


def make_split(name: str, source: str, rows: Iterable[Dialogue]) -> Split:
    """Return a split of rows that no file was read for."""
    writer, digest = RowWriter(), Fingerprint()
    for row in rows:
        writer.add(row)
        digest.add(row)
    return Split(name, source, writer.finish(), (), {}, digest.hexdigest())


class Fingerprint:
    """The SHA-256 of rows that come one by one: identifiers, dialogues and references, in order.

    Topics do not count: they never reach a model.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, row: Dialogue) -> None:
        """Count in one more row."""
        # The framing of `sha256_text`, which wants all parts at once: caches and run records rely on the digest.
        for part in (row.id, row.dialogue, str(len(row.references)), *row.references):
            data = part.encode("utf-8", "surrogatepass")
            self._digest.update(len(data).to_bytes(8, "big"))
            self._digest.update(data)

    def hexdigest(self) -> str:
        """Return the digest of the rows so far."""
        return self._digest.hexdigest()


def fingerprint(rows: Iterable[Dialogue]) -> str:
    """Return the ``Fingerprint`` of rows."""
    digest = Fingerprint()
    for row in rows:
        digest.add(row)
    return digest.hexdigest()
