"""Set a damaged SQLite file aside, so that a new one can be made of the run folders."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.tracking.store.address import PATIENCE, engine_of
from dlgsum.tracking.store.problems import BrokenDatabase, problem
from dlgsum.tracking.store.schema import lock_of, revision


def replace_if_broken(url: URL, path: Path) -> list[str]:
    """Rename a damaged file, and what SQLite keeps beside it, to a name with ``.broken-N``; nothing is deleted.

    Returns:
        What was done, in words; nothing for a whole database, or none.

    Raises:
        EnvironmentProblem: it cannot be looked at, or another process does not let go of it.
        OSError: it cannot be renamed.
    """
    try:
        with FileLock(lock_of(path), timeout=PATIENCE):
            said = _damage(url) if path.is_file() else ""
            return [f"{path} was damaged ({said}) and is kept as {_set_aside(path)}"] if said else []
    except Timeout:
        raise EnvironmentProblem(f"Another process has been preparing {path} for {PATIENCE} s", "Try again.") from None


def _damage(url: URL) -> str:
    """Return what is wrong with a file; empty where nothing is."""
    engine = engine_of(url)
    try:
        revision(engine)
        with engine.connect() as connection:
            found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        return "" if found == "ok" else " ".join(found.split())
    except SQLAlchemyError as error:
        told = problem(error, url)
        if isinstance(told, BrokenDatabase):
            return str(getattr(error, "orig", error))
        raise
    finally:
        engine.dispose()


def _set_aside(path: Path) -> Path:
    aside = next(free for n in count(1) if not (free := path.with_name(f"{path.name}.broken-{n}")).exists())
    path.rename(aside)
    for suffix in ("-wal", "-shm", "-journal"):  # what was not written into the file yet
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    return aside
