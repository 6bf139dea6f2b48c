"""Aliases of models: an append-only history, whose newest event says what an alias means."""

from __future__ import annotations

import getpass
import socket
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dlgsum.core.files import append_jsonl, read_jsonl
from dlgsum.tracking.registry.names import ALIASES


@dataclass(frozen=True, kw_only=True)
class AliasEvent:
    """One change of an alias.

    Attributes:
        model_id: what it means from then on; None: nothing any more.
        by: user@host.
    """

    id: str
    alias: str
    model_id: str | None
    time: datetime
    by: str
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {**asdict(self), "time": self.time.isoformat()}


def read_events(folder: Path) -> list[AliasEvent]:
    """Return the events of a registry's folder in their order; rows that are none are passed over.

    A later row with the id of an earlier one corrects it, and has its place.

    Raises:
        OSError: there are some, and they cannot be read.
    """
    events: dict[str, AliasEvent] = {}
    try:
        for row in read_jsonl(folder / ALIASES):
            event = _event(row)
            if event is not None:
                events[event.id] = event
    except FileNotFoundError:
        pass
    return list(events.values())


def append_event(folder: Path, event: AliasEvent) -> None:
    """Append an event.

    Raises:
        OSError: it cannot be written.
    """
    append_jsonl(folder / ALIASES, event.as_json())


def new_event(alias: str, model_id: str | None, note: str, before: Sequence[AliasEvent]) -> AliasEvent:
    """Return the event of now; it is later than those before it even where the clock was set back."""
    last = max((event.time for event in before if event.alias == alias), default=datetime.min.replace(tzinfo=UTC))
    time = max(datetime.now(UTC), last + timedelta(microseconds=1))
    return AliasEvent(id=uuid.uuid4().hex, alias=alias, model_id=model_id, time=time, by=_by(), note=note)


def corrected(event: AliasEvent, model_id: str) -> AliasEvent:
    """Return an event of the same time whose model has another id now."""
    words = f"{event.model_id} until its version was found taken"
    return replace(event, model_id=model_id, note=f"{event.note} ({words})" if event.note else words)


def joined(*sources: Iterable[AliasEvent]) -> list[AliasEvent]:
    """Return the events of several sources, each once, oldest first; of one time, in the order given."""
    every = {event.id: event for source in reversed(sources) for event in source}
    order = dict.fromkeys(event.id for source in sources for event in source)
    return sorted((every[identity] for identity in order), key=lambda event: event.time)


def meanings(events: Iterable[AliasEvent]) -> dict[str, str]:
    """Return the id that each alias means, by the events in their order; aliases that mean nothing are left out."""
    found = {event.alias: event.model_id for event in events}
    return {alias: identity for alias, identity in sorted(found.items()) if identity is not None}


def _event(row: dict[str, Any]) -> AliasEvent | None:
    try:
        time = datetime.fromisoformat(row["time"])
        identity, alias, model_id = row["id"], row["alias"], row["model_id"]
        if not isinstance(identity, str) or not isinstance(alias, str) or not isinstance(model_id, str | None):
            return None
        return AliasEvent(
            id=identity, alias=alias, model_id=model_id, time=time if time.tzinfo else time.replace(tzinfo=UTC),
            by=str(row.get("by", "")), note=str(row.get("note", "")),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        return None


def _by() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container whose user has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
