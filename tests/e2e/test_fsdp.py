"""`distributed.engine=fsdp` in two processes (gloo on the CPU): what ddp learns, with the files of a single process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from tests.e2e.conftest import TINY
from tests.e2e.survival import finish, record, run_of, start

# Dropout is on, batches are accumulated and of unlike size: 63 rows in batches of 4.
SETTINGS = [
    *TINY, "data=sample", "data.max_train_samples=63", "data.max_eval_samples=9", "training.num_train_epochs=3",
    "training.per_device_train_batch_size=4", "training.gradient_accumulation_steps=2", "training.eval_strategy=steps",
    "training.eval_steps=6", "training.logging_steps=5", "training.learning_rate=2e-3", "monitoring.samples=0",
    "metrics.best=loss",
]  # fmt: skip
FSDP = ("distributed.engine=fsdp", "--nproc", "2")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("fsdp")
    code, out, err = finish(start(folder, "train", *SETTINGS, *FSDP))
    assert code == 0, err
    assert "best model" in out and "Traceback" not in err
    return folder


@pytest.mark.slow
def test_a_run_leaves_what_a_single_process_would(shared: Path) -> None:
    run = run_of(shared)
    assert json.loads((run / "status.json").read_text())["status"] == "completed"
    [newest, *_] = sorted((run / "checkpoints").iterdir(), key=lambda path: -int(path.name.partition("-")[2]))
    files = {path.name for path in newest.iterdir()}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth"} <= files
    assert not [name for name in files if "fsdp" in name]
    # Plain transformers has the model, and plain torch the optimizer, both whole.
    model, told = AutoModelForSeq2SeqLM.from_pretrained(run / "models" / "best_model", output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.architectures == ["BartForConditionalGeneration"]
    state = torch.load(newest / "optimizer.pt", weights_only=True)["state"]
    sizes = sorted(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert sorted(values["exp_avg"].numel() for values in state.values()) == sizes
    # One process without FSDP gives the saved model the scores that two gave it in training, each with a copy of it.
    best = json.loads((run / "training_results.json").read_text())["best_metrics"]
    code, out, err = finish(start(shared, "evaluate", "latest", "--json"))
    assert code == 0, err
    assert json.loads(out)["metrics"] == pytest.approx({name: best[name] for name in best if name != "runtime"})


@pytest.mark.slow
def test_fsdp_learns_what_ddp_learns(shared: Path, tmp_path: Path) -> None:
    code, _, err = finish(start(tmp_path, "train", *SETTINGS, "--nproc", "2"))
    assert code == 0, err
    (mine, _), (theirs, _) = record(shared), record(tmp_path)
    assert [step for step, _ in mine] == [step for step, _ in theirs]
    for (_, one), (_, other) in zip(mine, theirs, strict=True):
        # The same numbers are added in another order, which moves the last of seven digits at each step.
        assert one == pytest.approx(other, rel=1e-4)
    one, other = (
        load_file(run_of(folder) / "models" / "best_model" / "model.safetensors") for folder in (shared, tmp_path)
    )
    assert one.keys() == other.keys()
    for name, weights in one.items():
        # The bias of a key shifts all scores of a query alike and has no gradient but rounding, which Adam blows up
        # to steps of full length in a direction of its own. It changes nothing that the model says.
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(weights, other[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
def test_a_signal_then_resume_equals_the_straight_run(shared: Path, tmp_path: Path) -> None:
    fault = {"where": "step", "at": 8, "do": "SIGTERM", "rank": 1}
    code, _, err = finish(start(tmp_path, "train", *SETTINGS, *FSDP, fault=fault))
    assert code == 143, err
    code, _, err = finish(start(tmp_path, "resume", "--nproc", "2"))
    assert code == 0, err
    assert "resumed     from step 8" in err
    (metrics, weights), (expected, others) = record(tmp_path), record(shared)
    assert metrics == expected
    # The stop added a checkpoint of its own, in whose place the straight run still has an earlier one.
    kept = {name for name in weights if "checkpoint-8/" not in name}
    assert any("best_model" in name for name in kept) and any("checkpoint-" in name for name in kept)
    assert {name: weights[name] for name in kept} == {name: others[name] for name in kept}


@pytest.mark.slow
def test_smaller_parts_are_as_many_in_each_process(shared: Path, tmp_path: Path) -> None:
    fault = {"where": "step", "at": 8, "do": "oom", "rank": 1, "once": str(tmp_path / "once")}
    settings = [*SETTINGS, "model.mini.dropout=0", "training.num_train_epochs=2", "distributed.timeout=30"]
    runs = {name: tmp_path / name for name in ("whole", "parts")}
    for name, folder in runs.items():
        code, _, err = finish(start(folder, "train", *settings, *FSDP, fault=fault if name == "parts" else None))
        assert code == 0, err
    assert json.loads((run_of(runs["parts"]) / "micro_batches.json").read_text())["parts"] == 2
    for (_, one), (_, other) in zip(record(runs["parts"])[0], record(runs["whole"])[0], strict=True):
        assert one == pytest.approx(other, rel=1e-3)  # as above, from another number of sums


@pytest.mark.slow
def test_a_step_that_is_not_finite_in_one_process_is_skipped_in_all(tmp_path: Path) -> None:
    fault = {"where": "step", "at": 5, "do": "nan", "rank": 1}
    settings = [*SETTINGS, "training.gradient_accumulation_steps=1", "training.num_train_epochs=1"]
    code, _, err = finish(start(tmp_path, "train", *settings, *FSDP, fault=fault))
    assert code == 0, err
    assert "step 5: The gradient norm is nan; the step was skipped" in err
    run = run_of(tmp_path)
    assert "step 5 is skipped" in (run / "logs" / "rank_1.log").read_text()
    assert all(
        torch.isfinite(weights).all() for weights in load_file(run / "models/best_model/model.safetensors").values()
    )


@pytest.mark.slow
def test_either_engine_and_any_number_of_processes_can_go_on(shared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shared, tmp_path / "copy")
    run = run_of(folder)
    steps = sorted(int(path.name.partition("-")[2]) for path in (run / "checkpoints").iterdir())
    shutil.rmtree(run / "checkpoints" / f"checkpoint-{steps[-1]}")
    (run / "training_results.json").unlink()
    (run / "status.json").write_text('{"status": "interrupted"}')
    code, _, err = finish(start(folder, "resume", "distributed.engine=ddp", "--force", "--nproc", "2"))
    assert code == 0, err
    assert f"resumed     from step {steps[-2]}" in err
    for (_, one), (_, other) in zip(record(folder)[0], record(shared)[0], strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.slow
def test_what_cannot_be_shared_out_is_said_at_once(tmp_path: Path) -> None:
    code, _, err = finish(start(tmp_path, "train", *SETTINGS, *FSDP, "training.optim=adafactor"))
    assert code == 2 and "training.optim=adafactor needs whole weights" in err and "started again" not in err, err
