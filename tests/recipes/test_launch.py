"""The supervisor with real torchrun and real processes; the workers are stand-ins that speak its contract."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from dlgsum.config.schema import Distributed
from dlgsum.core.errors import DataError, DlgsumError, EnvironmentProblem, Interrupted, TrainingFailed, UsageError
from dlgsum.core.files import read_jsonl
from dlgsum.recipes import launch
from dlgsum.recipes.attempt import Failure, Pulse, read_failures, reason_of
from dlgsum.recipes.launch import Outcome, supervise
from dlgsum.tracking.run import RunFolder

WORKER = str(Path(__file__).with_name("stand_in_worker.py"))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path)


def job(run: RunFolder, what: str, *, processes: int = 2, time_limit: float | None = None, **settings: int) -> Outcome:
    return supervise(
        run,
        processes=processes,
        settings=Distributed(**{"timeout": 60, "hang_timeout": 60, "max_relaunches": 3, **settings}),
        worker=[WORKER, str(run.path), what],
        time_limit=time_limit,
        environ={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
    )


def relaunches(run: RunFolder) -> list[dict[str, Any]]:
    events = run.path / "events.jsonl"
    return [row for row in read_jsonl(events) if row["event"] == "relaunch"] if events.exists() else []


@pytest.mark.slow
def test_two_processes_finish(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    assert job(run, "together") == Outcome(1, [])
    cores = len(os.sched_getaffinity(0))
    assert [(run.path / f"done_{rank}").read_text() for rank in (0, 1)] == [f"2 {max(1, cores // 2)}"] * 2
    assert relaunches(run) == []
    written = capfd.readouterr()
    assert written.out == "rank 0 speaks\n"  # the first rank has our terminal, the others a file
    assert written.err == ""  # and torchrun speaks elsewhere
    assert "rank 1 speaks" in (run.path / "logs" / "rank_1.log").read_text()


def test_a_rank_that_dies_is_started_again_with_all_others(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        outcome = job(run, "die_once")
    assert outcome.attempts == 2
    assert outcome.relaunches[0].startswith("rank 1 died with exit code 17")
    assert [(row["attempt"], row["reason"]) for row in relaunches(run)] == [(2, outcome.relaunches[0])]
    assert "rank 1 died with exit code 17" in caplog.text
    assert (run.path / "done_0").exists() and (run.path / "done_1").exists()
    log = (run.path / "logs" / "rank_1.log").read_text()
    assert log.count("rank 1 speaks") == 2  # the words of an attempt are not overwritten by the next


@pytest.mark.slow
def test_attempts_are_bounded(run: RunFolder) -> None:
    with pytest.raises(TrainingFailed) as raised:
        job(run, "die", max_relaunches=1)
    assert raised.value.exit_code == 5
    assert raised.value.message == (
        "The 2 processes failed: rank 1 died with exit code 17. Attempts: 2; "
        "relaunches without a new checkpoint: 1 (distributed.max_relaunches)."
    )
    assert str(run.path / "logs") in raised.value.hint
    assert "There is no checkpoint yet" in raised.value.hint
    assert len(relaunches(run)) == 1


def test_a_final_failure_is_not_tried_again(run: RunFolder) -> None:
    with pytest.raises(DataError) as raised:
        job(run, "final")
    assert (raised.value.message, raised.value.hint) == ("rank 1 says 3", "a hint")
    assert relaunches(run) == []


@pytest.mark.slow
def test_a_hang_is_found_and_cured(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    (run.path / "progress.json").write_text('{"attempt": 1, "beat": 99}')  # left by an earlier command
    outcome = job(run, "hang", hang_timeout=3)
    assert outcome.attempts == 2
    assert outcome.relaunches == ["no progress after step 3 for 3 s (distributed.hang_timeout)"]
    assert not psutil.pid_exists(int((run.path / "hung").read_text())), "a stopped process must be killed as well"
    assert "in wait_for_ever" in capfd.readouterr().err, "the stack says where the first rank stood"


@pytest.mark.slow
def test_attempts_of_an_earlier_command_are_not_taken_for_new_ones(run: RunFolder) -> None:
    old = run.path / "attempts" / "7"
    old.mkdir(parents=True)
    record = {"exit_code": 3, "kind": "DataError", "message": "old", "hint": "", "final": True}
    (old / "rank_0.json").write_text(json.dumps(record))
    with pytest.raises(TrainingFailed, match=r"rank 1 was killed \(SIGKILL\)"):
        job(run, "killed", max_relaunches=0)
    assert relaunches(run) == []
    assert (run.path / "attempts" / "8" / "group.json").exists()


def test_wrong_calls(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--nproc 0"):
        job(run, "together", processes=0)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="one of 2 that torchrun started"):
        job(run, "together")


# --- signals: the supervisor in a process of its own ---

SUPERVISOR = """
import sys
from pathlib import Path
from dlgsum.config.schema import Distributed
from dlgsum.core.errors import DlgsumError
from dlgsum.recipes.launch import supervise
from dlgsum.tracking.run import RunFolder
run = RunFolder(Path(sys.argv[1]))
settings = Distributed(timeout=int(sys.argv[4]), hang_timeout=60, max_relaunches=3)
try:
    supervise(run, processes=2, settings=settings, worker=[sys.argv[2], sys.argv[1], sys.argv[3]])
