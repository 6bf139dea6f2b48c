"""`dlgsum debug-nan` on reports that are written here as the training writes them."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration

from dlgsum.cli.app import app
from dlgsum.core.errors import DataError, EnvironmentProblem, UsageError
from dlgsum.monitoring.nan_report import BadStep, MicroBatch, write_report
from dlgsum.training.loss import SummaryLoss


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a run without a model, below outputs/ of the working folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "experiments" / "20261121_161200_0a1b2c3d"
    (folder / "models").mkdir(parents=True)
    (folder / "config.yaml").write_text("general:\n  seed: 1\n", encoding="utf-8")
    return folder


def write(run: Path, *, step: int = 7, broken: bool = True, weights: bool = True) -> Path:
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
        forced_eos_token_id=None,
    )  # fmt: skip
    model = BartForConditionalGeneration(config).train()
    if broken:
        model.model.decoder.layers[0].fc2.weight.data.mul_(1e38).mul_(1e4)
    sources, labels = torch.randint(4, 64, (2, 8)), torch.randint(4, 64, (2, 5))
    inputs = {
        "input_ids": sources, "attention_mask": torch.ones_like(sources), "labels": labels,
        "decoder_input_ids": labels.clone(),
    }  # fmt: skip
    rows = [{"fname": f"학습_{row}", "dialogue": "#Person1#: 비밀 이야기", "summary": "요약"} for row in range(2)]
    bad = BadStep(
        step=step, epoch=0.5, loss=math.nan, grad_norm=math.nan, precision="fp32", loss_scale=None,
        micro_batches=[MicroBatch(inputs=inputs, rows=rows, rng={"cpu": torch.get_rng_state()})],
        items=10, smoothing=0.0, history=[],
    )  # fmt: skip
    folder = run / "nan_reports" / f"step-{step}"
    written = write_report(folder, model, bad, loss=SummaryLoss(0.0), weights=weights, rerun=True)
    assert written.folder == folder
    return folder


def call(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    app(["debug-nan", *arguments], standalone_mode=False)
    return capsys.readouterr().out


def answer(*arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(call(*arguments, "--json", capsys=capsys)))


def test_a_run_is_done_again(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    write(run, step=7, broken=False)
    folder = write(run, step=12)
    text = call("latest", "--device", "cpu", capsys=capsys)
    assert "reproduced: it is not finite again (fp32 on cpu)" in text
    assert "→ model.decoder.layers.0.fc2" in text
    assert "학습_1" in text
    assert "step-7 (--step N)" in text
    assert "비밀" not in text
    for name in (str(folder), run.name, "20261121"):
        found = answer(name, "--device", "cpu", capsys=capsys)
        assert (found["reproduced"], found["step"], found["culprit"]) == (True, 12, "model.decoder.layers.0.fc2")


def test_another_report_of_the_run_and_another_precision(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(run, step=7, broken=False)
    write(run, step=12)
    found = answer("latest", "--step", "7", "--precision", "bf16", "--device", "cpu", capsys=capsys)
    assert (found["reproduced"], found["step"], found["precision"]) == (False, 7, "bf16")
    assert found["notes"] == ["the training ran in fp32, this in bf16"]


def test_without_weights_what_was_found_then_is_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(run, weights=False)
    found = answer(run.name, capsys=capsys)
    assert found["reproduced"] is None
    assert found["at_the_time"]["culprit"] == "model.decoder.layers.0.fc2"
    text = call(run.name, capsys=capsys)
    assert "not done again" in text
    assert "model.decoder.layers.0.fc2" in text


def test_no_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("latest", run.name, str(run)):
        with pytest.raises(UsageError, match=r"has (no|a) report about NaN") as error:
            call(name, capsys=capsys)
        assert "monitoring.nan_report=true" in error.value.hint
    write(run)
    with pytest.raises(UsageError, match="no report about step 8"):
        call(run.name, "--step", "8", capsys=capsys)


def test_a_damaged_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(run)
    whole = shutil.copytree(folder, run / "whole")

    def restored() -> None:
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)

    for name in ("batch.pt", "rows.jsonl"):
        (folder / name).unlink()
        with pytest.raises(DataError, match="cannot be read"):
            call(run.name, capsys=capsys)
        restored()
    (folder / "batch.pt").write_bytes((folder / "batch.pt").read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be read"):
        call(run.name, capsys=capsys)
    restored()
    (folder / "report.json").write_text('{"step": 7}', encoding="utf-8")
    with pytest.raises(DataError, match="KeyError: 'epoch'"):
        call(run.name, capsys=capsys)
    (folder / "report.json").unlink()
    with pytest.raises(DataError, match=r"no report\.json"):
        call(str(folder), capsys=capsys)
    restored()
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match=r"weights in .* cannot be loaded"):
        call(run.name, "--device", "cpu", capsys=capsys)
    torch.save({"micro_batches": Path}, folder / "batch.pt")
    with pytest.raises(DataError, match="is not loaded") as error:
        call(run.name, capsys=capsys)
    assert "weights_only" not in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(run)
    with pytest.raises(EnvironmentProblem, match="--device cuda: "):
        call(run.name, "--device", "cuda", capsys=capsys)
