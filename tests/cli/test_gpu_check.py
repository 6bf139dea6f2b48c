"""`dlgsum gpu-check` as a user runs it on this machine, and what it shows of machines with cards."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import dlgsum
from dlgsum.cli import hardware
from dlgsum.config.schema import Config
from dlgsum.core.console import results
from dlgsum.core.errors import ConfigError, UsageError
from dlgsum.core.files import dumps
from dlgsum.core.hardware.diagnose import Finding
from dlgsum.core.hardware.disk import Disk
from dlgsum.core.hardware.facts import (
    Cpu,
    Facts,
    GpuProcess,
    Host,
    Memory,
    NvidiaCard,
    NvidiaDriver,
    Plan,
    Product,
    TorchDevice,
    TorchFacts,
)
from dlgsum.models.choice import ModelChoice
from dlgsum.recipes import gpu_check
from dlgsum.recipes.checks import Found

GIB = 2**30
CPU_ONLY = pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="this machine has a GPU"
)


def run(*arguments: str, folder: Path, **more: str) -> tuple[int, str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "DLGSUM__")) and "COLOR" not in k}
    done = subprocess.run(
        [sys.executable, "-m", "dlgsum", "gpu-check", *arguments],
        cwd=folder, env={**clean, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **more},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@CPU_ONLY
def test_a_machine_without_a_gpu(tmp_path: Path):
    code, out, err = run(folder=tmp_path)
    assert code == 0, err
    assert "warning device" in err and "no GPU can be used" in err and "no NVIDIA card was seen" in err
    assert "ok      matrix product" in err and "cpu fp32: right" in err
    assert "find-batch-size" in out and "kobart_mini" in out and f"torch       {torch.__version__}" in out
    assert "\x1b" not in out + err
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@CPU_ONLY
def test_require_gpu_and_json(tmp_path: Path):
    code, out, err = run("--require-gpu", "--json", "model=kobart", folder=tmp_path)
    assert code == 4 and "error: --require-gpu, but no GPU can be used" in err and "Traceback" not in err
    told = json.loads(out)
    assert list(told) == [
        "ok", "gpu", "model", "facts", "cards", "findings", "products", "disk", "libraries", "checks",
    ]  # fmt: skip
    assert (told["ok"], told["gpu"], told["cards"]) == (True, False, [])
    assert [check["name"] for check in told["checks"]] == ["device", "matrix product", "processor and memory", "disk"]
    assert told["products"][-1]["device"] == "cpu" and told["products"][-1]["tflops"] > 0
    assert told["facts"]["torch"]["plan"]["device"] == "cpu" and told["facts"]["memory"]["total"] > 0
    assert told["disk"]["write"] > 0 and told["model"]["checkpoint"] == "digit82/kobart-summarization"
    assert {one["name"]: one["version"] for one in told["libraries"]}["torch"] is not None


@CPU_ONLY
def test_a_job_that_cannot_run_here(tmp_path: Path):
    code, out, err = run("general.device=cuda", "--json", folder=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert code == 4 and "failed  device" in err and "general.device=cuda, but" in err
    told = json.loads(out)
    assert told["ok"] is False and "hidden" in [one["kind"] for one in told["findings"]]


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    code, out, err = run("general.output_dir=file/x", "general.device=cpu", "--json", folder=tmp_path)
    assert code == 0, err
    assert "warning disk" in err and "general.output_dir=DIR" in err
    assert json.loads(out)["disk"]["problem"] and json.loads(out)["disk"]["write"] is None


def test_a_faulty_configuration(tmp_path: Path):
    code, out, err = run("general.devise=cuda", folder=tmp_path)
    assert (code, out) == (2, "") and "general.device" in err


def test_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    seen: list[str] = []
    settings: Mapping[str, Any] = {"model": {"checkpoint": "kobart_mini"}}
    report = dlgsum.check_gpu_compatibility(settings, "general.device=cpu", on_check=lambda one: seen.append(one.name))
    assert report.ok and report.model.kind == "mini" and report.facts.torch.plan.device == "cpu"
    assert seen == [check.name for check in report.checks] and capsys.readouterr() == ("", "")
    with pytest.raises(ConfigError, match=r"general\.device"):
        dlgsum.check_gpu_compatibility({"general": {"device": "tpu"}})
    with pytest.raises(UsageError, match="finished Config"):
        dlgsum.check_gpu_compatibility(Config(), "general.device=cpu")


CARDS = tuple(
    NvidiaCard(
        index, f"Test Card {index}", f"GPU-{index}", f"0000:0{index}:00", size * GIB, 5 * GIB, (size - 5) * GIB, 41,
        61.5, 300.0, 17, (8, 9), False, (GpuProcess(42, "python", 3 * GIB), GpuProcess(43, None, None)),
    )
    for index, size in ((0, 24), (1, 6))
)  # fmt: skip
DEVICE = TorchDevice(0, "Test Card 0", "0", None, 23 * GIB, (8, 9), True, True, True, "bf16", "bf16: it has it")
TORCH = TorchFacts(
    version="2.13.0+cu128", cuda="12.8", archs=("sm_86",), cuda_available=True, devices=(DEVICE,), threads=4,
    plan=Plan("cuda", "bf16", "Test Card 0; cuda: available; bf16: the card supports it"),
)  # fmt: skip
FACTS = Facts(
    Host("Linux", False, False, "0", None, (), None, ()),
    Cpu("Test CPU", 8, 4, 8, 2.5),
    Memory(64 * GIB, 32 * GIB, 8 * GIB, GIB),
    NvidiaDriver("", "", "570.86", (12, 8), CARDS),
    TORCH,
)
RIGHT = (Product("cuda:0", "fp32", 4096, 1e-5, 3e-5, 0.1, 40.25), Product("cpu", "fp32", 1024, 1e-6, 3e-5, 0.1, 0.12))
DISK = Disk("outputs", "/x", 3 * GIB, 9 * GIB, 64 * 2**20, 500.0, 900.0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretend to be a machine with two cards, of which torch sees one."""

    def pretend(facts: Facts = FACTS, products: tuple[Product, ...] = RIGHT, disk: Disk = DISK) -> None:
        monkeypatch.setattr(gpu_check, "ask_torch", lambda *given, **named: (facts.torch, products))
        monkeypatch.setattr(gpu_check, "gather", lambda torch: facts)
        monkeypatch.setattr(gpu_check, "measure_disk", lambda folder: disk)
        # The console remembers where standard output was when it was made.
        results.cache_clear()

    yield pretend
    results.cache_clear()


