"""Steps that go wrong: gradients that are not finite, memory that runs out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Seq2SeqTrainer, TrainerCallback

from dlgsum.core.errors import TrainingFailed

Make = Callable[..., Any]
PLAIN = {
    "model": {
        "mini": {"d_model": 32, "ffn": 64, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 2600,
                 "dropout": 0.0},
    }
}  # fmt: skip


class BadGradient(TrainerCallback):
    """Makes a gradient NaN in chosen steps, where autograd leaves it."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps
        self.now = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.now = state.global_step + 1
        if not hasattr(self, "hook"):
            weights = next(iter(model.parameters()))
            self.hook = weights.register_hook(lambda g: g * math.nan if self.now in self.steps else g)


class Weights(TrainerCallback):
    """Remembers the weights after each step."""

    def __init__(self) -> None:
        self.after: dict[int, torch.Tensor] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.after[state.global_step] = torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def events(trainer: Any, kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (trainer.output_dir / "events.jsonl").read_text().splitlines()]
    return [row for row in rows if row["event"] == kind]


@pytest.mark.parametrize("norm", [1.0, 0.0])
def test_a_step_whose_gradient_is_not_finite_is_skipped_and_counted(
    tiny: Make, norm: float, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, weights = tiny(training={"max_grad_norm": norm}), Weights()
    for callback in (BadGradient(3), weights):
        trainer.trainer.add_callback(callback)
    trainer.train()
    assert torch.equal(weights.after[2], weights.after[3])
    assert not torch.equal(weights.after[3], weights.after[4])
    assert torch.isfinite(weights.after[6]).all()
    assert "step 3: The gradient norm is nan; the step was skipped" in capsys.readouterr().err
    [event] = events(trainer, "skipped_step")
    assert (event["step"], event["in_a_row"], event["total"]) == (3, 1, 1)


def test_too_many_bad_steps_in_a_row_stop_the_run_with_its_last_good_checkpoint(tiny: Make) -> None:
    trainer = tiny(training={"max_skipped_steps": 2, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "no",
                             "load_best_model_at_end": False})  # fmt: skip
    trainer.trainer.add_callback(BadGradient(3, 4, 5, 6))
    with pytest.raises(TrainingFailed, match=r"not finite at step 5 after 3 steps in a row.*\n.*learning_rate"):
        trainer.train()
    assert json.loads((trainer.output_dir / "status.json").read_text())["status"] == "failed"
    saved = load_file(trainer.output_dir / "checkpoints" / "checkpoint-4" / "model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in saved.values())


def test_bad_steps_that_are_not_in_a_row_do_not_stop_it(tiny: Make) -> None:
    trainer = tiny(training={"max_skipped_steps": 1})
    trainer.trainer.add_callback(BadGradient(1, 3, 5))
    assert trainer.train().steps == 6
    assert [event["total"] for event in events(trainer, "skipped_step")] == [1, 2, 3]


def test_weights_that_are_not_finite_are_never_saved(tiny: Make) -> None:
    class Poison(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            if state.global_step == 3:
                with torch.no_grad():
                    next(iter(model.parameters()))[0] = math.nan

    trainer = tiny(training={"save_strategy": "steps", "save_steps": 1, "eval_strategy": "no",
                             "load_best_model_at_end": False})  # fmt: skip
    trainer.trainer.add_callback(Poison())
    with pytest.raises(TrainingFailed, match=r"not finite at step 3; it is not saved"):
        trainer.train()
    assert sorted(path.name for path in (trainer.output_dir / "checkpoints").iterdir()) == [
        "checkpoint-1", "checkpoint-2",
    ]  # fmt: skip


def limited(monkeypatch: pytest.MonkeyPatch, rows: int, error: Exception, after: str = "backward") -> list[int]:
    """Let memory run out in any part with more rows than ``rows``; return the list of parts that were tried."""
    tried: list[int] = []
    step = Seq2SeqTrainer.training_step

    def training_step(self: Any, model: Any, inputs: Any, count: Any = None) -> Any:
        tried.append(len(inputs["labels"]))
        if after == "forward" and len(inputs["labels"]) > rows:
            raise error
        loss = step(self, model, inputs, count)  # the gradients are spoilt by then
        if len(inputs["labels"]) > rows:
            raise error
        return loss

    monkeypatch.setattr(Seq2SeqTrainer, "training_step", training_step)
    return tried


OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("error", [OOM, RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `x`")])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_running_out_of_memory_loses_no_step(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, error: Exception, accumulation: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    settings = {"training": {"gradient_accumulation_steps": accumulation}, **PLAIN}
    usual, weights = tiny(**settings), Weights()
    usual.trainer.add_callback(weights)
    steps = usual.train().steps
    tried = limited(monkeypatch, 2, error)
    short, other = tiny(**settings), Weights()
    short.trainer.add_callback(other)
    result = short.train()
    assert result.steps == steps
    assert max(tried[-6:]) == 2 and tried[:2] == [8, 4]
    # The same rows, the same mean over tokens: only the order of additions differs.
    for step in range(1, steps + 1):
        torch.testing.assert_close(other.after[step], weights.after[step], rtol=0, atol=5e-4)
    told = events(short, "out_of_memory")
    assert [(event["step"], event["rows"], event["parts"]) for event in told] == [(1, 4, 2), (1, 2, 4)]
    assert "the step is done again with 4 rows at a time" in capsys.readouterr().err


def test_one_row_that_does_not_fit_is_a_clear_error(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = limited(monkeypatch, 0, OOM)
    with pytest.raises(TrainingFailed, match=r"Out of memory with a single row of \d+ \+ \d+ tokens.*\n.*encoder_max"):
        tiny().train()
    assert tried == [8, 4, 2, 1]


def test_another_crash_is_not_taken_for_it(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = limited(monkeypatch, 0, RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(RuntimeError, match="device-side assert"):
        tiny().train()
    assert tried == [8]


def test_parts_that_fit_are_known_after_a_resume(tiny: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dlgsum.training.saving import read_state

    limited(monkeypatch, 4, OOM, after="forward")
    trainer = tiny(training={"save_strategy": "steps", "save_steps": 3, "eval_strategy": "no",
                             "load_best_model_at_end": False})  # fmt: skip
    trainer.train()
    state = read_state(trainer.output_dir / "checkpoints" / "checkpoint-3")
    assert state["memory"] == {"parts": 2, "halved": 1}


def test_an_evaluation_that_runs_out_of_memory_is_done_in_halves(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = tiny()
    split = trainer.prepare_data()["validation"]
    generator, sizes = trainer.trainer.generator, []
    usual = generator.run(split, batch_size=6)
    batch = type(generator)._batch

    def limited_batch(self: Any, model: Any, rows: Any, generation: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 2:
            raise OOM
        return batch(self, model, rows, generation)

    monkeypatch.setattr(type(generator), "_batch", limited_batch)
    small = generator.run(split, batch_size=6)
    assert small.texts == usual.texts and small.loss == pytest.approx(usual.loss, rel=1e-5)
    assert sizes == [6, 3, 2, 1, 3, 2, 1]
    assert "done in halves" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        generator.run(split, batch_size=6, in_halves=False)