except DlgsumError as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""


class Supervisor:
    """A supervisor whose workers have come to wait for a signal."""

    def __init__(self, run: RunFolder, what: str, timeout: int = 60) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(run.path), WORKER, what, str(timeout)],
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: all((run.path / f"waiting_{rank}").exists() for rank in (0, 1)))
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        assert len(self.family) == 3, "torchrun and two workers"

    def output(self) -> str:
        return self.process.communicate(timeout=60)[0]

    def nothing_is_left(self) -> None:
        wait_until(lambda: not any(map(runs, self.family)))


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def start(run: RunFolder) -> Any:
    started: list[Supervisor] = []

    def begin(what: str, timeout: int = 60) -> Supervisor:
        started.append(Supervisor(run, what, timeout))
        return started[-1]

    yield begin
    for supervisor in started:
        supervisor.process.kill()
        supervisor.process.wait()
        if supervisor.process.stdout:
            supervisor.process.stdout.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 143)], ids=str)
def test_a_signal_is_passed_on_and_the_workers_save(
    run: RunFolder, start: Callable[..., Supervisor], number: signal.Signals, code: int
) -> None:
    supervisor = start("save_on_signal")
    supervisor.process.send_signal(number)
    assert supervisor.output() == f"rank 0 speaks\nInterrupted saved after signal {int(number)}\na hint\n"
    assert supervisor.process.returncode == code
    assert relaunches(run) == []
    supervisor.nothing_is_left()


@pytest.mark.slow
def test_a_scheduler_that_signals_every_process(start: Callable[..., Supervisor]) -> None:
    supervisor = start("save_on_signal")
    for process in (*supervisor.family, supervisor.process):
        process.send_signal(signal.SIGTERM)
    assert "saved after signal 15" in supervisor.output()
    assert supervisor.process.returncode == 143


def test_a_second_signal_kills_at_once(run: RunFolder, start: Callable[..., Supervisor]) -> None:
    supervisor = start("stubborn")
    supervisor.process.send_signal(signal.SIGINT)
    wait_until(lambda: (run.path / "told_0").exists() and (run.path / "told_1").exists())
    supervisor.process.send_signal(signal.SIGTERM)
    assert "The second signal killed all processes" in supervisor.output()
    assert supervisor.process.returncode == 143
    supervisor.nothing_is_left()


@pytest.mark.slow
def test_workers_that_do_not_end_are_killed_in_the_end(start: Callable[..., Supervisor]) -> None:
    supervisor = start("stubborn", timeout=2)
    supervisor.process.send_signal(signal.SIGTERM)
    assert "they did not end within 2 s (distributed.timeout)" in supervisor.output()
    assert supervisor.process.returncode == 143
    supervisor.nothing_is_left()


def test_no_orphans_when_the_supervisor_is_killed(start: Callable[..., Supervisor]) -> None:
    supervisor = start("stubborn")
    supervisor.process.kill()
    supervisor.nothing_is_left()


@pytest.mark.slow
def test_a_killed_torchrun_takes_its_workers_along_and_is_started_again(
    run: RunFolder, start: Callable[..., Supervisor]
) -> None:
    supervisor = start("stubborn")
    pids = [(run.path / f"pid_{rank}").read_text() for rank in (0, 1)]
    torchrun = next(process for process in supervisor.family if str(process.pid) not in pids)
    torchrun.kill()
    supervisor.nothing_is_left()
    wait_until(lambda: bool(relaunches(run)))
    assert relaunches(run)[0]["reason"] == "torchrun was killed (SIGKILL)"


# --- a stand-in for torchrun as well: what is done about an ending does not depend on how it came about ---


