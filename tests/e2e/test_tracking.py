"""A run of `dlgsum train` is found, compared with what is recorded, and its model used by name."""

from __future__ import annotations

import json
from pathlib import Path

from dlgsum.cli.output import place
from dlgsum.recipes.use import find_model
from dlgsum.tracking.record import read_record
from dlgsum.tracking.run import RunFolder, list_runs
from tests.e2e.conftest import Dlgsum


def listed(dlgsum: Dlgsum, workplace: Path, *filters: str) -> list[dict[str, object]]:
    done = dlgsum("experiments", "list", *filters, "--json", cwd=workplace)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def the_run(workplace: Path) -> RunFolder:
    return list_runs(workplace / "outputs")[0]


def test_a_run_is_in_the_index_and_the_index_can_be_lost(dlgsum: Dlgsum, workplace: Path) -> None:
    run = the_run(workplace)
    database = workplace / "outputs" / "dlgsum.db"
    assert database.is_file()  # written by the training itself
    before = [row for row in listed(dlgsum, workplace) if row["id"] == run.id]
    assert before[0]["status"] == "completed" and before[0]["signature"]
    assert before[0]["best_metrics"] == json.loads(run.results.read_text())["best_metrics"]
    for path in database.parent.glob("dlgsum.db*"):
        path.unlink()
    assert [row for row in listed(dlgsum, workplace, "status=completed") if row["id"] == run.id] == before


def test_the_model_of_a_run_is_named(workplace: Path) -> None:
    run = the_run(workplace)
    found = find_model("models:dialogue_summarization@1", place(workplace / "outputs"))
    assert found.folder.resolve() == run.best_model.resolve()
    assert found.name == "dialogue_summarization-v1"


def test_what_a_run_leaves_for_people(workplace: Path) -> None:
    run = the_run(workplace)
    modes = {path.stat().st_mode for path in run.best_model.iterdir()}
    assert len(modes) == 1  # also of the weights: whoever may read the folder may use the model
    assert (run.visualizations / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    said = (workplace / "train.err").read_text(encoding="utf-8")
    assert "W&B is off; to switch it on: `wandb login`, then wandb.mode=online" in said
    assert "registered  models:dialogue_summarization-v1" in said
    record = read_record(run)
    assert record.status == "completed" and record.command and record.git_commit is None and record.versions["torch"]
    assert record.started is not None and record.ended is not None and record.ended > record.started
