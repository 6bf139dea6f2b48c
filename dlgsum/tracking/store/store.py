"""The index of experiments and models, opened."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Engine, delete
from sqlalchemy.orm import Session

from dlgsum.tracking.record import ExperimentRecord, read_record
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.store import folders, rows, schema
from dlgsum.tracking.store.address import engine_of, file_of, parse, shown, writing
from dlgsum.tracking.store.broken import replace_if_broken
from dlgsum.tracking.store.folders import Synced
from dlgsum.tracking.store.problems import in_words

__all__ = ["Store", "Synced"]


class Store:
    """A database that finds experiments and models. The run folders are the truth, and it can be lost.

    Several processes may use one database at once, on several machines with PostgreSQL. Every method raises
    ``EnvironmentProblem`` where the database cannot be reached, read or written.

    Attributes:
        output_dir: the folder of all results whose runs are brought in by ``sync`` and ``reindex``.
        url: the address, without its password.
        notes: what people should know of how it was opened.
    """

    def __init__(self, url: URL, output_dir: Path) -> None:
        self.output_dir = output_dir
        self.url = shown(url)
        self.notes: list[str] = []
        self._url = url
        self._engine: Engine = engine_of(url)
        # One name for one folder, whatever links lead to it.
        self._home = Path(os.path.realpath(output_dir))

    @classmethod
    def open(cls, url: str | None, output_dir: Path, *, create: bool = True, replace_broken: bool = False) -> Store:
        """Open a database; its tables are made or brought up to date as needed.

        Args:
            url: of SQLite or PostgreSQL; None: ``dlgsum.db`` in the output folder.
            create: make the folder of a SQLite database. Without it nothing is made where there is no such folder, and
                where a file cannot be written: the index is then in memory, empty until ``sync`` reads the folders.
            replace_broken: set a SQLite file that is damaged, or no database, aside as ``dlgsum.db.broken-1``, and make
                a new one. A database that is only newer, locked or unreadable is never set aside.

        Raises:
            UsageError: the address is none of a supported database.
            EnvironmentProblem: the database cannot be reached, read or written, is damaged, or is newer than this
                software.
        """
        output_dir = output_dir.absolute()
        parsed, notes = parse(url, output_dir), []
        path = file_of(parsed)
        if path is not None and not create and not _can_write(path):
            if path.parent.is_dir():
                notes.append(f"{path} cannot be written: the run folders are read instead, and nothing is kept")
            parsed, path = URL.create("sqlite"), None
        with in_words(parsed):
            if path is not None and create:
                path.parent.mkdir(parents=True, exist_ok=True)
            if path is not None and replace_broken:
                notes += replace_if_broken(parsed, path)
            store = cls(parsed, output_dir)
            store.notes = notes
            try:
                schema.prepare(store._engine, parsed)
            except BaseException:
                store.close()
                raise
        return store

    @contextmanager
    def session(self, *, write: bool = True) -> Iterator[Session]:
        """Give a session that is committed at the end of the block, and rolled back by an exception.

        Args:
            write: take the lock for writing at once, so that what was read still holds when it is written. Give False
                to read only: a reader waits for nobody.

        Raises:
            EnvironmentProblem: the database cannot be reached, read or written.
            IntegrityError: of SQLAlchemy: a constraint was hurt.
        """
        engine = writing(self._engine) if write else self._engine
        with in_words(self._url), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def put(self, record: ExperimentRecord, stamp: int = 0) -> None:
        """Write the row of an experiment, in place of the one it may have.

        Args:
            stamp: ``folders.stamp_of`` the folder, from before it was read; 0: the next ``sync`` reads it again.
        """
        with self.session() as session:
            rows.upsert(session, [rows.row_of(record, stamp)])

    def update(self, run: RunFolder) -> ExperimentRecord:
        """Read the folder of a run, write its row, and return what was read."""
        stamp = folders.stamp_of(run.path)
        record = read_record(run)
        self.put(record, max(stamp, 0))
        return record

    def get(self, run_id: str) -> ExperimentRecord | None:
        """Return an experiment by its whole id; None where it is not known."""
        with self.session(write=False) as session:
            found = rows.records(session, rows.TABLE.c.id == run_id)
        return self._placed(found[0]) if found else None

    def records(self) -> list[ExperimentRecord]:
        """Return all experiments, by id, which is oldest first.

        One whose folder lies in this output folder has the paths from here, wherever it was recorded.
        """
        with self.session(write=False) as session:
            found = rows.records(session)
        here = folders.names(self._home)
        return [self._placed(record) if record.id in here else record for record in found]

    def remove(self, run_id: str) -> None:
        """Take an experiment out of the index; its folder, if it is there, comes in again with the next ``sync``."""
        with self.session() as session:
            session.execute(delete(rows.TABLE).where(rows.TABLE.c.id == run_id))

    def sync(self, on_progress: Callable[[int, int], None] | None = None) -> Synced:
        """Bring the index in step with the run folders of the output folder; what has not changed is not read.

        Runs without a row get one. A row is read again when its files changed, or when it says running. A row whose
        folder is gone is marked as missing if it was recorded from this machine and this output folder; those of others
        are never touched. A run that has turned up here is found again, unless it is an older copy of what is recorded.

        Args:
            on_progress: called with the number of folders read and to read.

        Returns:
            What changed. A folder that cannot be read is a note, and stops nothing.
        """
        return folders.sync(self.session, self._home, on_progress)

    def reindex(self, on_progress: Callable[[int, int], None] | None = None) -> Synced:
        """Read every run folder of the output folder anew, and drop the rows of those that are gone.

        Rows of other output folders and other machines stay.

        Args:
            on_progress: called with the number of folders read and to read.

        Returns:
            What was done; ``missing`` holds the ids that were dropped.
        """
        return folders.reindex(self.session, self._home, on_progress)

    def _placed(self, record: ExperimentRecord) -> ExperimentRecord:
        """Return a record with the paths from here, if its folder is here."""
        folder = self._home / "experiments" / record.id
        there = os.path.isdir(folder) if not record.missing else folders.stamp_of(folder) > 0  # noqa: PTH112
        return rows.placed(record, self._home) if there else record

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _can_write(path: Path) -> bool:
    """Say whether a SQLite file can be written, or made: its log lies beside it."""
    there = os.access(path, os.W_OK) if path.exists() else True
    return there and os.access(path.parent, os.W_OK | os.X_OK)
