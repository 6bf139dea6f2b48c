"""Which columns of a table are read: the configured names, and those that SAMSum and DialogSum are known for."""

from __future__ import annotations

import dataclasses
import re

from dlgsum.config.schema.data import Columns
from dlgsum.core.errors import DataError, nearest
from dlgsum.data.tables import Table

# Setting to the name that other public dialogue data have where ours is absent.
_KNOWN = {"id": "id", "summary": "summary1", "topic": "topic1"}


def known_columns(columns: Columns, there: tuple[str, ...], *, with_summaries: bool) -> tuple[Columns, tuple[str, ...]]:
    """Return the columns to read, and what is to be said about them.

    Only where nobody configured columns: SAMSum's ``id`` stands in for an absent ``fname``, and DialogSum's
    ``summary1`` and ``topic1`` for an absent ``summary`` and ``topic``.
    """
    if columns != Columns():
        return columns, ()
    keys = [key for key in _KNOWN if with_summaries or key != "summary"]
    found = {key: _KNOWN[key] for key in keys if getattr(columns, key) not in there and _KNOWN[key] in there}
    notes = tuple(f"{name!r} is read as the column {getattr(columns, key)!r}" for key, name in found.items())
    return dataclasses.replace(columns, **found), notes  # type: ignore[arg-type]


def check_columns(name: str, table: Table, columns: Columns, *, need_summary: bool | None) -> None:
    """Refuse a table without the columns that are needed.

    Raises:
        DataError: with the columns that there are, and the setting that names another one.
    """
    wanted = {"id": columns.id, "dialogue": columns.dialogue}
    if need_summary:
        wanted["summary"] = columns.summary
    missing = {key: column for key, column in wanted.items() if column not in table.columns}
    if not missing:
        return
    free = [column for column in table.columns if column not in wanted.values()]
    by_lower = {column.lower(): column for column in free}
    hints = []
    for key, column in missing.items():
        close = nearest(column.lower(), by_lower)
        hints.append(f"data.columns.{key}={by_lower[close] if close else 'NAME'}")
    names = " and ".join(f"{column!r}" for column in missing.values())
    there = ", ".join(table.columns) or "none with a name"
    hint = f"If it has another name, set {' '.join(hints)}."
    if len(table.columns) == 1 and (separator := re.search(r"[;\t|,]", table.columns[0])):
        reads = "tabs in .tsv and commas in .csv files"
        hint = f"Its fields seem to be separated by {separator.group()!r}; dlgsum reads {reads}: convert it."
    raise DataError(f"{name} has no column {names}. Its columns: {there}.", hint)
