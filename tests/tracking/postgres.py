"""A real PostgreSQL for tests: ``from tests.tracking.postgres import postgres_url`` and use it as a fixture."""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "s3cr3t-of-the-tests"


@pytest.fixture
def postgres_url() -> str:
    """Return the address of a new, empty database; the test is skipped where there is no PostgreSQL."""
    psycopg = pytest.importorskip("psycopg")
    server = start()
    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


@cache
def start() -> str:
    """Start a server that ends with this process, once; return its address without a database."""
    folder = _binaries()
    if folder is None:
        pytest.skip("there is no PostgreSQL server on this machine")
    home = Path(tempfile.mkdtemp(prefix="dlgsum-pg-"))
    user = _user()
    if user:
        shutil.chown(home, pwd.getpwnam(user["user"]).pw_uid, user["group"])
    words = home / "password"
    words.write_text(PASSWORD)
    words.chmod(0o644)
    subprocess.run(
        [folder / "initdb", "--pgdata", home / "data", "--no-sync", "--username=dlgsum", f"--pwfile={words}",
         "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"],
        check=True, capture_output=True, cwd=home, **user,
    )  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": home, "fsync": "off",
        "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "16MB", "max_connections": 50,
    }  # fmt: skip
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [folder / "postgres", "-D", home / "data", *(f"-c{name}={value}" for name, value in settings.items())],
            cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, **user,
        )  # fmt: skip
    atexit.register(_stop, server, home, os.getpid())
    deadline = time.monotonic() + 30
    while subprocess.run([folder / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False).returncode:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError((home / "log").read_text(errors="replace"))
        time.sleep(0.02)
    return f"postgresql://dlgsum:{PASSWORD}@127.0.0.1:{port}"


def _binaries() -> Path | None:
    found = shutil.which("postgres")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return next((path for path in folders if (path / "initdb").is_file() and (path / "pg_isready").is_file()), None)


def _user() -> dict[str, Any]:
    """Return whom the server runs as: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


def _stop(server: subprocess.Popen[bytes], home: Path, owner: int) -> None:
    if os.getpid() != owner:  # a forked child
        return
    server.send_signal(signal.SIGINT)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    shutil.rmtree(home, ignore_errors=True)