KOBART = ("model=kobart",)


def test_a_machine_with_cards(machine, capsys: pytest.CaptureFixture[str]):
    machine()
    report = gpu_check.check_gpu_compatibility(None, *KOBART)
    assert report.ok and report.gpu and [card.device for card in report.cards] == ["cuda:0", None]
    details = {check.name: (check.status, "\n".join(check.details)) for check in report.checks}
    assert details["device"][0] == "ok" and "shows 1 of 2 cards" in details["device"][1]
    assert details["matrix product"] == (
        "ok", "cuda:0 fp32: right, 40.2 TFLOP/s at 4096 x 4096\ncpu fp32: right, 0.12 TFLOP/s at 1024 x 1024",
    )  # fmt: skip
    assert details["processor and memory"][0] == "warning" and "OMP_NUM_THREADS=2" in details["processor and memory"][1]
    assert "7.0 of 8.0 GiB of RAM can be had; the container's limit" in details["processor and memory"][1]
    assert details["disk"][0] == "warning" and "3.0 GiB free, little for checkpoints" in details["disk"][1]

    hardware._show(report)
    shown = capsys.readouterr().out
    for part in (
        "cuda:0", "not in use (nvidia-smi 1)", "23.0", "41 °C, 62 W, 17 % busy", "8.9", "yes yes yes", "? ? ?",
        "fp32 40.2", "driver 570.86, CUDA up to 12.8", "not visible from here", "Test CPU, 2.5 cores", "0000:00:00",
        "High-End", "96 (96 to 256)", "Low-End", "16 (16 to 32)", "8 (6 to 8)", "bf16", "not measured",
        "only 19.0 of 23.0 GiB are free now", "dlgsum find-batch-size",
    ):  # fmt: skip
        assert part in shown, part
    assert json.loads(dumps(dataclasses.asdict(report)))["cards"][0]["suggestion"]["batch_size"] == 96


