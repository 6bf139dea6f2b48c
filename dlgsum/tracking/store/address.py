"""Which database an address names, and how it is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool, StaticPool

from dlgsum.core.errors import UsageError
from dlgsum.core.files import dumps
from dlgsum.core.optional import require

NAME = "dlgsum.db"
PATIENCE = 60  # seconds that a writer waits for another one
_REACH = 10  # seconds until a server counts as unreachable
_ALLOWED = "Give sqlite:////folder/name.db or postgresql://USER:PASSWORD@HOST/NAME (tracking.store, DLGSUM_STORE)."


def parse(address: str | None, output_dir: Path) -> URL:
    """Return the database that an address names; that of the output folder without one.

    Raises:
        UsageError: it is no address of SQLite or PostgreSQL.
    """
    if not address:
        return URL.create("sqlite", database=str(output_dir.absolute() / NAME))
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # what is no address may still hold a password
        raise UsageError("The address of the database (tracking.store) is no URL", _ALLOWED) from None
    kind = url.drivername
    if kind in ("postgres", "postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if kind in ("sqlite", "sqlite+pysqlite"):
        return url.set(drivername="sqlite")
    raise UsageError(f"tracking.store names a database of kind '{kind}': SQLite and PostgreSQL are supported", _ALLOWED)


def shown(url: URL) -> str:
    """Return an address without its password, for people."""
    path = file_of(url)
    return str(path) if path is not None else url.render_as_string(hide_password=True).replace("+psycopg", "", 1)


def file_of(url: URL) -> Path | None:
    """Return the file of a SQLite database; None for one in memory, and for a server."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database)).absolute()


def engine_of(url: URL) -> Engine:
    """Return the engine; nothing is connected yet.

    Of SQLite every connection is opened anew, so that a file that was deleted or replaced is noticed. A transaction of
    ``writing(engine)`` takes the write lock when it begins: one that reads first would be refused when it comes to
    write, however long it is ready to wait.

    Raises:
        EnvironmentProblem: the driver of PostgreSQL is missing.
    """
    common: dict[str, Any] = {"json_serializer": dumps, "hide_parameters": True}
    if url.get_backend_name() == "postgresql":
        require("psycopg", extra="postgresql", purpose="A PostgreSQL database (tracking.store)")
        # A server that falls silent in the middle is given up, too.
        waits = {"connect_timeout": _REACH, "tcp_user_timeout": PATIENCE * 1000}
        waits = {name: value for name, value in waits.items() if name not in url.query}
        return create_engine(url, pool_pre_ping=True, connect_args=waits, **common)
    pool = StaticPool if file_of(url) is None else NullPool
    engine = create_engine(
        url, poolclass=pool, connect_args={"timeout": PATIENCE, "check_same_thread": False}, **common
    )
    event.listen(engine, "connect", _no_hidden_transactions)
    event.listen(engine, "begin", _begin)
    return engine


def writing(engine: Engine) -> Engine:
    """Return the engine for transactions that write."""
    return engine.execution_options(dlgsum_write=True)


def _no_hidden_transactions(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions by itself, and too late
    connection.execute("PRAGMA synchronous=NORMAL")  # with a WAL nothing breaks by it; the folders are the truth


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("dlgsum_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
