"""The estimate of disk space against what transformers really writes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import pytest

from dlgsum.config.schema.training import Optimizer
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.recipes.space import STATE_BYTES, bytes_in, check_space, needed_bytes, run_bytes, size_in_words
from tests.training.tiny_checkpoint import tiny_model, train_plainly


@pytest.mark.parametrize("frozen", [False, True], ids=["all trained", "encoder frozen"])
@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop"])
def test_the_estimate_is_near_what_is_written(tmp_path: Path, optimizer: str, frozen: bool):
    """The 8-bit optimizers need bitsandbytes and a GPU, and are not compared."""
    model = tiny_model(d_model=192)
    if frozen:
        model.get_encoder().requires_grad_(False)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    train_plainly(tmp_path / "run", model, optim=optimizer, max_steps=2, save_total_limit=2)
    model.save_pretrained(tmp_path / "model")
    written, a_model = bytes_in(tmp_path / "run" / "checkpoint-2"), bytes_in(tmp_path / "model")

    estimate = needed_bytes(
        parameters, trainable=trainable, optimizer=optimizer, keep_checkpoints=2, planned_checkpoints=9, keep_best=1
    )
    assert estimate == pytest.approx(3 * written + 2 * a_model, rel=0.1)


def test_every_optimizer_of_the_configuration_has_a_size():
    assert set(STATE_BYTES) == set(get_args(Optimizer))


@pytest.mark.parametrize(
    ("keep", "planned", "checkpoints"),
    [(2, 10, 3), (2, 3, 3), (2, 2, 2), (1, 10, 2), (None, 10, 10), (None, 0, 0), (3, 0, 0)],
)
def test_one_more_is_there_than_is_kept(keep: int | None, planned: int, checkpoints: int):
    sizes = {"keep_checkpoints": keep, "planned_checkpoints": planned}
    assert run_bytes(checkpoint=1000, model=10, keep_best=2, **sizes) == 1000 * checkpoints + 30
    assert (
        needed_bytes(100, trainable=100, optimizer="adamw_torch", keep_best=2, other_bytes=7, **sizes)
        == 1207 * checkpoints + 3 * 407
    )


def test_half_precision_weights_and_an_unknown_optimizer():
    sizes = {"keep_checkpoints": 1, "planned_checkpoints": 1, "keep_best": 1}
    assert needed_bytes(100, trainable=10, optimizer="new", weight_bytes=2, **sizes) == (200 + 80) + 2 * 200


def test_too_little_space_is_said_with_figures(tmp_path: Path):
    free = shutil.disk_usage(tmp_path).free
    check_space(tmp_path / "not" / "yet" / "there", free // 2)
    with pytest.raises(EnvironmentProblem) as caught:
        check_space(tmp_path / "not" / "yet" / "there", free + 2**40)
    assert caught.value.exit_code == 4
    for part in ("GiB", str(tmp_path), "general.output_dir", "training.save_total_limit", "training.keep_best"):
        assert part in str(caught.value)
    with pytest.raises(EnvironmentProblem, match=r"needs 3 MiB in .* which has 2 MiB"):
        check_space(tmp_path, 3 * 2**20, free=2 * 2**20)
    check_space(tmp_path, 5, free=5)


@pytest.mark.parametrize(("size", "words"), [(0, "0 MiB"), (23 * 2**20, "23 MiB"), (3 * 2**29, "1.5 GiB")])
def test_sizes_in_words(size: int, words: str):
    assert size_in_words(size) == words
