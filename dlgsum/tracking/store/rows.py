"""Rows of the table of experiments: from records, and back."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Row, String, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from dlgsum.core.lenient import number
from dlgsum.tracking.record import ExperimentRecord
from dlgsum.tracking.store.tables import Experiment

TABLE: Table = Experiment.__table__  # type: ignore[assignment]
_FIELDS = tuple(field.name for field in fields(ExperimentRecord))
_METRICS = ("best_metrics", "final_metrics", "test_metrics")


def row_of(record: ExperimentRecord, stamp: int) -> dict[str, Any]:
    """Return the row of a record, with nothing in it that a database refuses."""
    row = {**asdict(record), "stamp": stamp, "recorded_on": socket.gethostname()}
    return {name: _fitting(value, TABLE.c[name]) for name, value in row.items()}


def upsert(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, each in place of the one with its id, in one statement of the database: two writers cannot clash."""
    if not rows:
        return
    insert = (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert(TABLE)
    names = [column.name for column in TABLE.columns if column.name != "id"]
    insert = insert.on_conflict_do_update(index_elements=["id"], set_={name: insert.excluded[name] for name in names})
    session.connection().execute(insert, list(rows))


def records(session: Session, where: ColumnElement[bool] | None = None) -> list[ExperimentRecord]:
    """Return the records that fit, in the order of their ids."""
    query = select(*(TABLE.c[name] for name in _FIELDS)).order_by(TABLE.c.id)
    return [_record(row) for row in session.execute(query if where is None else query.where(where))]


def placed(record: ExperimentRecord, output_dir: Path) -> ExperimentRecord:
    """Return a record as if it had been read from the folder of its id in ``output_dir``."""
    folder = output_dir / "experiments" / record.id
    if record.folder == str(folder) and not record.missing:
        return record
    path = record.model_path
    if path is not None and Path(path).is_relative_to(record.folder):
        path = str(folder / Path(path).relative_to(record.folder))
    return replace(record, folder=str(folder), output_dir=str(output_dir), model_path=path, missing=False)


def _record(row: Row[Any]) -> ExperimentRecord:
    values = dict(zip(_FIELDS, row, strict=True))
    for name in _METRICS:  # JSON has no NaN
        values[name] = {key: found for key, value in values[name].items() if (found := number(value)) is not None}
    return ExperimentRecord(**values)


def _fitting(value: Any, column: Any) -> Any:
    if not isinstance(value, str):
        return value
    # A name that is not UTF-8 arrives as half characters; PostgreSQL takes no NUL.
    text = value.encode("utf-8", "backslashreplace").decode().replace("\0", "")
    length = column.type.length if isinstance(column.type, String) else None
    return text[:length] if length else text
