from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from dlgsum.monitoring.nan import folder as files
from dlgsum.monitoring.nan_report import BadStep, MicroBatch, NanReport, write_report
from dlgsum.training.loss import SummaryLoss

SMOOTHING = 0.1
KOREAN = '#Person1#: 점심 | <b>뭐</b> *먹지*?\n#Person2#: "김치찌개"요. 😀'


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=64, d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
        forced_eos_token_id=None, dropout=0.3,
    )  # fmt: skip
    return BartForConditionalGeneration(config).train()


def micro_batch(seed: int = 1, rows: int = 3) -> MicroBatch:
    draw = torch.Generator().manual_seed(seed)
    sources = torch.randint(4, 60, (rows, 8), generator=draw)
    labels = torch.randint(4, 60, (rows, 6), generator=draw)
    labels[0, 4:] = -100
    mask = torch.ones_like(sources)
    mask[-1, 5:] = 0
    inputs = {
        "input_ids": sources, "attention_mask": mask, "labels": labels, "decoder_input_ids": labels.clamp(min=1)
    }  # fmt: skip
    texts = [{"fname": f"train_{seed}{row}", "dialogue": KOREAN, "summary": "점심을 정해요."} for row in range(rows)]
    return MicroBatch(inputs=inputs, rows=texts, rng={"cpu": torch.Generator().manual_seed(seed + 50).get_state()})


def bad_step(*batches: MicroBatch, **changes: Any) -> BadStep:
    values: dict[str, Any] = {
        "step": 7, "epoch": 0.5, "loss": math.nan, "grad_norm": math.nan, "precision": "fp32", "loss_scale": None,
        "micro_batches": list(batches) or [micro_batch()], "items": 16, "smoothing": SMOOTHING,
        "history": [
            {"step": step, "loss": 3.0, "grad_norm": 1.0, "learning_rate": 1e-3} for step in range(1, 7)
        ],
    }  # fmt: skip
    return BadStep(**(values | changes))


def report(model: Any, bad: BadStep, folder: Path, **options: Any) -> NanReport:
    given: dict[str, Any] = {"loss": SummaryLoss(bad.smoothing), "weights": False, "rerun": True, **options}
    return write_report(folder / "step-7", model, bad, **given)


def content(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "step-7" / "report.json").read_text(encoding="utf-8")))


def gradients(model: Any, bad: BadStep) -> None:
    """Give the weights the gradients that training would give them."""
    for batch in bad.micro_batches:
        inputs = dict(batch.inputs)
        labels = inputs.pop("labels")
        SummaryLoss(SMOOTHING)(model(**inputs), labels, bad.items).backward()


