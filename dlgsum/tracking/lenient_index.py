"""The index of experiments for code that must not fail with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dlgsum.config.compose import compose
from dlgsum.config.request import Request

if TYPE_CHECKING:
    from dlgsum.tracking.store.store import Store

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class Index:
    """Ask the index of experiments; where it fails, that is a warning, once.

    The database is opened for each question: a notebook that rests for a day, or forks, keeps no connection.

    Args:
        store: address of the database; None: the one that the configuration names.
    """

    def __init__(self, output_dir: Path, store: str | None) -> None:
        self._output_dir = output_dir
        self._store = store
        self._warned = False

    def ask(self, question: Callable[[Store], Answer]) -> Answer | None:
        """Return the answer, None where there is none."""
        try:
            from dlgsum.tracking.store.store import Store

            if self._store is None:
                self._store = compose(Request()).config.tracking.store or ""
            store = Store.open(self._store or None, self._output_dir.absolute())
            try:
                return question(store)
            finally:
                store.close()
        except Exception as error:  # the folders are the truth, and whole
            if not self._warned:
                logger.warning(
                    "the index of experiments cannot be used (%s); the run folders are complete, and `dlgsum "
                    "experiments reindex` makes it new",
                    error,
                )
            self._warned = True
            return None
