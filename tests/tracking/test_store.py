"""The index in SQLite and PostgreSQL: what goes in comes out, from several processes, and the schema is migrated."""

from __future__ import annotations

import math
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.tracking.record import ExperimentRecord
from dlgsum.tracking.store import schema
from dlgsum.tracking.store.address import engine_of, parse, writing
from dlgsum.tracking.store.store import Store
from dlgsum.tracking.store.tables import AliasEvent, Base, Experiment
from tests.tracking.postgres import PASSWORD, postgres_url

__all__ = ["postgres_url"]

RECORD = ExperimentRecord(
    id="20261121_102055_356b9f49", folder="/a/experiments/20261121_102055_356b9f49", output_dir="/a", name="대화 요약",
    status="completed", started=datetime(2026, 11, 21, 10, tzinfo=UTC), seconds=12.5, seed=2**40, git_dirty=True,
    config={"training": {"learning_rate": 1e-5, "name": "NaN"}}, tags=["기준", "b"], rows={"train": 3},
    best_metrics={"rouge_combined_f1": 0.1 + 0.2, "loss": math.nan, "high": math.inf, "low": -math.inf},
)  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/index.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(url, tmp_path / "outputs")
    yield opened
    opened.close()


def same(found: ExperimentRecord | None, given: ExperimentRecord) -> bool:
    """Compare by text, as NaN differs from itself."""
    return repr(found) == repr(given)


def test_a_record_comes_back_as_it_was(store: Store):
    store.put(RECORD)
    assert same(store.get(RECORD.id), RECORD) and store.get("another") is None
    changed = replace(RECORD, status="failed", reason="disk", best_metrics={}, tags=[], started=None)
    store.put(changed)
    store.put(replace(RECORD, id="20250101_000000_00000000"))
    assert [record.id for record in store.records()] == ["20250101_000000_00000000", RECORD.id]
    assert same(store.records()[1], changed)
    store.remove(RECORD.id)
    store.remove(RECORD.id)
    assert store.get(RECORD.id) is None and len(store.records()) == 1


def test_times_come_back_in_utc(store: Store):
    seoul = datetime(2026, 11, 21, 19, tzinfo=timezone(timedelta(hours=9)))
    store.put(replace(RECORD, started=seoul, ended=seoul))
    found = store.get(RECORD.id)
    assert found is not None and found.started == seoul and found.started.isoformat() == "2026-11-21T10:00:00+00:00"


@pytest.mark.parametrize("bad", ["a\0b", "a\udc80b", "x" * 100_000, "'; DROP TABLE experiments; --", "%(x)s :y ?"])
def test_no_text_is_refused(store: Store, bad: str):
    texts = {field.name: bad for field in fields(RECORD) if field.type == "str" and field.name != "id"}
    odd: dict[str, Any] = {**texts, "config": {bad: bad}, "tags": [bad], "git_commit": bad}
    store.put(replace(RECORD, **odd))
    found = store.get(RECORD.id)
    assert found is not None and found.notes == bad.replace("\0", "").replace("\udc80", "\\udc80")


def test_tables_and_migrations_agree(store: Store):
    with store._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []
    assert ScriptDirectory.from_config(schema.migrations()).get_heads() == [schema.HEAD]
    columns = set(Experiment.__table__.columns.keys())
    assert columns - {field.name for field in fields(ExperimentRecord)} == {"stamp", "recorded_on"}


def at_revision(url: str, tmp_path: Path, revision: str) -> None:
    parsed = parse(url, tmp_path)
    engine = engine_of(parsed)
    with writing(engine).begin() as connection:
        command.upgrade(schema.migrations(connection), revision)
    engine.dispose()


def test_an_older_database_is_brought_up_to_date(url: str, tmp_path: Path):
    at_revision(url, tmp_path, "0001")
    parsed = parse(url, tmp_path)
    engine = engine_of(parsed)
    assert schema.revision(engine) == "0001"
    sorts = {"TEXT": "'x'", "VARCHAR": "'x'", "JSON": "'{}'", "BIGINT": "0", "BOOLEAN": "false"}
    row = {
        column["name"]: sorts[str(column["type"]).partition("(")[0]]
        for column in inspect(engine).get_columns("experiments") if not column["nullable"]
    }  # fmt: skip
    columns, values = ", ".join(f'"{name}"' for name in row), ", ".join(row.values())
    with writing(engine).begin() as connection:
        connection.execute(text(f"INSERT INTO experiments ({columns}) VALUES ({values})"))
    engine.dispose()
    store = Store.open(url, tmp_path)
    assert [record.id for record in store.records()] == ["x"]
    with store.session() as session:
        session.add(AliasEvent(id="1", alias="champion", model_id=None, time=datetime.now(UTC), by="", note=""))
    store.close()


