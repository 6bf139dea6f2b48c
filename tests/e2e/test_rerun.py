"""`dlgsum experiments rerun` as real processes: on one machine the weights are the same, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlgsum.core.files import read_json, sha256_file
from tests.e2e.conftest import Dlgsum
from tests.e2e.test_main_job import run_folder


def test_a_run_and_its_rerun_have_the_same_weights(workplace: Path, dlgsum: Dlgsum, tmp_path: Path) -> None:
    run = run_folder(workplace)
    done = dlgsum("experiments", "rerun", str(run), "--output-dir", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [again] = (tmp_path / "experiments").iterdir()
    first, second = (sha256_file(it / "models" / "best_model" / "model.safetensors") for it in (run, again))
    assert first == second
    assert f"weights     the same weights, bit for bit (sha256 {first[:12]})" in done.stdout
    assert "differs     nothing that is recorded" in done.stderr
    parent = read_json(again / "parent.json")
    assert (parent["kind"], parent["id"]) == ("rerun", run.name)


@pytest.mark.slow
def test_another_seed_gives_other_weights_and_says_why(workplace: Path, dlgsum: Dlgsum, tmp_path: Path) -> None:
    run = run_folder(workplace)
    done = dlgsum(
        "experiments", "rerun", str(run), "general.seed=7", "--json", "--output-dir", str(tmp_path), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["rerun"]
    assert found["same"] is False and found["weights_then"] != found["weights_now"]
    assert found["reasons"] == ["general.seed: 42 → 7"]
    scores = {name: value for name, value in found["metrics_then"].items() if name != "runtime"}
    saved = read_json(run / "training_results.json")["best_metrics"]
    assert scores == {name: value for name, value in saved.items() if name != "runtime"}


@pytest.mark.slow
def test_two_processes_repeat_two_processes(workplace: Path, dlgsum: Dlgsum, tmp_path: Path) -> None:
    run = run_folder(workplace)
    asked = ("--nproc", "2", "--json", "--output-dir", str(tmp_path))
    first = dlgsum("experiments", "rerun", str(run), *asked, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "processes: 1 → 2" in first.stderr
    again = dlgsum("experiments", "rerun", json.loads(first.stdout)["run_id"], *asked, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)["rerun"]
    assert (found["changed"], found["same"]) == ([], True)
