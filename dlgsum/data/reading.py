"""From a table to a split: each record cleaned and judged, with a reason for each one passed over."""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

from dlgsum.config.schema.data import Columns, Data
from dlgsum.core.errors import DataError
from dlgsum.core.text import plural
from dlgsum.data.clean import clean
from dlgsum.data.columns import check_columns, known_columns
from dlgsum.data.dialogues import Dialogue, RowWriter, StoredRows
from dlgsum.data.rows import Fingerprint, Skipped, Split
from dlgsum.data.tables import Record, Table, plain

_SHOWN = 5  # rows named in a message; the complete list travels in the split
_BROKEN = re.compile("[\0\ud800-\udfff]")  # JSON escapes can smuggle these in; tokenizers choke on them


def read_split(
    table: Table,
    data: Data,
    *,
    name: str,
    source: str,
    need_summary: bool | None,
    limit: int | None = None,
    spool: Path | None = None,
) -> Split:
    """Clean and judge the records of a table, one after the other.

    Args:
        table: its records are taken.
        data: columns and cleaning steps.
        name: what the rows are for.
        source: where they come from, for messages.
        need_summary: as ``load_file``.
        limit: use only the first so many usable rows.
        spool: folder for rows that are too many for memory; None takes the system's temporary folder.

    Raises:
        DataError: a column is missing, or there is no usable row.
    """
    columns, notes = known_columns(data.columns, table.columns, with_summaries=need_summary is not False)
    check_columns(source, table, columns, need_summary=need_summary)
    reader = _RowReader(columns, data, need_summary, inert=table.inert, spool=spool)
    for record in table.records:
        if limit is not None and len(reader.writer) >= limit:
            break
        reader.add(record)
    _check_rows(source, reader)
    rows = reader.writer.finish()
    skipped = [*reader.skipped, *reader.oddities(rows)]
    skipped.sort(key=lambda row: row.line)
    return Split(
        name, source, rows, tuple(skipped), reader.cleaning, reader.fingerprint.hexdigest(), (*table.notes, *notes)
    )


