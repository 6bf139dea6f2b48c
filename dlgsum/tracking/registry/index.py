"""The registry's tables: what other output folders registered, and no version taken twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import to_jsonable
from dlgsum.tracking.registry.aliases import AliasEvent
from dlgsum.tracking.registry.model import RegisteredModel, numbers
from dlgsum.tracking.store.store import Store
from dlgsum.tracking.store.tables import AliasEvent as EventRow
from dlgsum.tracking.store.tables import Model as ModelRow


class VersionTaken(Exception):
    """Another process has registered this version of a model."""


class Index:
    """The tables of models and of alias events."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def models(self) -> list[RegisteredModel]:
        """Return every model."""
        with self.store.session(write=False) as session:
            return [_model(row) for row in session.scalars(select(ModelRow))]

    def versions(self, name: str) -> list[int]:
        """Return the versions of a model; names that differ in the case of letters count as one."""
        with self.store.session(write=False) as session:
            # Not all databases fold the case of other letters than ASCII; Hangul has none.
            query = select(ModelRow.version).where(func.lower(ModelRow.name) == name.lower())
            return list(session.scalars(query))

    def events(self) -> list[AliasEvent]:
        """Return all alias events, oldest first."""
        with self.store.session(write=False) as session:
            rows = session.scalars(select(EventRow).order_by(EventRow.time))
            return [
                AliasEvent(
                    id=row.id, alias=row.alias, model_id=row.model_id, time=row.time, by=row.by, note=row.note
                ) for row in rows
            ]  # fmt: skip

    def insert(self, model: RegisteredModel, write: Callable[[], None]) -> None:
        """Add a model, and have its file written once its version is known to be free; both happen, or neither.

        Raises:
            VersionTaken: the version is not free.
            OSError: of ``write``.
        """
        failure: list[OSError] = []
        try:
            with self.store.session() as session:
                session.add(ModelRow(**_values(model)))
                session.flush()
                try:
                    write()
                except OSError as error:
                    failure.append(error)
                    raise
        except IntegrityError as error:
            raise VersionTaken from error
        except EnvironmentProblem:
            if failure:  # the store takes it for a fault of its database
                raise failure[0] from None
            raise

    def put_models(self, models: Iterable[RegisteredModel], *, remove: Iterable[str]) -> None:
        """Take models out by their ids, and put others in, in place of those with the same id."""
        with self.store.session() as session:
            session.execute(delete(ModelRow).where(ModelRow.id.in_(list(remove))))
            for model in models:
                session.merge(ModelRow(**_values(model)))

    def put_events(self, events: Iterable[AliasEvent], *, alone: bool = False) -> None:
        """Add the events that are not there yet, and correct those that are.

        Args:
            alone: also take out all others.
        """
        given = {event.id: event for event in events}
        with self.store.session() as session:
            there = {row.id: row.model_id for row in session.scalars(select(EventRow))}
            if alone:
                session.execute(delete(EventRow).where(EventRow.id.not_in(list(given))))
            for event in given.values():
                if event.id in there and there[event.id] == event.model_id:
                    continue
                session.merge(
                    EventRow(
                        id=event.id, alias=event.alias, model_id=event.model_id, time=event.time, by=event.by,
                        note=event.note,
                    )
                )  # fmt: skip


def _values(model: RegisteredModel) -> dict[str, Any]:
    return {**to_jsonable(model.as_json()), "created": model.created}


def _model(row: ModelRow) -> RegisteredModel:
    values = {name: getattr(row, name) for name in RegisteredModel.__dataclass_fields__}
    return RegisteredModel(**{**values, "performance": numbers(row.performance)})
