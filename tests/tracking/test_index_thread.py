"""The index of a run that goes on: it follows, and whatever the database does, the run does not wait."""

from __future__ import annotations

import logging
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dlgsum.tracking.index import Index
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.store.store import Store
from tests.tracking.postgres import postgres_url

__all__ = ["postgres_url"]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder.create(tmp_path / "outputs")
    run.write_config("meta: {experiment_name: a}")
    run.status("running")
    return run


def outputs(run: RunFolder) -> Path:
    return run.path.parent.parent


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@contextmanager
def opened(run: RunFolder, url: str | None = None) -> Iterator[Store]:
    store = Store.open(url, outputs(run))
    yield store
    store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_row_follows_the_folder(
    run: RunFolder, kind: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
):
    url = None if kind == "sqlite" else str(request.getfixturevalue("postgres_url"))
    index = Index(run, lambda: Store.open(url, outputs(run)))
    index.update()
    run.status("failed", reason="disk")
    index.close(60)
    index.close(60)
    index.update()  # too late, and nothing happens
    with opened(run, url) as store:
        found = store.get(run.id)
        assert found is not None and (found.status, found.reason) == ("failed", "disk")
        assert store.sync().updated == []
    assert warnings(caplog) == []


def test_closing_alone_writes_the_row(run: RunFolder):
    Index(run, lambda: Store.open(None, outputs(run))).close(60)
    with opened(run) as store:
        assert store.get(run.id) is not None


def test_updates_in_a_row_are_one(run: RunFolder):
    reads: list[str] = []
    begun, go = threading.Event(), threading.Event()

    class Slow(Store):
        def update(self, run):  # type: ignore[no-untyped-def]
            reads.append(run.id)
            begun.set()
            assert go.wait(60)
            return super().update(run)

    index = Index(run, lambda: Slow.open(None, outputs(run)))
    index.update()
    assert begun.wait(60)
    for _ in range(100):
        index.update()
    assert len(reads) == 1
    go.set()
    index.close(60)
    assert 2 <= len(reads) <= 3


def test_a_locked_database(run: RunFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dlgsum.tracking.store.address.PATIENCE", 3600)
    with opened(run):
        pass
    other = sqlite3.connect(outputs(run) / "dlgsum.db")
    other.execute("BEGIN EXCLUSIVE")
    index = Index(run, lambda: Store.open(None, outputs(run)))
    index.update()  # would wait for an hour
    index.close(0.2)
    (told,) = warnings(caplog)
    assert "did not answer within 0.2 s" in told and "dlgsum experiments reindex" in told
    other.close()  # and the thread can end
    assert index._thread is not None
    index._thread.join(60)


def test_a_failure_is_told_once_and_tried_again(run: RunFolder, caplog: pytest.LogCaptureFixture):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tries: list[int] = []
    tried = threading.Semaphore(0)

    def open_store() -> Store:
        tries.append(len(tries))
        try:
            if len(tries) < 3:
                return Store.open(f"postgresql://me:geheim@127.0.0.1:{port}/n", outputs(run))
            return Store.open(None, outputs(run))
        finally:
            tried.release()

    index = Index(run, open_store)
    for _ in range(2):
        index.update()
        assert tried.acquire(timeout=60)
    index.close(60)
    (told,) = warnings(caplog)
    assert "cannot be used" in told and "geheim" not in told and "complete" in told and str(run.path) in told
    with opened(run) as store:
        assert store.get(run.id) is not None


def test_a_server_that_says_nothing(run: RunFolder, caplog: pytest.LogCaptureFixture):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)  # the system accepts, and nobody answers
        address = f"postgresql://me:geheim@127.0.0.1:{server.getsockname()[1]}/n"
        index = Index(run, lambda: Store.open(address, outputs(run)))
        index.update()
        index.update()
        index.close(0.3)
        (told,) = warnings(caplog)
        assert "did not answer within 0.3 s" in told
    assert index._thread is not None
    index._thread.join(60)  # the closed server refuses
    assert not index._thread.is_alive() and len(warnings(caplog)) == 1


def test_a_database_that_is_deleted_meanwhile_is_made_again(run: RunFolder, caplog: pytest.LogCaptureFixture):
    written = threading.Semaphore(0)

    class Told(Store):
        def update(self, run):  # type: ignore[no-untyped-def]
            found = super().update(run)
            written.release()
            return found

    index = Index(run, lambda: Told.open(None, outputs(run)))
    index.update()
    assert written.acquire(timeout=60)
    for path in outputs(run).glob("*dlgsum.db*"):
        path.unlink()
    index.close(60)
    with opened(run) as store:
        assert store.get(run.id) is not None
    assert warnings(caplog) == []


def test_whatever_is_raised_stays_in_the_thread(run: RunFolder, caplog: pytest.LogCaptureFixture):
    def broken() -> Store:
        raise ZeroDivisionError("token=geheim")

    index = Index(run, broken)
    index.update()
    index.close(60)
    (told,) = warnings(caplog)
    assert "ZeroDivisionError" in told and "geheim" not in told