def test_a_card_that_computes_wrongly(machine, capsys: pytest.CaptureFixture[str]):
    machine(products=(dataclasses.replace(RIGHT[0], problem="the result is wrong"), RIGHT[1]))
    report = gpu_check.check_gpu_compatibility(None, *KOBART)
    assert not report.ok and not report.gpu and report.cards[0].usable is False
    assert report.checks[1].status == "failed"
    hardware._show(report)
    assert "fp32 failed" in capsys.readouterr().out


def test_torch_that_cannot_be_asked(machine, capsys: pytest.CaptureFixture[str]):
    machine(dataclasses.replace(FACTS, torch=TorchFacts("torch cannot be imported: OSError: x")), ())
    report = gpu_check.check_gpu_compatibility(None, *KOBART)
    assert not report.ok and [check.status for check in report.checks[:2]] == ["failed", "failed"]
    hardware._show(report)
    assert "Test Card 1" in capsys.readouterr().out, "the driver's cards are shown all the same"


def test_apple(machine, capsys: pytest.CaptureFixture[str]):
    torch_ = TorchFacts(version="2.13.0", mps_available=True, mps_memory=11 * GIB, plan=Plan("mps", "fp32", "mps"))
    nothing = NvidiaDriver("LibraryNotFound", "x", None, None, ())
    host = dataclasses.replace(FACTS.host, system="Darwin", visible_devices=None)
    here = dataclasses.replace(FACTS, host=host, nvidia=nothing, torch=torch_)
    machine(here, (Product("mps", "fp32", 2048, 1e-6, 3e-5, 0.1, 3.5),))
    report = gpu_check.check_gpu_compatibility(None, *KOBART)
    assert report.ok and report.gpu
    hardware._show(report)
    shown = capsys.readouterr().out
    assert "Apple's GPU" in shown and "11.0" in shown and "fp32 3.5" in shown


@pytest.mark.parametrize(
    ("checkpoint", "architecture", "model_type", "expected"),
    [
        ("kobart_mini", "kobart_mini", None, False),
        ("digit82/kobart-summarization", "kobart", None, False),
        ("someone/model", "t5", None, True),
        ("someone/model", "mt5", None, True),
        ("someone/pko-t5-base", "auto", None, True),
        ("someone/t5-team/bart", "auto", None, False),
        ("folder", "auto", "t5", True),
        ("folder", "auto", "longt5", True),
        ("t5", "auto", "bart", False),
        ("folder", "auto", "no-such-type", False),
    ],
)
def test_which_models_overflow_in_fp16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: str, architecture: str, model_type: str | None,
    expected: bool,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if model_type is not None:
        (tmp_path / checkpoint).mkdir()
        (tmp_path / checkpoint / "config.json").write_text(json.dumps({"model_type": model_type}))
    kind = "mini" if checkpoint == "kobart_mini" else "pretrained"
    choice = ModelChoice(kind, architecture, checkpoint, "as asked")
    assert gpu_check.unsafe_in_fp16(choice, Config().model) is expected


def test_a_broken_configuration_file_of_a_model_is_judged_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-t5").mkdir()
    (tmp_path / "my-t5" / "config.json").write_text("{")
    assert gpu_check.unsafe_in_fp16(ModelChoice("pretrained", "auto", "my-t5", ""), Config().model)


def test_findings_become_parts_of_a_check():
    found = Found()
    gpu_check.tell([Finding("a", "ok", "fine"), Finding("b", "warning", "mind", "Do it")], found)
    assert (found.status, found.details) == ("warning", ["fine", "mind. Do it"])
    gpu_check.tell([Finding("c", "failed", "broken")], found)
    assert found.status == "failed"
