"""An interrupted and resumed run is the straight run, bit for bit: weights, metrics, best models, early stopping."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from dlgsum import DialogueSummarizationTrainer
from dlgsum.core.errors import DataError, Interrupted, UsageError
from dlgsum.recipes.limits import Limits
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.stream import OF_THE_MACHINE

Make = Callable[..., Any]
# Checkpoints at steps that are no steps of the log, and in the middle of epochs.
STEPS = {"num_train_epochs": 3, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "auto", "logging_steps": 5}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "lengths": {},
    "random": {"training": {"batching": "random"}},
    "tokens": {"training": {"batching": "tokens", "tokens_per_batch": 900}},
    "accumulation": {"training": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}},
    "workers": {"training": {"dataloader_num_workers": 2}},
    "three best": {"training": {"keep_best": 3, "early_stopping_patience": 9}, "metrics": {"best": "loss"}},
    "smoothing": {"training": {"label_smoothing_factor": 0.1}},
}
LONG = ("lengths", "random", "smoothing")  # what they try, the others try too


class Send(TrainerCallback):
    """Sends a signal to this process at the begin of a step."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step = step
        self.number = number

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


def record(run: Path) -> tuple[Any, dict[str, str]]:
    """Return the metrics without times, and the hashes of all weights."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = [
        (
            row["step"],
            {name: value for name, value in row["metrics"].items() if not any(t in name for t in OF_THE_MACHINE)},
        )
        for row in rows
    ]
    weights = {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.rglob("model.safetensors")
        if "models-before" not in path.parts
    }
    return metrics, weights


def go_on(trainer: Any, **limits: Any) -> Any:
    again = DialogueSummarizationTrainer(settled=trainer.settled, run=RunFolder(trainer.output_dir))
    again.train(limits=Limits(**limits))
    return again


def with_steps(variant: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {**variant, "training": {**STEPS, **variant.get("training", {})}}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in VARIANTS]
)
def test_a_signal_then_resume_equals_the_straight_run(tiny: Make, name: str) -> None:
    settings = with_steps(VARIANTS[name])
    straight = tiny(**settings)
    steps = straight.train().steps
    broken = tiny(**settings)
    at = min(7, steps - 1)
    broken.trainer.add_callback(Send(at))
    with pytest.raises(Interrupted, match=rf"step {at} of {steps}.*SIGTERM.*\n.*dlgsum resume") as stopped:
        broken.train()
    assert stopped.value.exit_code == 143
    status = json.loads((broken.output_dir / "status.json").read_text())
    assert status["status"] == "interrupted"
    again = go_on(broken)
    assert record(again.output_dir) == record(straight.output_dir)
    assert not list((again.output_dir / "models").glob("step-*")) or VARIANTS[name]["training"].get("keep_best")


@pytest.mark.parametrize("step", [4, 6])
def test_a_stop_where_an_evaluation_is_due_owes_it(tiny: Make, step: int) -> None:
    """Step 6 is the end of the first epoch too."""
    settings = with_steps({})
    straight = tiny(**settings)
    straight.train()
    broken = tiny(**settings)
    broken.trainer.add_callback(Send(step, signal.SIGINT))
    with pytest.raises(Interrupted) as stopped:
        broken.train()
    assert stopped.value.exit_code == 130
    rows = record(broken.output_dir)[0]
    assert not [metrics for at, metrics in rows if at == step and "eval/loss" in metrics]
    assert record(go_on(broken).output_dir) == record(straight.output_dir)


@pytest.mark.slow
def test_epochs_too(tiny: Make) -> None:
    settings = {"training": {"num_train_epochs": 3, "save_strategy": "auto", "logging_strategy": "epoch"}}
    straight = tiny(**settings)
    straight.train()
    for step in (6, 8):
        broken = tiny(**settings)
        broken.trainer.add_callback(Send(step, signal.SIGUSR1))
        with pytest.raises(Interrupted) as stopped:
            broken.train()
        assert stopped.value.exit_code == 143
        mine, theirs = record(go_on(broken).output_dir), record(straight.output_dir)
        assert mine[0] == theirs[0]
        assert mine[1].items() >= {k: v for k, v in theirs[1].items() if "best" in k or "18" in k}.items()


@pytest.mark.slow
def test_a_second_interruption_at_the_same_owed_evaluation(tiny: Make) -> None:
    settings = with_steps({})
    straight = tiny(**settings)
    straight.train()
    broken = tiny(**settings)
    broken.trainer.add_callback(Send(4))
    with pytest.raises(Interrupted):
        broken.train()

    class InEvaluation(TrainerCallback):
        def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    again = DialogueSummarizationTrainer(settled=broken.settled, run=RunFolder(broken.output_dir))
    again._checkpoint = None
    again.trainer.callback_handler.callbacks.insert(0, InEvaluation())
    with pytest.raises(Interrupted):
        again.train()
    assert record(go_on(broken).output_dir) == record(straight.output_dir)


def test_the_time_limit_stops_early_enough_and_the_run_goes_on(tiny: Make) -> None:
    settings = with_steps({})
    straight = tiny(**settings)
    straight.train()
    broken = tiny(**settings)
    broken.initialize_components()
    with pytest.raises(Interrupted, match="time limit"):
        broken.train(limits=Limits(seconds=1.0))  # less than the margin: it stops at once
    assert record(go_on(broken).output_dir) == record(straight.output_dir)


def test_early_stopping_goes_on_waiting(tiny: Make) -> None:
    settings = with_steps({"training": {"early_stopping_patience": 3, "early_stopping_threshold": 0.5}})
    straight = tiny(**settings)
    result = straight.train()
    assert result.stopped_early and result.steps < 18
    broken = tiny(**settings)
    broken.trainer.add_callback(Send(5))
    with pytest.raises(Interrupted):
        broken.train()
    again = go_on(broken)
    assert record(again.output_dir) == record(straight.output_dir)


def test_a_run_that_stopped_early_and_was_killed_before_its_end_trains_no_more(tiny: Make) -> None:
    settings = with_steps({"training": {"early_stopping_patience": 3, "early_stopping_threshold": 0.5}})
    trainer = tiny(**settings)
    before = trainer.train()
    (trainer.output_dir / "training_results.json").unlink()
    again = go_on(trainer)
    result = json.loads((again.output_dir / "training_results.json").read_text())
    assert (result["steps"], result["stopped_early"]) == (before.steps, True)
    assert result["best_metrics"] == before.best_metrics


def test_models_that_only_the_checkpoint_knows_survive_until_the_next_one(tiny: Make) -> None:
    """Killed between a new best model and the checkpoint of that step: the ranking goes back, its model is there."""
    settings = with_steps({"metrics": {"best": "loss"}})
    straight = tiny(**settings)
    straight.train()
    broken = tiny(**settings)

    class Killed(BaseException):
        pass

    class AfterEvaluation(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 6:
                raise Killed

    broken.trainer.add_callback(AfterEvaluation())
    with pytest.raises(Killed):
        broken.train()
    models = broken.output_dir / "models"
    assert json.loads((models / "best_model" / "metrics.json").read_text())["step"] == 6
    assert (models / "step-4").is_dir()
    assert record(go_on(broken).output_dir) == record(straight.output_dir)


def test_a_torn_and_longer_metrics_file_is_put_right(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    settings = with_steps({})
    straight = tiny(**settings)
    straight.train()
    broken = tiny(**settings)
    broken.trainer.add_callback(Send(7))
    with pytest.raises(Interrupted):
        broken.train()
    with (broken.output_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 8, "epoch": 1.3, "time": 1.0, "metrics": {"train/loss": 1.0}}\n{"step": 9, "metr')
    assert record(go_on(broken).output_dir) == record(straight.output_dir)


def test_without_any_checkpoint_the_run_begins_again_in_its_folder(tiny: Make) -> None:
    settings = with_steps({})
    straight = tiny(**settings)
    straight.train()
    broken = tiny(**settings)
    broken.trainer.add_callback(Send(5))
    with pytest.raises(Interrupted):
        broken.train()
    shutil.rmtree(broken.output_dir / "checkpoints")
    assert record(go_on(broken).output_dir) == record(straight.output_dir)


def test_changed_rows_are_refused_unless_forced(tiny: Make, tmp_path: Path) -> None:
    rows = "".join(f'r{i},"#Person1#: {i}시에 만나요.","#Person1#은 {i}시에 만납니다."\n' for i in range(30))
    (tmp_path / "t.csv").write_text("fname,dialogue,summary\n" + rows, encoding="utf-8")
    (tmp_path / "v.csv").write_text(
        "fname,dialogue,summary\nv,#Person1#: 또 봐요.,#Person1#은 갑니다.\n", encoding="utf-8"
    )
    data = {"source": "csv", "train": str(tmp_path / "t.csv"), "validation": str(tmp_path / "v.csv")}
    broken = tiny(**with_steps({"data": data}))
    broken.trainer.add_callback(Send(3))
    with pytest.raises(Interrupted):
        broken.train()
    text = (tmp_path / "t.csv").read_text(encoding="utf-8")
    (tmp_path / "t.csv").write_text(text.replace("29시에", "29시 반에"), encoding="utf-8")
    with pytest.raises(DataError, match=r"not those that this run was trained on:[\s\S]*train changed"):
        go_on(broken)
    assert (go_on(broken, force=True).output_dir / "training_results.json").is_file()


def test_a_checkpoint_of_plain_transformers_keeps_the_models_and_the_metrics(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tiny(**with_steps({"metrics": {"best": "loss"}}))
    broken.trainer.add_callback(Send(7))
    with pytest.raises(Interrupted):
        broken.train()
    for checkpoint in (broken.output_dir / "checkpoints").iterdir():
        for name in ("manifest.json", "dlgsum_state.json", "dlgsum.yaml"):
            (checkpoint / name).unlink()
    kept = json.loads((broken.output_dir / "models" / "ranking.json").read_text())["kept"]
    go_on(broken)
    err = capsys.readouterr().err
    assert err.count("says nothing of best models") == 1
    ranking = json.loads((broken.output_dir / "models" / "ranking.json").read_text())["kept"]
    assert min(entry["score"] for entry in ranking) <= kept[0]["score"]
    steps = [step for step, metrics in record(broken.output_dir)[0] if "eval/loss" in metrics]
    assert steps == [2, 4, 6, 8, 10, 12, 14, 16, 18]


def test_a_checkpoint_that_is_not_whole_is_not_trained_from(tiny: Make) -> None:
    first = tiny(training={**STEPS, "max_steps": 2})
    first.train()
    checkpoint = first.output_dir / "checkpoints" / "checkpoint-2"
    (checkpoint / "optimizer.pt").unlink()
    with pytest.raises(UsageError, match=r"cannot be resumed from:[\s\S]*optimizer.pt is missing"):
        tiny(**with_steps({})).train(resume_from_checkpoint=str(checkpoint))


def test_a_signal_while_the_last_checkpoint_is_written_is_granted(tiny: Make) -> None:
    settings = with_steps({})
    straight = tiny(**settings)
    straight.train()
    broken = tiny(**settings)

    class AtTheEnd(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == state.max_steps:
                os.kill(os.getpid(), signal.SIGTERM)

    broken.trainer.add_callback(AtTheEnd())
    with pytest.raises(Interrupted, match="step 18 of 18"):
        broken.train()
    again = go_on(broken)
    assert record(again.output_dir) == record(straight.output_dir)
    mine, theirs = (json.loads((one.output_dir / "training_results.json").read_text()) for one in (again, straight))
    same = ("signature", "best_metrics", "best_step", "test_metrics", "test_signature", "final_metrics", "steps")
    for result in (mine, theirs):
        for metrics in ("best_metrics", "test_metrics", "final_metrics"):
            result[metrics].pop("runtime")
    assert {name: mine[name] for name in same} == {name: theirs[name] for name in same}


def test_a_run_whose_checkpoints_are_all_broken_keeps_its_models_aside(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tiny(**with_steps({}))
    broken.trainer.add_callback(Send(3))
    with pytest.raises(Interrupted):
        broken.train()
    for scheduler in broken.output_dir.glob("checkpoints/*/scheduler.pt"):
        scheduler.unlink()
    go_on(broken)
    assert (broken.output_dir / "models-before" / "best_model" / "model.safetensors").is_file()
    err = capsys.readouterr().err
    assert "has no valid checkpoint: it begins again at step 0" in err and "models-before" in err


@pytest.mark.parametrize(
    ("settings", "state", "before", "now", "expected"),
    [  # (rows, accumulation, effective) in; processes before and now; rows and accumulation out
        ((4, 1, None), {"batches": 2, "rows": 8}, 2, 1, (4, 2)),
        ((4, 1, None), {"batches": 2, "rows": 8}, 1, 1, (4, 2)),  # converted before, and still 8 rows
        ((4, 1, None), {"batches": 2, "rows": 8}, 1, 2, (4, 1)),
        ((4, 2, None), {}, 1, 2, (4, 1)),
        ((4, 1, 8), {"batches": 2, "rows": 8}, 2, 1, (4, 2)),
        ((16, 1, 16), {"batches": 1, "rows": 16}, 1, 4, (4, 1)),
        ((4, 1, None), {"batches": 1, "rows": 4}, 1, 1, (4, 1)),
    ],
)
def test_the_effective_batch_is_kept_for_any_number_of_processes(
    tmp_path: Path, settings: Any, state: Any, before: int, now: int, expected: tuple[int, int]
) -> None:
    import dataclasses

    from dlgsum.config.schema import Config
    from dlgsum.core.files import write_json
    from dlgsum.recipes.continuing import for_world
    from dlgsum.training.checkpoints import Checkpoint

    rows, accumulation, effective = settings
    config = Config()
    training = dataclasses.replace(
        config.training, per_device_train_batch_size=rows, gradient_accumulation_steps=accumulation,
        effective_batch_size=effective,
    )  # fmt: skip
    write_json(tmp_path / "dlgsum_state.json", {"batch": state} if state else {})
    got = for_world(dataclasses.replace(config, training=training), Checkpoint(tmp_path, 3, before, None), now).training
    assert (got.train_rows, got.accumulation(now)) == expected
