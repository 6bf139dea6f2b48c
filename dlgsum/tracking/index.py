"""Keep the index up to date while a run goes on, without the run ever waiting for a database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from dlgsum.core.errors import DlgsumError
from dlgsum.core.masking import masked
from dlgsum.tracking.run import RunFolder

if TYPE_CHECKING:
    from dlgsum.tracking.store.store import Store

logger = logging.getLogger(__name__)


class Index:
    """Have the row of a run follow its folder; a thread reads the folder and writes the row.

    A database that fails is told about once, and asked again at the next update. Nothing is raised.

    Args:
        run: an existing run folder.
        open_store: opens the database; called in the thread, and again after a failure.
    """

    def __init__(self, run: RunFolder, open_store: Callable[[], Store]) -> None:
        self._run = run
        self._open_store = open_store
        self._store: Store | None = None
        self._wanted = threading.Event()
        self._closing = False
        self._failed = False
        self._thread: threading.Thread | None = None

    def update(self) -> None:
        """Have the folder read again soon; returns at once. Several calls before that are one."""
        if self._closing:
            return
        self._wanted.set()
        self._started()

    def close(self, timeout: float) -> None:
        """Write the row a last time, and wait for that at most ``timeout`` seconds; a second call does nothing."""
        if self._closing:
            return
        self._closing = True
        self._wanted.set()
        thread = self._started()
        thread.join(timeout)
        if thread.is_alive():
            self._tell(f"it did not answer within {timeout:g} s")

    def _started(self) -> threading.Thread:
        if self._thread is None:
            # A daemon: a database that hangs must not keep the process from ending.
            self._thread = threading.Thread(target=self._work, name="dlgsum-index", daemon=True)
            self._thread.start()
        return self._thread

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            last = self._closing  # after the line above, or the wish of close() could be the one that is cleared
            try:
                self._write()
            except Exception as error:  # whatever a driver raises, the run goes on
                self._tell(error.message if isinstance(error, DlgsumError) else f"{type(error).__name__}: {error}")
            if last:
                self._let_go()
                return

    def _write(self) -> None:
        """Write the row; a database that was replaced since it was opened is opened anew."""
        again = self._store is not None
        try:
            self._update()
        except Exception:
            self._let_go()
            if not again:
                raise
            try:
                self._update()
            except Exception:
                self._let_go()
                raise

    def _update(self) -> None:
        if self._store is None:
            self._store = self._open_store()
        self._store.update(self._run)

    def _let_go(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            try:
                store.close()
            except Exception as error:
                logger.debug("the database did not close: %s", masked(str(error)))

    def _tell(self, why: str) -> None:
        if self._failed:
            return
        self._failed = True
        logger.warning(
            "the index of experiments could not be brought up to date (%s). The record in %s is complete; "
            "`dlgsum experiments reindex` catches up", masked(why), self._run.path,
        )  # fmt: skip
