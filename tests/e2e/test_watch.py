"""`dlgsum watch` as a process of its own, beside a run that reports, hangs, or is killed."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dlgsum.tracking.run import RunFolder
from tests.e2e.conftest import TINY
from tests.e2e.survival import start

# A run as its files show it: it reports until a file named "hang" lies in its folder, and ends when "end" does.
REPORTING = """
import sys, time
from pathlib import Path
from dlgsum.tracking.lock import RunLock
from dlgsum.tracking.progress import ProgressFile
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.stream import MetricStream
run, step = RunFolder(Path(sys.argv[1])), 0
beat, stream = ProgressFile(run.path), MetricStream(run.metrics)
with RunLock(run.path):
    run.status("running")
    run.event("start", processes=1)
    while not (run.path / "end").exists():
        if not (run.path / "hang").exists():
            step += 1
            stream.log(step, step / 10, {"train/loss": 3 / step})
            beat.beat(step, 1000)
        time.sleep(0.1)
    run.status("completed")
"""
# Runs the command line, then says on standard error what it had to import.
PROGRAM = """
import sys
sys.argv[0] = "dlgsum"
from dlgsum.cli.app import main
try:
    main()
finally:
    heavy = ("torch", "transformers", "datasets", "evaluate", "wandb", "kiwipiepy", "pandas", "apprise", "matplotlib")
    sys.stderr.write("HEAVY=" + ",".join(name for name in heavy if name in sys.modules))
"""


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Return the address of a real server, and what it was sent."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as it:
        thread = threading.Thread(target=it.serve_forever)
        thread.start()
        yield f"monitoring.alerts.urls=[json://127.0.0.1:{it.server_port}/]", got
        it.shutdown()
        thread.join()


@pytest.fixture
def reporting(tmp_path: Path) -> Iterator[RunFolder]:
    """Return the folder of a run that reports."""
    run = RunFolder.create(tmp_path / "outputs")
    run.write_config("metrics: {best: loss}\n")
    with subprocess.Popen([sys.executable, "-c", REPORTING, str(run.path)]) as process:
        yield run
        process.kill()


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err


def watching(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    it: subprocess.Popen[str] = start(folder, "watch", *arguments)
    return it


def test_a_run_that_falls_silent_is_told(
    reporting: RunFolder, server: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    address, got = server
    until(lambda: reporting.metrics.exists())
    (reporting.path / "hang").touch()
    code, out, err = end(watching(tmp_path, address, "--timeout", "1", "--exit-when-silent"))
    assert (code, err) == (4, "")
    assert "running  step" in out and "silent  step" in out and f"dlgsum resume {reporting.id}" in out
    [alert] = got
    assert "silent: nothing was reported for 1 s" in alert["title"]
    for part in ("Last: step", " of 1000, training loss", f"dlgsum resume {reporting.id}"):
        assert part in alert["message"]
    rows = [json.loads(line) for line in reporting.alerts.read_text().splitlines()]
    assert [row["kind"] for row in rows if row["row"] == "alert"] == ["silent"]


def test_it_ends_with_its_run_on_a_terminal_and_tells_that_it_goes_on(
    reporting: RunFolder, server: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    address, got = server
    terminal, other = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                shown.append(os.read(terminal, 65536))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read)
    process = subprocess.Popen(
        [sys.executable, "-m", "dlgsum", "watch", address, "--timeout", "1"],
        cwd=tmp_path, stdout=other, stderr=other, stdin=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    os.close(other)
    reader.start()
    try:
        until(lambda: b"running" in b"".join(shown))
        (reporting.path / "hang").touch()
        until(lambda: len(got) == 1)
        (reporting.path / "hang").unlink()
        until(lambda: len(got) == 2)
        (reporting.path / "end").touch()
        assert process.wait(60) == 0
    finally:
        process.kill()
        reader.join(10)
        os.close(terminal)
    assert ": silent: nothing" in got[0]["title"] and got[1]["title"].endswith("reports again after it was silent")
    text = b"".join(shown).decode()
    assert "/1000" in text and "\x1b[31m" in text and "completed" in text[-400:] and "Traceback" not in text


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_json_lines_and_leaving_it(reporting: RunFolder, tmp_path: Path, number: int, code: int) -> None:
    process = watching(tmp_path, "--json", "--every", "0.1", "--wait")
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.send_signal(number)
    got, _, err = end(process)
    assert got == code and err.endswith("Left; the run is not touched.\n") and "Traceback" not in err
    assert "Nobody is told" in err and "SLACK_WEBHOOK_URL, DISCORD_WEBHOOK_URL" in err
    assert {line["run"] for line in lines} == {reporting.id} and lines[-1]["condition"] == "running"
    assert lines[-1]["loss"] > 0 and lines[-1]["total"] == 1000


def test_one_look_needs_nothing_heavy(tmp_path: Path) -> None:
    def look(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "watch", *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "COLUMNS": "80"},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    assert look() == (2, "", "error: There are no runs in outputs/experiments\nStart one with `dlgsum train`.\nHEAVY=")
    run = RunFolder.create(tmp_path / "outputs")
    run.write_config("{}")
    run.status("failed", reason="DataError: 행이 없습니다")
    code, out, err = look("--once")
    assert (code, err) == (5, "HEAVY=")
    assert "행이 없습니다" in out and f"dlgsum resume {run.id}" in out and "\x1b" not in out
    assert look("latest")[::2] == (5, "HEAVY="), "who is told of silence does not matter any more"
    code, out, err = look("latest", "--once", "--json")
    assert (code, err, json.loads(out)["condition"]) == (5, "HEAVY=", "failed")


@pytest.mark.slow
def test_a_training_that_hangs_and_is_killed(server: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    address, got = server
    small = ["data=sample", "data.max_train_samples=32", "data.max_eval_samples=4", "training.logging_steps=1"]
    training = start(tmp_path, "train", *TINY, *small, fault={"where": "step", "at": 5, "do": "hang"})
    process = watching(tmp_path, "--wait", address, "--timeout", "2", "--every", "0.1")
    try:
        until(lambda: bool(got), 120)
        training.kill()
        code, out, err = end(process)
    finally:
        training.kill()
        process.kill()
        training.communicate()
    assert code == 5, err
    assert "step 4" in out and "silent" in out and "lost" in out and "Traceback" not in err
    assert ["silent: nothing" in got[0]["title"], "lost: " in got[1]["title"], len(got)] == [True, True, 2]
    assert "Last: step 4" in got[0]["message"] and "training loss" in got[0]["message"]
