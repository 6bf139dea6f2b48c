"""Batch sizes found by real steps: against every size, in their own processes, for the command and for training."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dlgsum.config.request import Request
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.recipes.batch_goals import EVAL, TOKENS, TRAIN, goals, worst_shapes
from dlgsum.recipes.batch_size import search, settle_batch_size
from dlgsum.recipes.prepare import Prepared, prepare
from dlgsum.recipes.probe import Look, Subject, Training
from dlgsum.recipes.probe_process import Probes
from dlgsum.recipes.probe_steps import Shape
from dlgsum.recipes.settle import Settled, settle
from tests.e2e.conftest import TINY, Dlgsum

MIB = 2**20
SMALL = [*TINY, "data.cache=false", "general.device=cpu"]
ROOMY = 10**9


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settled, Prepared]:
    """A tiny job with the bundled dialogues."""
    settled = settle(Request(overrides=SMALL, environ={}))
    return settled, prepare(settled)


@pytest.fixture(scope="module")
def probes(job: tuple[Settled, Prepared]) -> Iterator[Probes]:
    """A server for all tests of this file; each try is a process of its own all the same."""
    settled, prepared = job
    with Probes(Subject(settled.config, prepared.start.config, prepared.start.tokenizer)) as server:
        yield server


def server_of(probes: Probes) -> psutil.Process:
    assert probes._server is not None
    return psutil.Process(probes._server.pid)


def of(shape: Shape, **changes: object) -> Training:
    values = {"timed": None, "accumulation": 1, "limit": ROOMY, "counting": "tensors"}
    return Training((shape,), **{**values, **changes})  # type: ignore[arg-type]


# --- one try ---


def test_a_step_takes_more_with_more_rows_and_with_accumulation(probes: Probes):
    few, more = probes.run(of(Shape(8, 100, 20))), probes.run(of(Shape(32, 100, 20)))
    assert few.fits and more.fits
    assert few.peak < more.peak
    # The second batch of a step finds the gradients of the first.
    assert probes.run(of(Shape(32, 100, 20), accumulation=2)).peak > more.peak


def test_the_optimizers_state_is_there_when_the_worst_batch_comes(probes: Probes):
    device = probes.run(Look()).device
    assert device is not None and device.kind == "cpu"
    # Weights, gradients and two moments of AdamW: the least that a step holds at its end.
    assert probes.run(of(Shape(1, 8, 4))).peak > 4 * device.parameters


def test_no_memory_is_an_outcome_and_leaves_nothing_behind(probes: Probes):
    first = probes.run(of(Shape(16, 100, 20)))
    failed = probes.run(of(Shape(16, 100, 20), limit=first.peak - 1))
    assert not failed.fits
    assert "out of memory" in failed.note
    assert probes.run(of(Shape(16, 100, 20), limit=first.peak)) == first
    assert server_of(probes).children() == []


def test_another_failure_is_not_taken_for_it(probes: Probes):
    with pytest.raises(EnvironmentProblem, match="not for want of memory") as caught:
        probes.run(of(Shape(1, 5000, 20)))  # longer than the model's positions
    assert "index out of range" in str(caught.value)
    assert probes.run(of(Shape(1, 8, 4))).fits, "the next try is not concerned"


def test_a_process_that_takes_more_than_it_may_is_stopped(probes: Probes):
    held = probes.run(of(Shape(1, 8, 4), counting="process")).peak
    outcome = probes.run(of(Shape(800, 128, 24), counting="process", limit=held + 40 * MIB))
    assert (outcome.fits, outcome.note) == (False, "more memory than there is to take")


def test_a_process_that_the_system_kills_did_not_fit(probes: Probes):
    probes.run(Look())

    def kill() -> None:
        while not (children := server_of(probes).children()):
            time.sleep(0.01)
        children[0].kill()

    threading.Thread(target=kill).start()
    outcome = probes.run(of(Shape(800, 128, 24), counting="process", limit=10**12))
    assert (outcome.fits, outcome.note) == (False, "killed by the system (SIGKILL)")
    assert all(child.status() != psutil.STATUS_ZOMBIE for child in server_of(probes).children())


def test_one_that_never_ends_is_given_up(job: tuple[Settled, Prepared]):
    settled, prepared = job
    subject = Subject(settled.config, prepared.start.config, prepared.start.tokenizer)
    with Probes(subject, patience=0.2) as impatient:
        with pytest.raises(EnvironmentProblem, match="not done after 0 seconds"):
            impatient.run(Look())
        assert impatient._server is None


# --- the search, against every size ---


@pytest.mark.parametrize("key", [TRAIN, *(pytest.param(key, marks=pytest.mark.slow) for key in (TOKENS, EVAL))])
def test_within_five_percent_of_the_true_maximum(key: str, job: tuple[Settled, Prepared], probes: Probes):
    settled, prepared = job
    (goal,) = goals(settled.config, prepared.datasets, [key], processes=1)
    told: list[int] = []
    sizes = search(
        probes, settled.config, [goal], on_probe=lambda what, probe: told.append(probe.size), memory_limit=15 * MIB
    )
    (choice,) = sizes.choices
    assert len(choice.probes) == len(told) <= 10
    assert sizes.memory.limit == int(15 * MIB * 0.95)
    step = max(1, choice.found // 50)
    truth = choice.found
    for size in range(choice.found, int(choice.found * 1.3), step):
        probe = probes.run(dataclasses.replace(goal.task(size, False), limit=sizes.memory.limit, counting="tensors"))
        truth = size if probe.fits else truth
    assert choice.found >= truth / 1.05 or choice.found == truth - 1
    assert "fits and" in choice.reason


def test_not_even_one_row(job: tuple[Settled, Prepared], probes: Probes):
    settled, prepared = job
    (goal,) = goals(settled.config, prepared.datasets, [TRAIN], processes=1)
    with pytest.raises(EnvironmentProblem, match="Even a single row") as caught:
        search(probes, settled.config, [goal], memory_limit=MIB)
    assert "tokenizer.encoder_max_len" in caught.value.hint


def test_on_a_cpu_speed_decides(job: tuple[Settled, Prepared], probes: Probes):
    settled, prepared = job
    (goal,) = goals(settled.config, prepared.datasets, [TRAIN], processes=1)
    (choice,) = search(probes, settled.config, [goal]).choices
    assert 1 < len(choice.probes) <= 10
    speeds = {probe.size: probe.tokens_per_second for probe in choice.probes}
    assert speeds[choice.found] >= 0.95 * max(speeds.values())
    assert "tokens/s" in choice.reason


def test_the_worst_batches_of_a_token_budget(job: tuple[Settled, Prepared]):
    train = job[1].datasets["train"]
    budget = 1500
    shapes = worst_shapes(train.source_lengths, train.target_lengths, budget, seed=1)
    assert 1 <= len(shapes) <= 3
    assert all(shape.rows * (shape.source + shape.target) <= budget for shape in shapes)
    assert max(shape.rows * (shape.source + shape.target) for shape in shapes) > 0.9 * budget


def test_the_effective_batch_is_kept(job: tuple[Settled, Prepared]):
    settled, prepared = job
    overrides = [*SMALL, "training.per_device_train_batch_size=auto", "training.effective_batch_size=40"]
    asked = settle(Request(overrides=overrides, environ={}))
    done = settle_batch_size(asked, prepared, processes=2, memory_limit=12 * MIB)
    training = done.config.training
    assert training.train_rows * training.accumulation(2) * 2 == 40
    assert training.train_rows in (1, 2, 4, 5, 10, 20)
    assert "keeps the effective batch of 40" in done.reasons["batch size"]
    assert done.history[TRAIN][-1].origin.kind == "choice"
    assert done.history[TRAIN][-1].value == training.train_rows
    assert settle_batch_size(settled, prepared) is settled, "nothing is to be found"


def test_what_was_found_is_found_again_without_trying(tmp_path: Path, job: tuple[Settled, Prepared], probes: Probes):
    def find(*overrides: str, limit: int = 12 * MIB) -> bool:
        config = settle(Request(overrides=[*SMALL, *overrides], environ={})).config
        (goal,) = goals(config, job[1].datasets, [TRAIN], processes=1)
        tries: list[int] = []
        (choice,) = search(
            probes, config, [goal], memory_limit=limit, on_probe=lambda what, probe: tries.append(probe.size),
            folder=tmp_path, of_model=job[1].start.config,
        ).choices  # fmt: skip
        assert choice.reused == (not tries)
        return choice.reused

    assert not find()
    assert find()
    assert find("training.learning_rate=1e-3"), "which decides nothing here"
    assert not find(limit=11 * MIB)
    assert not find("training.optim=sgd")
    for entry in (tmp_path / "batch_sizes").iterdir():
        content = json.loads(entry.read_text())
        entry.write_text(json.dumps({**content, "free": content["free"] * 2}))
    assert not find(), "less memory is free than there was"
    for entry in (tmp_path / "batch_sizes").iterdir():
        entry.write_text("{")
    assert not find(), "a damaged entry"


# --- the command line ---


@pytest.mark.slow
def test_the_command(tmp_path: Path, dlgsum: Dlgsum):
    lines = [*TINY, "general.device=cpu", "training.effective_batch_size=96", "--memory-limit", "16MiB"]
    done = dlgsum("find-batch-size", *lines, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "does not fit" in done.stderr
    for part in ("simulated", "planned", "keeps the effective batch of 96", "per_device_eval_batch_size="):
        assert part in done.stdout
    again = dlgsum("find-batch-size", *lines, "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert [choice["reused"] for choice in told["choices"]] == [True, True]
    assert f"use         {' '.join(told['overrides'])}" in done.stdout
    assert told["memory"]["counting"] == "tensors"
    assert list((tmp_path / "outputs").iterdir()) == [tmp_path / "outputs" / "cache"]


def test_a_limit_that_is_no_size(tmp_path: Path, dlgsum: Dlgsum):
    done = dlgsum("find-batch-size", "--memory-limit", "much", cwd=tmp_path)
    assert done.returncode == 2
    assert "8GiB" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_it_is_stopped(tmp_path: Path, number: signal.Signals):
    command = [sys.executable, "-m", "dlgsum", "find-batch-size", *TINY, "general.device=cpu"]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("training"):  # a try is done, and so another is under way
            break
    started = psutil.Process(process.pid).children(recursive=True)
    assert started
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_training_with_auto(tmp_path: Path, dlgsum: Dlgsum):
    sizes = ["training.per_device_train_batch_size=auto", "training.per_device_eval_batch_size=auto"]
    rest = ["general.device=cpu", "training.max_steps=2", "data.max_train_samples=16", "data.max_eval_samples=4"]
    done = dlgsum("train", *TINY, *rest, *sizes, "training.effective_batch_size=8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "batch size" in done.stderr
    (run,) = (tmp_path / "outputs" / "experiments").iterdir()
    saved = (run / "config.yaml").read_text()
    assert "auto" not in [line.split(": ")[1] for line in saved.splitlines() if "batch_size: " in line]
    refused = dlgsum("evaluate", "latest", "training.per_device_eval_batch_size=auto", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--batch-size 32" in refused.stderr


@pytest.mark.slow
def test_the_python_function():
    from transformers import BartConfig, BartForConditionalGeneration

    from dlgsum import find_optimal_batch_size
    from dlgsum.core.errors import UsageError

    model = BartForConditionalGeneration(
        BartConfig(
            vocab_size=300, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=66,
        )
    )  # fmt: skip
    lengths = {"source_length": 60, "target_length": 12}
    half = find_optimal_batch_size(model, "cpu", 0.5, memory_limit=8 * MIB, **lengths)
    most = find_optimal_batch_size(model, "cpu", memory_limit=8 * MIB, **lengths)
    assert isinstance(most, int)
    assert 1 < half < most
    with pytest.raises(UsageError, match="at most 66 tokens"):
        find_optimal_batch_size(model, "cpu", source_length=67)