@pytest.fixture
def ending(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets Python code to run in place of torchrun, and shortens the pauses.

    The code finds ``run``, ``attempt`` (the folder) and ``k``, and leaves how the ranks ended with ``ranks``.
    """
    frame = """
import json, os, sys
from pathlib import Path
attempt, run, k = Path(sys.argv[1]), Path(sys.argv[1]).parent.parent, int(os.environ["DLGSUM_ATTEMPT"])
def ranks(*entries):
    failures = []
    for rank, (code, stopped, record) in enumerate(entries):
        failures.append({"rank": rank, "exit_code": code, "stopped": stopped})
        if record:
            (attempt / f"rank_{rank}.json").write_text(json.dumps({"exit_code": code, "hint": "", **record}))
    (attempt / "group.json").write_text(json.dumps({"failures": failures}))
    sys.exit(1)
"""

    def use(code: str) -> None:
        monkeypatch.setattr(
            launch.group, "command", lambda *, report, **other: [sys.executable, "-c", frame + code, str(report.parent)]
        )
        monkeypatch.setattr(launch, "_LONGEST_PAUSE", 0.0)

    return use


def test_new_checkpoints_allow_new_attempts(run: RunFolder, ending: Callable[..., None]) -> None:
    ending("""
if k < 4:
    (run / "checkpoints" / f"checkpoint-{k * 10}").mkdir()
    ranks((17, False, None), (-15, True, None))
""")
    assert job(run, "", max_relaunches=1) == Outcome(4, ["rank 0 died with exit code 17"] * 3)


def test_the_same_checkpoint_again_is_no_progress(run: RunFolder, ending: Callable[..., None]) -> None:
    ending("""
(run / "checkpoints" / "checkpoint-10").mkdir(exist_ok=True)
(run / "checkpoints" / "checkpoint-best").mkdir(exist_ok=True)
ranks((17, False, None), (-15, True, None))
""")
    with pytest.raises(TrainingFailed) as raised:
        job(run, "", max_relaunches=2)
    assert "Attempts: 3; relaunches without a new checkpoint: 2" in raised.value.message
    assert "Go on from checkpoint-10 with: dlgsum resume " in raised.value.hint
    assert raised.value.hint.endswith(f"{run.path} --nproc 2")


def test_no_attempt_begins_after_the_time_limit(run: RunFolder, ending: Callable[..., None]) -> None:
    ending("ranks((0, False, None), (17, False, None))")
    with pytest.raises(Interrupted, match="time limit") as raised:
        job(run, "", time_limit=0.01)
    assert raised.value.exit_code == 143
    assert "rank 1 died with exit code 17" in raised.value.message


STOPPED = '{"kind": "Interrupted", "message": "saved", "final": True}'


def test_ranks_that_stopped_by_themselves_are_not_started_again(run: RunFolder, ending: Callable[..., None]) -> None:
    ending(f"ranks((143, False, {STOPPED}), (-15, True, None))")  # as with a time limit
    with pytest.raises(Interrupted, match="saved"):
        job(run, "")


def test_ranks_that_torchrun_stopped_are_started_again(run: RunFolder, ending: Callable[..., None]) -> None:
    ending(f"if k == 1: ranks((143, False, {STOPPED}), (17, False, None))")
    assert job(run, "") == Outcome(2, ["rank 1 died with exit code 17"])


def test_a_final_failure_wins_over_an_interruption(run: RunFolder, ending: Callable[..., None]) -> None:
    ending(f"""
ranks((143, False, {STOPPED}), (4, False, {{"kind": "EnvironmentProblem", "message": "disk full", "final": True}}))
""")
    with pytest.raises(EnvironmentProblem, match="disk full"):
        job(run, "")


def test_the_first_rank_knows_best_why_it_failed(run: RunFolder, ending: Callable[..., None]) -> None:
    word = '{"kind": "E", "message": "%s", "final": True}'
    ending(f"""
ranks((3, False, {word % "no such file"}), (4, False, {word % "the first process failed"}))
""")
    with pytest.raises(DataError, match="no such file"):
        job(run, "")


def test_pauses_grow_up_to_a_limit(run: RunFolder, ending: Callable[..., None], monkeypatch: Any) -> None:
    ending("ranks((17, False, None))")
    monkeypatch.setattr(launch, "_LONGEST_PAUSE", 5.0)
    monkeypatch.setattr(launch._Supervisor, "_pause", lambda self, seconds: None)
    with pytest.raises(TrainingFailed):
        job(run, "", max_relaunches=5)
    assert [row["pause"] for row in relaunches(run)] == [1, 2, 4, 5, 5]


# --- without processes ---


def test_the_pulse(tmp_path: Path) -> None:
    now = 100.0
    path = tmp_path / "progress.json"
    pulse = Pulse(path, attempt=2, limit=3, clock=lambda: now)

    def after(seconds: float, **content: object) -> bool:
        nonlocal now
        now += seconds
        if content:
            path.write_text(json.dumps(content))
        return pulse.hangs()

    assert not any(after(1) for _ in range(50)), "before the first beat nothing is known"
    assert not any(after(1, attempt=1, beat=9) for _ in range(50)), "the beat of another attempt is none"
    assert not after(1, attempt=2, beat=1, step=4)
    assert not after(1) and not after(1)
    assert not after(1, attempt=2, beat=2, step=5), "a beat in time"
    assert not after(3600), "a machine that slept is not a hang"
    path.write_text("{")
    assert after(1), "a file that cannot be read is no sign of life"
    assert pulse.step == 5
    os.utime(path)
    assert after(0.1), "nor is a new date of the file"
    assert not after(1, attempt=2, beat=3)


def test_a_complete_run_may_wait_for_its_trackers(tmp_path: Path) -> None:
    now = 0.0
    pulse = Pulse(tmp_path / "progress.json", attempt=1, limit=3, clock=lambda: now, closing=10)

    def silent_for(seconds: int, phase: str) -> bool:
        nonlocal now
        (tmp_path / "progress.json").write_text(json.dumps({"attempt": 1, "beat": phase, "phase": phase}))
        pulse.hangs()
        found = []
        for _ in range(seconds):
            now += 1
            found.append(pulse.hangs())
        return any(found)

    assert not silent_for(12, "closing")
    assert silent_for(2, "closing")  # 14 in all: not for ever
    assert silent_for(3, "saving")


def test_no_limit_no_hang(tmp_path: Path) -> None:
    now = 0.0
    (tmp_path / "progress.json").write_text('{"attempt": 1, "beat": 1}')
    pulse = Pulse(tmp_path / "progress.json", attempt=1, limit=0, clock=lambda: now)
    for _ in range(5000):
        now += 1
        assert not pulse.hangs()


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        (1, TrainingFailed, 5),
        (2, UsageError, 2),
        (3, DataError, 3),
        (4, EnvironmentProblem, 4),
        (5, TrainingFailed, 5),
        (130, Interrupted, 130),
        (143, Interrupted, 143),
    ],
)
def test_records_become_the_errors_that_they_were(code: int, kind: type[DlgsumError], exit_code: int) -> None:
    error = Failure(0, code, kind="Any", message="m", hint="h", final=True).error()
    assert type(error) is kind
    assert (error.exit_code, error.message, error.hint) == (exit_code, "m", "h")


def test_the_cause_is_named_before_its_consequences(tmp_path: Path) -> None:
    group = [
        {"rank": 2, "exit_code": 5, "stopped": False},
        {"rank": 1, "exit_code": -11, "stopped": False},
        {"rank": 0, "exit_code": -15, "stopped": True},
        {"rank": 3, "exit_code": -9, "stopped": True},
    ]
    (tmp_path / "group.json").write_text(json.dumps({"failures": group}))
    record = {"exit_code": 5, "kind": "GroupBroken", "message": "lost " * 99 + "\nmore", "hint": None, "final": False}
    (tmp_path / "rank_2.json").write_text(json.dumps(record))
    failures = read_failures(tmp_path)
    assert [failure.rank for failure in failures] == [2, 1, 0, 3]
    reason = reason_of(failures, 1)
    assert reason.startswith("rank 1 was killed (SIGSEGV); rank 2 failed: lost lost")
    assert reason.endswith("lost …") and len(reason) < 260


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"kind": "X"}', '{"exit_code": "a", "kind": "X"}'])
def test_unreadable_records_are_absent(tmp_path: Path, text: str) -> None:
    (tmp_path / "rank_0.json").write_text(text)
    (tmp_path / "group.json").write_text(text)
    assert read_failures(tmp_path) == []
    assert reason_of([], -9) == "torchrun was killed (SIGKILL)"
    assert reason_of([], 1) == "torchrun ended with exit code 1"


def test_ranks_that_were_only_stopped_are_better_than_no_reason() -> None:
    assert reason_of([Failure(0, -15, stopped=True)], 1) == "rank 0 was killed (SIGTERM)"
