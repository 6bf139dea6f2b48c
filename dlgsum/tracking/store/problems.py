"""What goes wrong with a database, in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import disk_is_full
from dlgsum.core.masking import masked
from dlgsum.tracking.store.address import PATIENCE, file_of, shown

REINDEX = "`dlgsum experiments reindex` sets the file aside and builds a new one from the run folders."
_BROKEN = ("file is not a database", "malformed", "file is encrypted", "unsupported file format")


class BrokenDatabase(EnvironmentProblem):
    """A file that is no database, or a damaged one."""


@contextmanager
def in_words(url: URL) -> Iterator[None]:
    """Turn the errors of a database into one of ours, without passwords; one of a constraint passes.

    Raises:
        BrokenDatabase: the file is damaged.
        EnvironmentProblem: it cannot be reached, read or written.
    """
    try:
        yield
    except IntegrityError:
        raise
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:  # a bare one: where it is asked beside SQLAlchemy
        raise problem(error, url) from error


def problem(error: BaseException, url: URL) -> EnvironmentProblem:
    """Return what an error of the database means."""
    name, said = shown(url), _words(error, url)
    if url.get_backend_name() == "sqlite" and any(word in said for word in _BROKEN):
        return BrokenDatabase(f"{name} is damaged, or no database: {said}", REINDEX)
    path = file_of(url)
    if disk_is_full(error, path):
        return EnvironmentProblem(f"The disk is full: nothing can be written to {name}", "Make room, and try again.")
    if "no such table" in said or "no such column" in said:
        return EnvironmentProblem(f"{name} was replaced while it was in use: {said}", "Try again.")
    if "locked" in said:
        return EnvironmentProblem(
            f"{name} has been in use by another process for {PATIENCE} s",
            "Try again. On a network disk whose locks do not work, name a PostgreSQL database (DLGSUM_STORE).",
        )
    if path is not None and path.is_dir():
        return EnvironmentProblem(f"{name} is a folder, no database", "Move it away; DLGSUM_STORE names another one.")
    if path is not None:
        return EnvironmentProblem(
            f"{name} cannot be read or written: {said}",
            "This user must be able to write the file and in its folder; DLGSUM_STORE names another database.",
        )
    return EnvironmentProblem(
        f"The database {name} cannot be used: {said}",
        "Check address, user and password (DLGSUM_STORE), and that the server runs. The run folders are complete "
        "without it; `dlgsum experiments reindex` catches up.",
    )


def _words(error: BaseException, url: URL) -> str:
    """Return what the driver said, without the statement and its values, and without the password."""
    said = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    said = " ".join(said.split())
    if url.password:
        said = said.replace(str(url.password), "***")
    return masked(said)
