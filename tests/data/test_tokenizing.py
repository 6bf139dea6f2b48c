"""Tokenizing in several processes: the same tokens, and no process left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from worker_encoders import Broken, Full, Killed, Letters, Noisy, Slow, Wrong

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.data import encode, tokenizing
from dlgsum.data.encode import EncodedSplit, encode_split
from dlgsum.data.rows import Dialogue, Split, make_split
from dlgsum.data.tokenizing import how_many

ROWS = 4_321


def split(rows: int = ROWS) -> Split:
    return make_split(
        "train", "made", (Dialogue(str(i), str(i), ("요약" * (i % 3),) if i % 3 else ()) for i in range(rows))
    )


def children(parent: int | None = None) -> list[int]:
    done = subprocess.run(
        ["ps", "--ppid", str(parent or os.getpid()), "-o", "pid=,args="], capture_output=True, text=True
    )
    return [int(line.split()[0]) for line in done.stdout.splitlines() if "tokenize_worker" in line]


def same(one: EncodedSplit, other: EncodedSplit) -> bool:
    names = ("source_lengths", "target_lengths", "full_source_lengths", "full_target_lengths")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names) and all(
        one[index] == other[index] for index in range(len(one))
    )


@pytest.fixture(scope="module")
def alone() -> EncodedSplit:
    return encode_split(split(), Letters(), cache_dir=None)


@pytest.mark.parametrize("processes", [1, 2, 9])
def test_the_same_tokens_with_any_number_of_processes(tmp_path, alone, processes):
    seen: list[tuple[int, int]] = []
    encoded = encode_split(
        split(), Letters(), cache_dir=tmp_path, processes=processes, progress=lambda *of: seen.append(of)
    )
    assert same(encoded, alone) and children() == []
    assert seen[-1] == (ROWS, ROWS) and len(seen) == 5 and seen == sorted(seen)
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("*.arrow"))) == min(processes, 5)
    again = encode_split(split(), Letters(), cache_dir=tmp_path, processes=2)
    assert again.reused and same(again, alone), "whoever wrote the cache"


def test_rows_that_are_no_store(tmp_path, alone):
    rows = split()
    plain = Split("train", "", tuple(rows.rows), (), {}, rows.fingerprint)
    assert same(encode_split(plain, Letters(), cache_dir=tmp_path, processes=2), alone)


def test_uncached(monkeypatch, alone):
    monkeypatch.setattr(encode, "MEMORY_ROWS", 10)
    assert same(encode_split(split(), Letters(), cache_dir=None, processes=2), alone)


def test_how_many(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    assert [how_many(rows, None) for rows in (0, 12_457, 29_999)] == [1, 1, 1]
    assert [how_many(rows, None) for rows in (30_000, 60_000, 10**6)] == [3, 6, 8]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(500), raising=False)
    assert how_many(10**7, None) == tokenizing.MOST
    assert [how_many(rows, 4) for rows in (0, 1, 1001, 10**6)] == [1, 1, 2, 4]


def test_a_killed_process_is_an_error(tmp_path):
    started = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=r"killed \(SIGKILL\)(.|\n)*data\.processes=1") as caught:
        encode_split(split(), Killed(), cache_dir=tmp_path, processes=2)
    assert caught.value.exit_code == 4 and time.monotonic() - started < 20
    assert children() == [] and list(tmp_path.iterdir()) == []


def test_a_process_that_is_killed_from_outside(tmp_path):
    def kill() -> None:
        while not (found := children()):
            time.sleep(0.05)
        os.kill(found[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(EnvironmentProblem, match="SIGKILL"):
        encode_split(split(), Slow(), cache_dir=tmp_path, processes=2)
    thread.join()
    assert children() == [] and list(tmp_path.iterdir()) == []


def test_errors_of_the_encoder_come_through(tmp_path):
    with pytest.raises(ValueError, match="999 rows for 1000 texts"):
        encode_split(split(), Wrong(), cache_dir=tmp_path, processes=2)
    with pytest.raises(RuntimeError, match="KeyError: '가나다'"):
        encode_split(split(), Broken(), cache_dir=tmp_path, processes=2)
    assert children() == []


def test_a_full_disk_in_another_process(tmp_path, monkeypatch, caplog, alone):
    monkeypatch.setenv("TEST_PARENT", str(os.getpid()))
    encoded = encode_split(split(), Full(), cache_dir=tmp_path, processes=2)
    assert same(encoded, alone) and "No space left on device" in caplog.text


def test_what_libraries_print_disturbs_nothing(tmp_path, capfd, alone):
    assert same(encode_split(split(), Noisy(), cache_dir=tmp_path, processes=2), alone)
    assert capfd.readouterr().out == ""


def test_an_encoder_that_cannot_be_sent_works_here(tmp_path, alone):
    class Local(Letters):
        pass

    assert same(encode_split(split(), Local(), cache_dir=tmp_path, processes=2), alone)


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from worker_encoders import Slow
from dlgsum.data.tokenizing import write_shards
from dlgsum.data.rows import Dialogue, make_split
print("started", flush=True)
rows = make_split("x", "", (Dialogue(str(i), str(i), ()) for i in range(4000))).rows
write_shards(rows, Slow(), Path({cache!r}), processes=2, progress=None)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_job_leaves_no_process(tmp_path, number):
    """No guard against being run again, either: a user's script is not started a second time."""
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), cache=str(tmp_path)))
    job = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    deadline = time.monotonic() + 30
    while len(found := children(job.pid)) < 2:
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.05)
    job.send_signal(number)
    out, err = job.communicate(timeout=30)
    assert out.count("started") == 1
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() and "tokenize_worker" in _arguments(pid) for pid in found):
        assert time.monotonic() < deadline, "left behind"
        time.sleep(0.05)


def _arguments(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_processes_load_nothing_heavy():
    code = (
        "import sys, dlgsum.data.tokenize_worker, dlgsum.data.token_table, dlgsum.models.encoding\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_encoder_that_is_sent_is_the_light_one():
    class Heavy(Letters):
        def portable(self) -> Letters:
            return Letters()

        def __reduce__(self):
            raise TypeError("too heavy")

    assert isinstance(tokenizing._message(Heavy()), Letters)
    with pytest.raises(TypeError):
        pickle.dumps(Heavy())