class _RowReader:
    """Turns records into dialogues, and remembers what it passed over."""

    def __init__(
        self, columns: Columns, data: Data, need_summary: bool | None, *, inert: bool, spool: Path | None
    ) -> None:
        self.columns = columns
        self.steps: tuple[str, ...] = tuple(data.cleaning)
        self.need_summary = need_summary
        self.writer = RowWriter(spool)
        self.fingerprint = Fingerprint()
        self.skipped: list[Skipped] = []
        self.cleaning = dict.fromkeys(self.steps, 0)
        self._inert = inert
        self._empties = 0
        # Numbers, because the identifiers of millions of rows do not belong into memory.
        self._lines = array("q")
        self._hashes = array("q")

    def add(self, record: Record) -> None:
        """Make a row of a record, or note why not."""
        identifier, problem = _text(record.cells.get(self.columns.id), "id")
        try:
            if problem or record.problem:
                raise _Unusable(record.problem or problem)
            if not identifier.strip():
                raise _Unusable("no id")
            row, changes = self._dialogue(identifier, record)
        except _Unusable as error:
            printable = identifier.encode("utf-8", "replace").decode()
            self.skipped.append(Skipped(printable, record.line, str(error)))
            return
        for step in changes:
            self.cleaning[step] += 1
        self.writer.add(row)
        self.fingerprint.add(row)
        self._empties += not row.dialogue
        self._lines.append(record.line)
        self._hashes.append(hash(identifier))

    def oddities(self, rows: StoredRows) -> list[Skipped]:
        """Return what is odd about rows that stay, row by row where several things are."""
        found = [*self._repeated(rows), *self._empty(rows)]
        # In a file with summaries, the rows without keep it from being scored.
        if 0 < rows.summarised < len(rows):
            reason = "no summary: the file is predicted, not scored"
            pairs = zip(rows, self._lines, strict=True)
            found += [Skipped(row.id, line, reason, kept=True) for row, line in pairs if not row.references]
        return found

    def _repeated(self, rows: StoredRows) -> list[Skipped]:
        import numpy as np  # not at the top: settling a configuration needs no arrays

        keys, counts = np.unique(np.frombuffer(self._hashes, dtype=np.int64), return_counts=True)
        often = set(keys[counts > 1].tolist())
        if not often:
            return []
        first: dict[str, int] = {}
        found = []
        for index, key in enumerate(self._hashes):
            if key in often:
                identifier, line = rows[index].id, self._lines[index]
                if identifier in first:
                    reason = f"the id is also on line {first[identifier]}"
                    found.append(Skipped(identifier, line, reason, kept=True))
                else:
                    first[identifier] = line
        return found

    def _empty(self, rows: StoredRows) -> list[Skipped]:
        if not self._empties:
            return []
        reason = "empty dialogue: predicted as empty text"
        pairs = zip(rows, self._lines, strict=True)
        return [Skipped(row.id, line, reason, kept=True) for row, line in pairs if not row.dialogue]

    def _dialogue(self, identifier: str, record: Record) -> tuple[Dialogue, list[str]]:
        changes: list[str] = []
        dialogue = self._clean(record.cells.get(self.columns.dialogue), "dialogue", changes)
        if not dialogue and self.need_summary:
            raise _Unusable("empty dialogue")
        references = []
        for value in [] if self.need_summary is False else self._references(record):
            reference = self._clean(value, "summary", changes)
            if reference:
                references.append(reference)
        if self.need_summary and not references:
            raise _Unusable("no summary")
        topic, problem = _text(record.cells.get(self.columns.topic), "topic")
        return Dialogue(identifier, dialogue, tuple(references), "" if problem else topic.strip()), changes

    def _references(self, record: Record) -> list[Any]:
        names = dict.fromkeys([self.columns.summary, *self.columns.extra_summaries])
        values: list[Any] = []
        for value in (record.cells.get(name) for name in names):
            values += value if isinstance(value, list) else [value]
        return values

    def _clean(self, value: Any, what: str, changes: list[str]) -> str:
        text, problem = _text(value, what)
        if problem:
            raise _Unusable(problem)
        # Identifiers and topics are never written with an apostrophe, so only texts lose one.
        text, changed = clean(plain(text) if self._inert else text, self.steps)
        changes += changed
        # Whatever the cleaning steps, a text of nothing but blanks is no text.
        return text if text.strip() else ""


class _Unusable(Exception):
    """A record that cannot become a row; its text is the reason."""


def _text(value: Any, what: str) -> tuple[str, str]:
    """Return a cell as text, and what is wrong with it ("" when nothing is)."""
    if value is None:
        return "", ""
    if isinstance(value, (list, dict)):
        shown = json.dumps(value, ensure_ascii=True, default=str)
        return shown, f"the {what} is a JSON {type(value).__name__}, not text"
    if isinstance(value, bytes):
        return repr(value), f"the {what} is bytes, not text"
    text = str(value)
    return text, f"the {what} has a broken character" if _BROKEN.search(text) else ""


def _check_rows(source: str, reader: _RowReader) -> None:
    dropped = reader.skipped
    if reader.need_summary:
        if len(reader.writer):
            return
        counts = Counter(row.reason for row in dropped).most_common(_SHOWN)
        reasons = "; ".join(f"{count:,} × {reason}" for reason, count in counts)
        raise DataError(
            f"{source} has no usable row. Of {plural(len(dropped), 'row')}: {reasons}.",
            "A usable row has an id, a dialogue and a summary; check data.columns.",
        )
    if dropped:
        shown = "; ".join(f"line {row.line:,} ({row.id or 'no id'}): {row.reason}" for row in dropped[:_SHOWN])
        more = f"; and {len(dropped) - _SHOWN:,} more" if len(dropped) > _SHOWN else ""
        raise DataError(
            f"{source} has {plural(len(dropped), 'row')} that cannot be predicted: {shown}{more}.",
            "Each row of this file is predicted, so none may be passed over: correct each of them.",
        )
