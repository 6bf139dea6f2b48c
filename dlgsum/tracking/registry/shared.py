"""The database of a registry, which may be missing, and which others may share."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.masking import masked
from dlgsum.tracking.registry.aliases import AliasEvent
from dlgsum.tracking.registry.model import RegisteredModel

if TYPE_CHECKING:
    from dlgsum.tracking.registry.index import Index
    from dlgsum.tracking.store.store import Store

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Shared:
    """What the database adds to the registry's files; nothing where it cannot be reached, with one warning.

    A database of this output folder alone knows nothing that the files do not know, so it is only written.
    """

    def __init__(self, store: Store | str | None, output_dir: Path) -> None:
        self._output_dir = output_dir
        self._given = store
        self._index: Index | None = None
        self._broken = False
        self.alone = _is_own(store if isinstance(store, str | None) else store.url, output_dir)

    def open(self) -> Index:
        """Return the tables.

        Raises:
            EnvironmentProblem: the database cannot be opened.
        """
        if self._index is None:
            from dlgsum.tracking.registry.index import Index
            from dlgsum.tracking.store.store import Store

            given = self._given
            self._index = Index(Store.open(given, self._output_dir) if isinstance(given, str | None) else given)
        return self._index

    def close(self) -> None:
        """Close the database, unless it was given open."""
        if self._index is not None and isinstance(self._given, str | None):
            self._index.store.close()
            self._index = None

    def models_elsewhere(self, own: Collection[str]) -> list[RegisteredModel]:
        """Return the models that other output folders registered.

        Args:
            own: ids of those that have files here.
        """
        if self.alone:
            return []
        nothing: list[RegisteredModel] = []
        rows = self._ask(lambda index: index.models(), nothing)
        return [row for row in rows if row.id not in own and self._is_alive(row)]

    def _is_alive(self, model: RegisteredModel) -> bool:
        """Say whether a row stands for a file; one of another machine is believed."""
        file = Path(model.output_dir) / "models" / f"{model.id}.json"
        return model.host != socket.gethostname() or (model.output_dir != str(self._output_dir) and file.is_file())

    def events(self) -> list[AliasEvent]:
        """Return the alias events of all who share the database."""
        return [] if self.alone else self._ask(lambda index: index.events(), [])

    def versions(self, name: str) -> list[int]:
        """Return the versions of a model that the database knows."""
        return self._ask(lambda index: index.versions(name), [])

    def put_event(self, event: AliasEvent) -> None:
        """Add an alias event."""
        self._ask(lambda index: index.put_events([event]), None)

    def insert(self, model: RegisteredModel, write: Callable[[], None]) -> bool:
        """Add a model and write its file; say whether its version was free.

        Without the database only the file is written.
        """
        from dlgsum.tracking.registry.index import VersionTaken

        written = False

        def once() -> None:
            nonlocal written
            write()
            written = True

        try:
            self._ask(lambda index: index.insert(model, once), None)
        except VersionTaken:
            return False
        if not written:
            write()
        return True

    def _ask(self, question: Callable[[Index], T], otherwise: T) -> T:
        if self._broken:
            return otherwise
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return question(self.open())
        except (SQLAlchemyError, EnvironmentProblem) as error:
            self._broken = True
            words = masked(str(error).partition("\n")[0])
            logger.warning(
                "the database of models cannot be used (%s): only the models registered in %s are known; "
                "`dlgsum experiments reindex` brings it up to date", words, self._output_dir,
            )  # fmt: skip
            return otherwise


def _is_own(url: str | None, output_dir: Path) -> bool:
    """Say whether a database is that of an output folder, or one in memory; SQLite's may be given as a path."""
    if url is None:
        return True
    scheme, there, path = url.partition("?")[0].partition("://")
    if there and scheme.partition("+")[0] != "sqlite":
        return False
    path = path.removeprefix("/") if there else scheme
    return path in ("", ":memory:") or Path(path).resolve() == (output_dir / "dlgsum.db").resolve()
