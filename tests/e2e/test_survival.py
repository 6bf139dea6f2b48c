"""Killed, stopped, damaged, out of disk: a run goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.survival import KILLED, SETTINGS, finish, record, run_of, start


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("straight")
    code, _, err = finish(start(folder, "train", *SETTINGS))
    assert code == 0, err
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was killed in a step, with two checkpoints."""
    folder = tmp_path_factory.mktemp("killed")
    assert finish(start(folder, "train", *SETTINGS, fault={"where": "step", "at": 8, "do": "kill"}))[0] == KILLED
    return folder


def resumed(folder: Path, *arguments: str, code: int = 0) -> str:
    got, _, err = finish(start(folder, "resume", *arguments))
    assert got == code, err
    assert "Traceback" not in err
    return err


FAULTS = {
    "killed in mid-save": ({"where": "save", "at": 6, "do": "kill"}, KILLED),
    "killed in an evaluation": ({"where": "evaluate", "at": 6, "do": "kill"}, KILLED),
    "disk full in mid-save": ({"where": "save", "at": 6, "do": "full"}, 4),
    "SIGTERM in a step": ({"where": "step", "at": 7, "do": "SIGTERM"}, 143),
    "SIGINT in an evaluation": ({"where": "evaluate", "at": 6, "do": "SIGINT"}, 130),
    "SIGUSR1 in mid-save": ({"where": "save", "at": 6, "do": "SIGUSR1"}, 143),
    "a crash": ({"where": "step", "at": 5, "do": "crash"}, 5),
}


def test_killed_in_a_step(straight: Path, killed: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(killed, tmp_path / "copy")
    assert "resumed     from step 6" in resumed(folder)
    assert record(folder) == record(straight)
    # Nothing is left to do, and saying so is no failure; but settings would be ignored.
    assert "is complete; there is nothing to resume" in resumed(folder)
    assert "settings cannot change it any more" in resumed(folder, "training.max_steps=99", code=2)
    results = [json.loads((run_of(one) / "training_results.json").read_text()) for one in (folder, straight)]
    assert results[0]["signature"] == results[1]["signature"]
    for result in results:
        result["best_metrics"].pop("runtime")
    assert results[0]["best_metrics"] == results[1]["best_metrics"]


_LONGER = (
    "killed in an evaluation",
    "SIGUSR1 in mid-save",
    "a crash",
    "SIGTERM in a step",
    "disk full in mid-save",
    "SIGINT in an evaluation",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in _LONGER else []) for name in FAULTS]
)
def test_a_fault_then_resume_equals_the_straight_run(straight: Path, tmp_path: Path, name: str) -> None:
    fault, expected = FAULTS[name]
    code, _, err = finish(start(tmp_path, "train", *SETTINGS, fault={**fault, "once": str(tmp_path / "once")}))
    assert code == expected, err
    run = run_of(tmp_path)
    if code > 0:
        assert f"dlgsum resume {run.name}" in err and "Traceback" not in err
    if expected == 4:
        assert "The disk is full" in err
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["checkpoint-3"]
    resumed(tmp_path, run.name)
    assert record(tmp_path) == record(straight)
    assert not list(run.rglob(".*.tmp"))


DAMAGE = {
    "no optimizer": ("optimizer.pt", None, "optimizer.pt is missing"),
    "no schedule": ("scheduler.pt", None, "scheduler.pt is missing"),
    "no random state": ("rng_state.pth", None, "rng_state.pth is missing"),
    "64 bytes flipped in the weights": ("model.safetensors", "flip", "model.safetensors"),
    "half a state": ("trainer_state.json", "cut", "trainer_state.json"),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.slow
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(
    straight: Path, killed: Path, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(killed, tmp_path / "copy")
    what, how, told = DAMAGE[name]
    newest = run_of(folder) / "checkpoints" / "checkpoint-6"
    _damage(newest / what, how)
    # The time of a file decides nothing.
    os.utime(newest.parent / "checkpoint-3", (2_000_000_000, 2_000_000_000))
    err = resumed(folder)
    assert "broken-checkpoint-6" in err and told in err and "resumed     from step 3" in err
    assert record(folder) == record(straight)


def _damage(path: Path, how: str | None) -> None:
    if how is None:
        path.unlink()
        return
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    else:
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    path.write_bytes(content)


@pytest.mark.slow
def test_a_flipped_bit_costs_one_checkpoint_and_no_more(straight: Path, killed: Path, tmp_path: Path) -> None:
    test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(
        straight, killed, tmp_path, "64 bytes flipped in the weights"
    )


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, "train", *SETTINGS, fault={"where": "step", "at": 2, "do": "hang"})
    _wait_for(lambda: list(tmp_path.glob("outputs/experiments/*/progress.json")))
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None  # the step does not end
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process, 20)
    assert code == 143 and "second signal" in err


def test_a_second_process_on_a_run_is_refused(tmp_path: Path) -> None:
    first = start(tmp_path, "train", *SETTINGS, fault={"where": "step", "at": 5, "do": "hang"})
    try:
        _wait_for(lambda: list(tmp_path.glob("outputs/experiments/*/checkpoints/checkpoint-3")))
        code, _, err = finish(start(tmp_path, "resume"))
        assert code == 2 and f"process {first.pid} on" in err, err
    finally:
        first.kill()
        first.communicate()


def test_a_changed_configuration_is_refused_with_a_diff(killed: Path) -> None:
    code, _, err = finish(start(killed, "resume", "training.learning_rate=1e-3", "monitoring.samples=3"))
    assert code == 2
    assert "training.learning_rate: 0.002 → 0.001" in err and "--force" in err and "samples" not in err


@pytest.mark.slow
def test_an_edited_configuration_is_refused_as_well(killed: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(killed, tmp_path / "copy")
    config = run_of(folder) / "config.yaml"
    config.write_text(config.read_text().replace("learning_rate: 0.002", "learning_rate: 0.5"), encoding="utf-8")
    assert "training.learning_rate: 0.002 → 0.5" in resumed(folder, code=2)


@pytest.mark.slow
def test_the_time_limit_saves_in_time(straight: Path, tmp_path: Path) -> None:
    code, _, err = finish(start(tmp_path, "train", *SETTINGS, "--time-limit", "2s"))
    assert code == 143, err
    assert "(time limit); everything is saved" in err
    resumed(tmp_path)
    assert record(tmp_path) == record(straight)


@pytest.mark.slow
def test_verify_proves_it_and_leaves_nothing(killed: Path) -> None:
    before = sorted(killed.rglob("*"))
    code, out, err = finish(start(killed, "resume", "latest", "--verify", "--json"))
    assert code == 0, err
    assert json.loads(out)["identical"] is True
    assert {path for path in killed.rglob("*") if "cache" not in path.parts} == {
        path for path in before if "cache" not in path.parts
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("resume", "nosuch"), "There is no run 'nosuch'"),
        (("train", "--time-limit", "soon"), "'soon' is no time limit"),
        (("resume", "latest", "training.lr=3"), "training.lr: there is no such setting"),
        (("resume", "--verify", "--nproc", "2"), "--verify takes neither --nproc"),
        (("train", "--dry-run", "--nproc", "2"), "--dry-run tries everything in one process"),
    ],
)
def test_what_cannot_be_resumed(killed: Path, arguments: tuple[str, ...], told: str) -> None:
    code, _, err = finish(start(killed, *arguments))
    assert code == 2 and told in err, err


def test_a_folder_without_runs(tmp_path: Path) -> None:
    assert "There are no runs in outputs/experiments" in resumed(tmp_path, code=2)


def _wait_for(found: Any, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.1)