class Spoil(torch.autograd.Function):
    """Gives what it gets, and NaN for a gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values * 1.0

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0] * math.nan


class Spoiler(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return Spoil.apply(values)  # type: ignore[no-any-return, no-untyped-call]


class Overflows(nn.Module):
    """Gives infinity for large values only, such as the embedding of one token."""

    def forward(self, values: Tensor) -> Tensor:
        return values.masked_fill(values.abs() > 50, math.inf)


class Clamps(nn.Module):
    """Makes finite again what its child made infinite, as BART and T5 do with their own in fp16."""

    def __init__(self) -> None:
        super().__init__()
        self.child = Overflows()

    def forward(self, values: Tensor) -> Tensor:
        return values + 0 * self.child(values.detach() + 100).clamp(-100, 100)


def test_a_weight_that_is_nan_is_named_first(model: Any, tmp_path: Path) -> None:
    model.model.encoder.layers[1].fc1.weight.data[0, 0] = math.nan
    bad = bad_step()
    gradients(model, bad)
    found = report(model, bad, tmp_path)
    assert found.culprit == "model.encoder.layers.1.fc1"
    assert found.parameters == ["model.encoder.layers.1.fc1.weight"]
    assert "model.encoder.layers.1.fc1.weight" in found.gradients
    assert "weights were not finite before this step: model.encoder.layers.1.fc1.weight (1 NaN)" in found.what
    assert "dlgsum resume" in found.advice[0]
    saved = content(tmp_path)
    assert saved["parameters"][0] | {"figures": 0} == {
        "name": "model.encoder.layers.1.fc1.weight", "shape": [32, 16], "dtype": "float32", "figures": 0
    }  # fmt: skip
    assert saved["parameters"][0]["figures"]["nan"] == 1
    assert 0 < saved["parameters"][0]["figures"]["largest"] < 1
    assert saved["loss"] == "NaN"


def test_an_overflow_is_shown_where_it_begins(model: Any, tmp_path: Path) -> None:
    model.model.encoder.layers[0].final_layer_norm.weight.data.fill_(3e38)
    found = report(model, bad_step(), tmp_path)
    assert found.culprit == "model.encoder.layers.0.final_layer_norm"
    assert (found.reproduced, found.parameters) == (True, [])
    assert "its weights go up to 3e+38" in found.what
    assert "The weights have grown" in found.advice[0]
    events = content(tmp_path)["forward"]
    first = next(event for event in events if event["figures"]["inf"])
    assert (first["module"], first["place"]) == (found.culprit, "output")
    text = (tmp_path / "step-7" / "report.md").read_text(encoding="utf-8")
    assert "| → model.encoder.layers.0.final_layer_norm | LayerNorm | output |" in text
    assert "every row of the batch does it alone" in text


def test_what_the_code_between_modules_spoils_is_not_laid_at_the_next_ones_door(model: Any, tmp_path: Path) -> None:
    """Both embeddings are finite, their sum is not: the encoder adds them."""
    model.model.encoder.embed_positions.weight.data.fill_(3e38)
    model.model.shared.weight.data.fill_(3e38)
    found = report(model, bad_step(), tmp_path)
    assert found.culprit == "model.encoder"
    assert "the input of model.encoder.layernorm_embedding" in found.what


def test_a_gradient_that_goes_bad_in_the_backward_pass_only(model: Any, tmp_path: Path) -> None:
    model.model.encoder.layers[1].activation_fn = Spoiler()
    bad = bad_step(loss=3.0)
    gradients(model, bad)
    found = report(model, bad, tmp_path)
    assert found.culprit == "model.encoder.layers.1.activation_fn"
    assert "the forward pass is finite" in found.what
    assert "model.encoder.layers.1.fc1.weight" in found.gradients
    assert "model.encoder.layers.1.fc2.weight" not in found.gradients  # it lies before, in backward order
    assert sorted(content(tmp_path)["gradients_again"]) == sorted(found.gradients)
    assert "NaN came at once" in found.advice[0]


def test_a_step_that_is_finite_when_done_again_is_not_explained_away(model: Any, tmp_path: Path) -> None:
    bad = bad_step()
    gradients(model, bad)
    model.model.encoder.layers[0].fc1.weight.grad[3, 3] = math.inf  # a fault of the machine, say
    found = report(model, bad, tmp_path)
    assert (found.reproduced, found.culprit) == (False, "")
    assert found.gradients == ["model.encoder.layers.0.fc1.weight"]
    assert "finite when done again" in found.what
    assert "gpu-check" in " ".join(found.advice)


def test_the_micro_batch_and_the_row_that_do_it(model: Any, tmp_path: Path) -> None:
    model.model.encoder.layernorm_embedding = nn.Sequential(Overflows(), model.model.encoder.layernorm_embedding)
    model.model.shared.weight.data[61] = 100.0
    batches = [micro_batch(1), micro_batch(2)]
    batches[1].inputs["input_ids"][1, 2] = 61
    model.eval()  # dropout would draw other numbers for a row alone
    found = report(model, bad_step(*batches), tmp_path)
    assert found.culprit == "model.encoder.layernorm_embedding.0"
    saved = content(tmp_path)
    assert saved["micro_batch"] == 1
    assert saved["rows_alone"] == ["train_21"]
    assert "rows that do it alone: train_21" in found.what
    assert "Look at train_21" in " ".join(found.advice)
    assert "train_21 (alone too)" in (tmp_path / "step-7" / "report.md").read_text(encoding="utf-8")


def test_fp16_overflows_where_fp32_does_not(model: Any, tmp_path: Path) -> None:
    model.model.decoder.layers[0].fc2.weight.data.mul_(1e7)
    found = report(model, bad_step(precision="fp16", loss_scale=1024.0), tmp_path)
    assert (found.culprit, found.fp32_finite) == ("model.decoder.layers.0.fc2", True)
    assert "training.precision=bf16" in found.advice[0]
    assert "finite in fp32" in found.what


def test_a_loss_scale_that_is_too_large_is_found_in_the_backward_pass(model: Any, tmp_path: Path) -> None:
    found = report(model, bad_step(precision="fp16", loss_scale=2.0**30), tmp_path)
    assert (found.reproduced, found.fp32_finite) == (True, True)
    assert "the forward pass is finite" in found.what
    assert report(model, bad_step(precision="fp16", loss_scale=8.0), tmp_path).reproduced is False


def test_t5_leaves_the_range_of_fp16(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0,
        decoder_start_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config).train()
    feed_forward = model.encoder.block[0].layer[1].DenseReluDense
    feed_forward.wi.weight.data.fill_(600.0)
    feed_forward.wo.weight.data.fill_(6000.0)
    found = report(model, bad_step(precision="fp16", loss_scale=1.0), tmp_path)
    assert found.culprit == "encoder.block.0.layer.1.DenseReluDense.wo"
    assert found.fp32_finite
    assert "training.precision=bf16" in found.advice[0]


def test_what_a_module_around_it_makes_finite_again_is_not_the_culprit(model: Any, tmp_path: Path) -> None:
    model.model.encoder.layers[0].activation_fn = Clamps()
    model.model.decoder.layers[0].fc2.weight.data[0, 0] = math.nan
    found = report(model, bad_step(), tmp_path)
    seen = {event["module"] for event in content(tmp_path)["forward"] if event["figures"]["inf"]}
    assert "model.encoder.layers.0.activation_fn.child" in seen
    assert found.culprit == "model.decoder.layers.0.fc2"


def test_model_gradients_and_random_states_stay_as_they_were(model: Any, tmp_path: Path) -> None:
    """Also under what accelerate puts into the place of ``forward``, and with a buffer that a pass changes."""

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("passes", torch.zeros(()))

        def forward(self, values: Tensor) -> Tensor:
            self.passes += 1
            return values

    model.model.encoder.layers[0].activation_fn = Counts()
    model.model.decoder.layers[0].eval()
    model.model.shared.weight.requires_grad_(False)
    bad = bad_step(micro_batch(1), micro_batch(2), precision="bf16")
    gradients(model, bad)
    model.model.encoder.layers[0].fc1.weight.grad[0, 0] = math.nan
    model._original_forward, model.forward = model.forward, model.forward
    forward = model.__dict__["forward"]

    def state() -> dict[str, Any]:
        return {
            "weights": {name: value.clone() for name, value in model.state_dict().items()},
            "gradients": {name: None if w.grad is None else w.grad.clone() for name, w in model.named_parameters()},
            "training": [module.training for module in model.modules()],
            "trained": [weight.requires_grad for weight in model.parameters()],
            "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
            "random": torch.get_rng_state(),
        }

    before, held = state(), [weight.grad for weight in model.parameters()]
    report(model, bad, tmp_path, weights=True)
    after = state()
    torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)
    assert all(weight.grad is gradient for weight, gradient in zip(model.parameters(), held, strict=True))
    assert model.__dict__["forward"] is forward
    assert not any(weight._post_accumulate_grad_hooks for weight in model.parameters())


def test_training_goes_on_with_the_same_weights_as_without_a_report(model: Any, tmp_path: Path) -> None:
    other = copy.deepcopy(model)
    bad = bad_step()
    for one, reports in ((model, True), (other, False)):
        optimizer = torch.optim.AdamW(one.parameters(), lr=1e-2)
        torch.manual_seed(5)
        for step in range(3):
            gradients(one, bad)
            if reports and step == 1:
                report(one, bad, tmp_path)
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_the_second_pass_draws_the_same_dropout(model: Any, tmp_path: Path) -> None:
    batch = micro_batch()
    torch.set_rng_state(batch.rng["cpu"])
    inputs = dict(batch.inputs)
    labels = inputs.pop("labels")
    with torch.no_grad():
        first = SummaryLoss(SMOOTHING)(model(**inputs), labels, 16)
    told: list[float] = []

    def loss(outputs: Any, labels: Tensor, items: Tensor | int) -> Tensor:
        value = SummaryLoss(SMOOTHING)(outputs, labels, items)
        told.append(float(value.detach()))
        return value

    report(model, bad_step(batch), tmp_path, loss=loss)
    assert told == [float(first)]


def test_activation_checkpointing(model: Any, tmp_path: Path) -> None:
    model.activation_checkpointing_enable()
    model.config.use_cache = False
    model.model.encoder.layers[1].activation_fn = Spoiler()
    assert report(model, bad_step(loss=3.0), tmp_path).culprit == "model.encoder.layers.1.activation_fn"
    # The forward pass that is done once more during the backward pass is not told of twice.
    places = {event["place"] for event in content(tmp_path)["backward"]}
    assert places == {"output gradient", "input gradient", "weight gradient"}


def test_the_files_can_be_read_without_this_program(model: Any, tmp_path: Path) -> None:
    batch = micro_batch()
    batch.inputs["attention_mask"][1] = 0
    report(model, bad_step(batch), tmp_path, weights=True)
    folder = tmp_path / "step-7"
    names = {"report.md", "report.json", "batch.pt", "rows.jsonl", "model.safetensors", "config.json"}
    assert {path.name for path in folder.iterdir()} == names
    tensors = torch.load(folder / "batch.pt", weights_only=True)["micro_batches"][0]
    torch.testing.assert_close(tensors["inputs"], batch.inputs)
    torch.testing.assert_close(tensors["rng"], batch.rng)
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["dialogue"] == KOREAN
    assert "김치찌개" in lines[0]
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "점심 \\| &lt;b&gt;뭐&lt;/b&gt; \\*먹지\\*?<br>#Person2#" in text
    assert "rows without any source token: train_11" in text
    assert content(tmp_path)["empty_rows"] == ["train_11"]
    assert "김치" not in (folder / "report.json").read_text(encoding="utf-8")


def test_a_report_that_is_read_again_is_the_same_step(model: Any, tmp_path: Path) -> None:
    bad = bad_step(micro_batch(1), micro_batch(2), loss=math.inf)
    report(model, bad, tmp_path)
    read = files.read_report(tmp_path / "step-7")
    assert not read.has_weights
    assert (read.bad.loss, read.bad.items, read.bad.history) == (math.inf, 16, bad.history)
    assert math.isnan(read.bad.grad_norm)
    assert [batch.rows for batch in read.bad.micro_batches] == [batch.rows for batch in bad.micro_batches]
    torch.testing.assert_close(read.bad.micro_batches[1].inputs, bad.micro_batches[1].inputs)


def test_no_weights_where_the_disk_is_too_small(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(weight.numel() * 4 for weight in model.parameters())
    free = {"bytes": 2 * size - 1}
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: type("Usage", (), {"total": 10**9, "used": 0, "free": free["bytes"]})()
    )
    assert report(model, bad_step(), tmp_path, weights=True).folder == tmp_path / "step-7"
    assert not (tmp_path / "step-7" / "model.safetensors").exists()
    assert "free on the disk" in content(tmp_path)["no_weights"]
    assert "The weights were not saved: they take" in (tmp_path / "step-7" / "report.md").read_text(encoding="utf-8")
    free["bytes"] += 1
    report(model, bad_step(), tmp_path, weights=True)
    assert (tmp_path / "step-7" / "model.safetensors").exists()


def test_a_folder_that_cannot_be_written_stops_nothing(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model.model.encoder.layers[1].fc1.weight.data[0, 0] = math.nan
    (tmp_path / "occupied").write_text("a file")
    found = write_report(
        tmp_path / "occupied" / "step-7", model, bad_step(), loss=SummaryLoss(0.0), weights=True, rerun=True
    )
    assert (found.folder, found.culprit) == (None, "model.encoder.layers.1.fc1")
    assert "could not be written" in caplog.text


def test_a_second_pass_that_fails_leaves_the_rest_of_the_report(model: Any, tmp_path: Path) -> None:
    def loss(outputs: Any, labels: Tensor, items: Tensor | int) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")

    bad = bad_step()
    gradients(model, bad)
    held = [weight.grad for weight in model.parameters()]
    found = report(model, bad, tmp_path, loss=loss)
    assert found.reproduced is None
    assert "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB" in found.what
    assert all(weight.grad is gradient for weight, gradient in zip(model.parameters(), held, strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_several_processes_get_a_report_without_a_second_pass(model: Any, tmp_path: Path) -> None:
    model.model.encoder.layers[1].fc1.weight.data[0, 0] = math.nan
    found = report(model, bad_step(), tmp_path, rerun=False)
    assert (found.reproduced, found.culprit) == (None, "model.encoder.layers.1.fc1")
    assert "several processes" in content(tmp_path)["not_tried_because"]


@pytest.mark.parametrize(("name", "wrong"), [("input_ids", 64), ("labels", -5), ("decoder_input_ids", -1)])
def test_token_ids_that_the_model_does_not_have(model: Any, tmp_path: Path, name: str, wrong: int) -> None:
    batch = micro_batch()
    batch.inputs[name][1, 2] = wrong
    found = report(model, bad_step(batch), tmp_path)
    assert f"{name} of train_11" in found.what
    assert found.reproduced is None


def test_growing_gradients_are_told_with_what_to_change(model: Any, tmp_path: Path) -> None:
    model.model.encoder.layers[0].final_layer_norm.weight.data.fill_(3e38)
    history = [
        {"step": step, "loss": 3.0, "grad_norm": norm, "learning_rate": 1e-3}
        for step, norm in enumerate([1.0, math.nan, 1.2, 0.9, 1.0, 60.0])
    ]
    found = report(model, bad_step(history=history), tmp_path)
    assert "grown to 60 just before, from 1" in found.advice[0]
    assert "training.learning_rate" in found.advice[0]
    assert "grown to" not in " ".join(report(model, bad_step(), tmp_path).advice)
