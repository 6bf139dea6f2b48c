"""The command `dlgsum sync`, without any server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dlgsum.cli.app import app
from dlgsum.core.files import append_jsonl, write_json
from dlgsum.recipes import sync as recipe
from dlgsum.recipes.sync import Synced
from dlgsum.tracking.run import RunFolder


def a_run(outputs: Path, mode: str) -> RunFolder:
    run = RunFolder.create(outputs)
    run.write_config(f"wandb: {{mode: {mode}}}\n")
    append_jsonl(run.metrics, {"step": 1, "time": 5.0, "metrics": {"train/loss": 1.0}})
    run.status("completed")
    return run


def test_a_dry_run_says_what_would_be_done(tmp_path: Path):
    wanted, not_wanted, there = a_run(tmp_path, "online"), a_run(tmp_path, "disabled"), a_run(tmp_path, "offline")
    write_json(there.path / "wandb_sync.json", {"rows": 1, "last": 5.0, "how": "online"})
    done = CliRunner().invoke(app, ["sync", "--dry-run", "--output-dir", str(tmp_path)])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["rebuild", "left", "nothing"]
    assert wanted.id in lines[0] and "W&B has no file of it on this machine" in lines[0]
    asked = ["sync", not_wanted.id, there.id, "--force", "--all", "--dry-run", "--json"]
    done = CliRunner().invoke(app, [*asked, "--output-dir", str(tmp_path)])
    found = json.loads(done.stdout)["runs"]
    assert [(run["run"], run["done"]) for run in found] == [(not_wanted.id, "rebuild"), (there.id, "rebuild")]


def test_no_runs_and_a_run_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done = CliRunner().invoke(app, ["sync", "--output-dir", str(tmp_path)])
    assert done.exit_code == 0 and done.stdout == "" and "There are no runs" in done.stderr

    def fails(*arguments: object, tell: object, **options: object) -> list[Synced]:
        synced = Synced("r1", "failed", "W&B said [no]", 3, "http://host/r1")
        tell(synced)  # type: ignore[operator]
        return [synced]

    monkeypatch.setattr(recipe, "sync", fails)
    done = CliRunner().invoke(app, ["sync"])
    assert done.exit_code == 4 and done.stdout == "failed    r1  W&B said [no]\n          http://host/r1\n"
