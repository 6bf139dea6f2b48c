"""The schema of the database: made, brought up to date, or refused where it is newer than this software."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, inspect, text

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.tracking.store.address import PATIENCE, file_of, shown, writing

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0002"
"""The newest migration; known here so that a database that is up to date needs no Alembic."""

# Not Alembic's own name: Optuna and MLflow keep their versions under that one, perhaps in the same database.
VERSION_TABLE = "dlgsum_version"
_LOCK = 7_205_911_404_116_342_381  # number of the lock on a PostgreSQL server; any, but always the same
_MIGRATIONS = Path(__file__).parent / "migrations"

logger = logging.getLogger(__name__)


def prepare(engine: Engine, url: URL) -> None:
    """Make the tables, or bring them up to date; of several processes one does, and the others wait.

    Raises:
        EnvironmentProblem: the database is newer than this software, or another process does not let go of it.
        SQLAlchemyError: it cannot be used.
    """
    path = file_of(url)
    if (path is None or path.is_file()) and revision(engine) == HEAD:
        return
    if path is None:
        _upgrade(engine, url)
        return
    try:
        with FileLock(lock_of(path), timeout=PATIENCE):
            if path.is_file() and revision(engine) == HEAD:
                return
            _write_ahead(engine)
            _upgrade(engine, url)
    except Timeout:
        raise EnvironmentProblem(
            f"Another process has been preparing {path} for {PATIENCE} s", f"Stop it, or remove {lock_of(path)}."
        ) from None


def lock_of(path: Path) -> Path:
    """Return the file that whoever makes, changes or replaces a SQLite database locks."""
    return path.with_name(f".{path.name}.lock")


def revision(engine: Engine) -> str | None:
    """Return the migration that a database is at; None where it has none of our tables."""
    with engine.connect() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        return found


def migrations(connection: Connection | None = None) -> Config:
    """Return the settings of Alembic for our migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _write_ahead(engine: Engine) -> None:
    """Let readers and a writer work at once; the file keeps this. File systems that cannot do it stay as they are."""
    connection = engine.raw_connection()  # the others begin a transaction, in which this cannot be changed
    try:
        connection.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _upgrade(engine: Engine, url: URL) -> None:
    # Before it is imported, which it tells in every log that is open.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic import command
    from alembic.script import ScriptDirectory

    with writing(engine).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{PATIENCE}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        has = inspect(connection).has_table(VERSION_TABLE)
        now = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) if has else None
        if now == HEAD:
            return
        config = migrations(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if now is not None and now not in known:
            raise EnvironmentProblem(
                f"{shown(url)} was made by a newer dlgsum: its schema is {now}, this one knows those up to {HEAD}",
                "Update dlgsum, or name another database with DLGSUM_STORE; it is filled from the run folders.",
            )
        command.upgrade(config, "head")
        if now is not None:
            logger.info("%s was brought from schema %s to %s", shown(url), now, HEAD)