def test_a_newer_database_is_refused(url: str, tmp_path: Path, store: Store):
    with store.session() as session:
        session.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    for replace_broken in (False, True):
        with pytest.raises(EnvironmentProblem, match="made by a newer dlgsum: its schema is 9999") as caught:
            Store.open(url, tmp_path, replace_broken=replace_broken)
        assert "Update dlgsum" in caught.value.hint and PASSWORD not in str(caught.value)
    with store.session() as session:
        assert session.scalar(text("SELECT count(*) FROM experiments")) == 0  # nothing was made or dropped


def test_an_open_database_needs_no_alembic(tmp_path: Path):
    Store.open(None, tmp_path).close()
    code = (
        "import sys; from pathlib import Path; from dlgsum.tracking.store.store import Store\n"
        "store = Store.open(None, Path(sys.argv[1])); store.sync(); store.records()\n"
        "print([name for name in ('alembic', 'torch', 'hydra', 'wandb', 'psycopg') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_database_is_made_without_a_word_in_the_log(tmp_path: Path):
    code = (
        "import logging, sys; from pathlib import Path; from dlgsum.tracking.store.store import Store\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout); Store.open(None, Path(sys.argv[1])).close()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "" and (tmp_path / "dlgsum.db").is_file()


@pytest.mark.parametrize("replace_broken", [True, False])
def test_a_folder_in_the_place_of_the_database_is_told(tmp_path: Path, replace_broken: bool):
    (tmp_path / "dlgsum.db").mkdir()
    with pytest.raises(EnvironmentProblem, match="is a folder"):
        Store.open(None, tmp_path, replace_broken=replace_broken)


def test_a_session_is_all_or_nothing(store: Store):
    event = {"alias": "champion", "model_id": None, "time": datetime.now(UTC), "by": "", "note": ""}
    with pytest.raises(ZeroDivisionError), store.session() as session:
        session.add(AliasEvent(id="1", **event))
        session.flush()
        _ = 1 / 0
    with store.session() as session:
        assert session.get(AliasEvent, "1") is None
        session.add(AliasEvent(id="1", **event))
    with pytest.raises(IntegrityError), store.session() as session:
        session.add(AliasEvent(id="1", **event))


# --- several processes ---

WRITERS = """
import os, sys, time
from pathlib import Path
import alembic.command
from dlgsum.tracking.record import ExperimentRecord
from dlgsum.tracking.store.store import Store
url, folder, count, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
if url.startswith("postgresql"):
    import psycopg
start = time.time() + 0.3
children = []
for number in range(count):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            time.sleep(max(0, start - time.time()))
            store = Store.open(url, folder)
            for turn in range(rounds):
                store.put(ExperimentRecord(id=f"own-{number}", folder="", steps=turn))
                store.put(ExperimentRecord(id="shared", folder="", steps=turn, notes=str(number)))
            store.close()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
"""


def test_eight_processes_open_a_fresh_database_at_once_and_write(url: str, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", WRITERS, url, str(tmp_path / "outputs"), "8", "5"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == f"{[0] * 8}\n", done.stderr
    store = Store.open(url, tmp_path / "outputs")
    found = {record.id: record for record in store.records()}
    store.close()
    assert sorted(found) == [*(f"own-{number}" for number in range(8)), "shared"]
    assert {record.steps for record in found.values()} == {4}


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path):
    store = Store.open(None, tmp_path)
    store.put(RECORD)
    with store.session() as session:
        session.execute(text("UPDATE experiments SET name = 'half'"))
        assert [record.name for record in store.records()] == [RECORD.name]
    store.close()


# --- addresses ---


def test_addresses(tmp_path: Path):
    assert Store.open(None, tmp_path / "a").url == str(tmp_path / "a" / "dlgsum.db")
    assert Store.open("sqlite://", tmp_path / "b").records() == [] and not (tmp_path / "b").exists()
    for address in ("postgres://u:p@h/n", "postgresql://u:p@h/n", "postgresql+psycopg://u:p@h/n"):
        assert parse(address, tmp_path).drivername == "postgresql+psycopg"
    for wrong in ("mysql://u:geheim@h/n", "geheim", "/a/geheim.db", "postgresql+asyncpg://u:geheim@h/n", "sqlite"):
        with pytest.raises(UsageError, match=r"tracking\.store") as caught:
            parse(wrong, tmp_path)
        assert "geheim" not in str(caught.value) and "postgresql://USER" in str(caught.value)


def test_an_output_folder_may_have_any_name(tmp_path: Path):
    folder = tmp_path / "결과 100%?x=1#y"
    store = Store.open(None, folder)
    store.put(RECORD)
    assert (folder / "dlgsum.db").is_file() and same(store.get(RECORD.id), RECORD)
    store.close()


def test_a_missing_driver_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(EnvironmentProblem, match="psycopg") as caught:
        Store.open("postgresql://u:p@localhost/n", tmp_path)
    assert "dlgsum[postgresql]" in caught.value.hint


# --- what can be wrong ---


@pytest.mark.parametrize("create", [True, False])
def test_nothing_is_made_by_reading(tmp_path: Path, create: bool):
    store = Store.open(None, tmp_path / "outputs", create=create)
    assert store.sync().notes == [] and store.records() == [] and store.get("x") is None
    assert (tmp_path / "outputs").exists() == create
    store.close()


def test_a_file_that_is_no_database_is_set_aside_and_kept(tmp_path: Path):
    path = tmp_path / "dlgsum.db"
    for number, content in enumerate((b"no database at all " * 100, b"SQLite format 3\0" + b"\xff" * 5000), 1):
        path.write_bytes(content)
        with pytest.raises(EnvironmentProblem, match="damaged, or no database") as caught:
            Store.open(None, tmp_path)
        assert "dlgsum experiments reindex" in caught.value.hint and path.read_bytes() == content
        store = Store.open(None, tmp_path, replace_broken=True)
        (note,) = store.notes
        assert f"dlgsum.db.broken-{number}" in note and store.records() == []
        assert (tmp_path / f"dlgsum.db.broken-{number}").read_bytes() == content
        store.close()
    store = Store.open(None, tmp_path, replace_broken=True)
    assert store.notes == []  # a whole one stays
    store.close()


def test_damage_in_the_middle_is_found(tmp_path: Path):
    store = Store.open(None, tmp_path)
    for number in range(50):
        store.put(replace(RECORD, id=f"{number:03}", notes="x" * 3000))
    store.close()
    path = tmp_path / "dlgsum.db"
    content = bytearray(path.read_bytes())
    content[60_000:120_000] = b"\xaa" * 60_000
    path.write_bytes(content)
    store = Store.open(None, tmp_path)
    with pytest.raises(EnvironmentProblem) as caught:
        store.records()
    assert "reindex" in caught.value.hint
    store.close()
    store = Store.open(None, tmp_path, replace_broken=True)
    assert len(store.notes) == 1 and store.records() == []
    store.close()


def test_a_full_disk_is_told(tmp_path: Path):
    store = Store.open(None, tmp_path)
    with pytest.raises(EnvironmentProblem, match="disk is full"), store.session() as session:
        session.execute(text("PRAGMA max_page_count = 1"))  # what SQLite says of a full disk, it says of this
        session.execute(text("INSERT INTO alias_events VALUES ('1', :long, NULL, '', '', '')"), {"long": "x" * 10**6})
    store.close()


def test_a_database_deleted_while_it_is_open_is_told(tmp_path: Path):
    store = Store.open(None, tmp_path)
    (tmp_path / "dlgsum.db").unlink()
    with pytest.raises(EnvironmentProblem, match="replaced while it was in use"):
        store.records()
    store.close()


def test_a_locked_database_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dlgsum.tracking.store.address.PATIENCE", 0.05)
    store = Store.open(None, tmp_path)
    other = sqlite3.connect(tmp_path / "dlgsum.db")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(EnvironmentProblem, match="in use by another process"):
        store.put(RECORD)
    other.close()
    store.put(RECORD)
    store.close()


def test_a_server_that_is_not_there_is_told_without_the_password(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EnvironmentProblem, match="cannot be used") as caught:
        Store.open(f"postgresql://me:geheim@127.0.0.1:{port}/n", tmp_path)
    assert "geheim" not in str(caught.value) and f"me:***@127.0.0.1:{port}/n" in caught.value.message
    assert caught.value.exit_code == 4


def test_a_wrong_password_is_not_shown(tmp_path: Path, postgres_url: str):
    with pytest.raises(EnvironmentProblem, match="password authentication failed") as caught:
        Store.open(postgres_url.replace(PASSWORD, "geheim"), tmp_path)
    assert "geheim" not in str(caught.value)


@pytest.fixture
def another_user() -> Iterator[Callable[[], None]]:
    """Give a function that makes this process one of a user who owns nothing, until the test ends."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    yield lambda: os.setresuid(65534, 65534, 0)
    os.setresuid(0, 0, 0)


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_cannot_be_written_can_be_read(there: bool, another_user: Callable[[], None]):
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        for run in ("open", "closed"):
            (folder / "experiments" / run).mkdir(parents=True)
            (folder / "experiments" / run / "config.yaml").write_text("meta: {experiment_name: a}")
        (folder / "experiments" / "closed").chmod(0o700)
        store = Store.open(None, folder)
        store.sync()
        store.close()
        if not there:
            for path in folder.glob("*dlgsum.db*"):
                path.unlink()
        another_user()
        with pytest.raises(EnvironmentProblem, match="cannot be") as caught:
            Store.open(None, folder)
        assert "DLGSUM_STORE" in caught.value.hint
        store = Store.open(None, folder, create=False)
        assert "nothing is kept" in store.notes[0]
        synced = store.sync()
        assert synced.added == ["open"] and [record.name for record in store.records()] == ["a"]
        assert "closed cannot be read by this user" in synced.notes[0]
        store.close()
        os.setresuid(0, 0, 0)
