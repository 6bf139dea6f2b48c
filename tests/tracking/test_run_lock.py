"""A run folder has one user; a dead one is no obstacle."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.tracking.lock import RunLock

HOLD = """
import sys
from pathlib import Path
from dlgsum.tracking.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
print("ended", flush=True)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds ``tmp_path`` until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def try_it(folder: Path) -> subprocess.CompletedProcess[str]:
    """Take the lock in a new process, and end at once."""
    return subprocess.run(
        [sys.executable, "-c", HOLD, str(folder)], input="\n", capture_output=True, text=True, timeout=60, check=False
    )


def test_a_second_process_is_refused_and_told_by_whom(tmp_path: Path, holder: subprocess.Popen[str]):
    with pytest.raises(UsageError) as caught, RunLock(tmp_path):
        pytest.fail("held by two processes")
    assert caught.value.exit_code == 2
    record = json.loads((tmp_path / "lock.json").read_text())
    for part in (str(holder.pid), socket.gethostname(), record["started"], str(tmp_path), f"kill {holder.pid}"):
        assert part in str(caught.value)
    assert json.loads((tmp_path / "lock.json").read_text())["pid"] == holder.pid, "the refused one changes nothing"


def test_a_process_refused_by_this_one(tmp_path: Path):
    with RunLock(tmp_path):
        done = try_it(tmp_path)
    assert done.returncode != 0 and f"process {os.getpid()} on" in done.stderr
    assert try_it(tmp_path).stdout == "held\nended\n"


def test_once_ended_in_order_nothing_is_left_of_it(tmp_path: Path, holder: subprocess.Popen[str]):
    assert holder.communicate("\n", timeout=60)[0] == "ended\n"
    assert not (tmp_path / "lock.json").exists()
    with RunLock(tmp_path) as lock:
        assert lock.left_by is None
    with RunLock(tmp_path):
        pass


def test_a_killed_holder_is_succeeded_at_once(tmp_path: Path, holder: subprocess.Popen[str]):
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    assert (tmp_path / "lock.json").exists(), "it had no time to tidy up"
    with RunLock(tmp_path) as lock:
        assert lock.left_by is not None and lock.left_by.pid == holder.pid
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock.json").exists()


def test_a_stopped_holder_still_holds(tmp_path: Path, holder: subprocess.Popen[str]):
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(UsageError), RunLock(tmp_path):
        pytest.fail("held by two processes")
    holder.send_signal(signal.SIGCONT)
    assert holder.communicate("\n", timeout=60)[0] == "ended\n"


def test_the_times_of_the_files_decide_nothing(tmp_path: Path, holder: subprocess.Popen[str]):
    for name in (".lock", "lock.json"):
        os.utime(tmp_path / name, (0, 0))
    with pytest.raises(UsageError), RunLock(tmp_path):
        pytest.fail("held by two processes")


FORK = """
import os, sys, time
from pathlib import Path
from dlgsum.tracking.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.__enter__()
child = os.fork()
if not child:
    lock.__exit__(None, None, None)  # a worker that unwinds must not end its parent's lock
    print(os.getpid(), flush=True)
    time.sleep(120)
    os._exit(0)
time.sleep(120)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is of POSIX")
def test_a_forked_child_neither_ends_the_lock_nor_keeps_it(tmp_path: Path):
    parent = subprocess.Popen([sys.executable, "-c", FORK, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        with pytest.raises(UsageError, match=f"process {parent.pid} on"), RunLock(tmp_path):
            pytest.fail("the child gave its parent's lock back")
        parent.kill()
        parent.wait(60)
        os.kill(child, 0)  # it lives on
        with RunLock(tmp_path) as lock:
            assert lock.left_by is not None and lock.left_by.pid == parent.pid
    finally:
        parent.kill()
        os.kill(child, signal.SIGKILL)
        parent.communicate()


def test_the_same_process_cannot_hold_it_twice(tmp_path: Path):
    with RunLock(tmp_path):
        with pytest.raises(UsageError, match=str(os.getpid())), RunLock(tmp_path):
            pytest.fail("held twice")
        assert try_it(tmp_path).returncode != 0, "the refused one must not have ended it"


def _race(folder: Path, start: object, end: object, won: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    try:
        with RunLock(folder):
            won.put(os.getpid())  # type: ignore[attr-defined]
            end.wait()  # type: ignore[attr-defined]
    except UsageError:
        end.wait()  # type: ignore[attr-defined]


def test_of_several_that_start_together_one_wins(tmp_path: Path):
    spawn = multiprocessing.get_context("spawn")
    start, end, won = spawn.Barrier(4), spawn.Barrier(4), spawn.Queue()
    racers = [spawn.Process(target=_race, args=(tmp_path, start, end, won)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(120)
    assert [racer.exitcode for racer in racers] == [0] * 4
    assert won.get(timeout=10) in [racer.pid for racer in racers] and won.empty()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x", "host": "h", "started": ""}'])
def test_a_damaged_record_is_no_obstacle(tmp_path: Path, text: str):
    (tmp_path / "lock.json").write_text(text)
    with RunLock(tmp_path) as lock:
        assert lock.left_by is None
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()


def test_a_holder_that_has_not_signed_yet(tmp_path: Path, holder: subprocess.Popen[str]):
    (tmp_path / "lock.json").unlink()
    with pytest.raises(UsageError, match="in use by another process"), RunLock(tmp_path):
        pytest.fail("held by two processes")


def test_a_record_of_another_host_is_told_and_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "lock.json").write_text('{"pid": 7, "host": "node-7", "started": "2026-01-01T00:00:00+09:00"}')
    with caplog.at_level(logging.WARNING), RunLock(tmp_path) as lock:
        assert lock.left_by is not None and lock.left_by.host == "node-7"
    assert "process 7 on node-7" in caplog.text


def test_an_exception_inside_ends_it(tmp_path: Path):
    with pytest.raises(RuntimeError), RunLock(tmp_path):
        raise RuntimeError
    assert try_it(tmp_path).stdout == "held\nended\n"


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(EnvironmentProblem, match="There is no run folder"), RunLock(tmp_path / "none"):
        pytest.fail("held what does not exist")
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(EnvironmentProblem, match="cannot be held"), RunLock(tmp_path):
        pytest.fail("held without a lock")


def test_a_full_disk_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(path: Path, content: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dlgsum.tracking.lock.write_json", full)
    with caplog.at_level(logging.WARNING), RunLock(tmp_path):
        assert try_it(tmp_path).returncode != 0
    assert "No space left" in caplog.text


# --- a file system that knows no locks ---


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", refuse)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_living_process_is_still_found(tmp_path: Path, holder: subprocess.Popen[str]):
    with pytest.raises(UsageError, match=str(holder.pid)), RunLock(tmp_path):
        pytest.fail("held by two processes")


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_dead_process_is_succeeded_with_a_warning(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
):
    holder.kill()
    holder.wait(60)
    with caplog.at_level(logging.WARNING), RunLock(tmp_path) as lock:
        assert lock.left_by is not None and lock.left_by.pid == holder.pid
    assert "without locks" in caplog.text
    assert not (tmp_path / "lock.json").exists()
