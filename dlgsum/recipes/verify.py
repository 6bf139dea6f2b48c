"""Prove, on the configuration of a run, that going on after an interruption changes nothing."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlgsum.config.compose import compose, to_yaml
from dlgsum.config.request import Request
from dlgsum.config.schema import Alerts, Config
from dlgsum.core.errors import EnvironmentProblem, TrainingFailed
from dlgsum.core.files import read_jsonl, sha256_file
from dlgsum.core.text import plural
from dlgsum.recipes import wiring
from dlgsum.recipes.checks import Check, CheckList
from dlgsum.recipes.failures import failures_in_words
from dlgsum.recipes.resume import find_folder
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.stream import OF_THE_MACHINE

_STEPS, _STOP = 6, 3  # of the straight run; after so many the other one is interrupted


@dataclass(frozen=True)
class Proof:
    """What was tried, and what differs between the straight and the resumed run; nothing, if all is well."""

    checks: list[Check]
    differences: list[str]


def verify(name: str, request: Request, *, on_check: Callable[[Check], None] | None = None) -> Proof:
    """Train a few steps straight through, and once more with an interruption, each part in a process of its own.

    Nothing of the run itself is touched, and nothing is kept.

    Args:
        name: the run whose configuration is used.
        on_check: told of each part as it is done.

    Raises:
        TrainingFailed: one of the parts failed.
        EnvironmentProblem: nothing can be written in the output folder.
    """
    run = find_folder(name, request)
    config = compose(Request(base=run.config, environ={}, overrides=request.overrides, file=request.file)).config
    log = CheckList(on_check)
    with failures_in_words(lambda: None):
        return _prove(config, log)


def _prove(config: Config, log: CheckList) -> Proof:
    try:
        folder = Path(tempfile.mkdtemp(prefix=".verify-", dir=wiring.output_dir(config)))
    except OSError as error:
        raise EnvironmentProblem(f"Nothing can be written in {wiring.output_dir(config)}: {error.strerror}") from error
    try:
        straight, resumed = RunFolder(folder / "straight"), RunFolder(folder / "resumed")
        with log.check(f"{_STEPS} steps straight through") as found:
            _start(straight, _few_steps(config))
            found(f"weights {_hash(straight)[:16]}")
        with log.check(f"stopped after {_STOP} and resumed") as found:
            shutil.copytree(straight.path, resumed.path)
            shutil.rmtree(resumed.checkpoints / f"checkpoint-{_STEPS}")
            for left in (resumed.models, resumed.predictions):
                shutil.rmtree(left)
            resumed.results.unlink(missing_ok=True)
            _go_on(resumed)
            found(f"weights {_hash(resumed)[:16]}")
        differences: list[str] = []
        with log.check("the same") as found:
            differences = list(_compare(straight, resumed))
            for line in differences:
                found.fail(line)
            if not differences:
                rows = len(_rows(straight))
                found(f"weights, optimizer, schedule, random states and {plural(rows, 'row')} of metrics are equal")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Proof(log.checks, differences)


def _few_steps(config: Config) -> Config:
    """Return the same training, but for its length, its evaluations and where it writes."""
    training = dataclasses.replace(
        config.training, max_steps=_STEPS, eval_strategy="no", save_strategy="steps", save_steps=_STOP,
        save_total_limit=None, load_best_model_at_end=False, early_stopping_patience=None, logging_steps=2,
        logging_strategy="steps",
    )  # fmt: skip
    cache = wiring.cache_dir(config)
    return dataclasses.replace(
        config,
        training=training,
        data=dataclasses.replace(config.data, max_eval_samples=4, cache_dir=None if cache is None else str(cache)),
        monitoring=dataclasses.replace(config.monitoring, progress="off", alerts=Alerts()),
        wandb=dataclasses.replace(config.wandb, mode="disabled"),
    )


def _start(run: RunFolder, config: Config) -> None:
    for folder in (run.checkpoints, run.models, run.predictions):
        folder.mkdir(parents=True)
    run.write_config(to_yaml(config))
    _go_on(run)


def _go_on(run: RunFolder) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dlgsum.recipes.worker", str(run.path.absolute())],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )  # fmt: skip
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise TrainingFailed(f"A run of {_STEPS} steps with this configuration failed:\n{last}")


def _hash(run: RunFolder) -> str:
    weights = sorted((run.checkpoints / f"checkpoint-{_STEPS}").glob("model*.safetensors"))
    return sha256_file(weights[0]) if weights else "missing"


def _compare(straight: RunFolder, resumed: RunFolder) -> list[str]:
    from safetensors.torch import load_file

    one, other = (run.checkpoints / f"checkpoint-{_STEPS}" for run in (straight, resumed))
    lines = []
    for path in sorted(one.glob("model*.safetensors")):
        mine, theirs = load_file(path), load_file(other / path.name)
        worst = max(float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine)
        if sha256_file(path) != sha256_file(other / path.name):
            lines.append(f"weights: differ by up to {worst:.3g}")
    lines += [f"{name}: not equal" for name in ("optimizer.pt", "scheduler.pt") if not _equal(one / name, other / name)]
    if _rows(straight) != _rows(resumed):
        lines.append("metrics: the rows are not the same")
    return lines


def _equal(one: Path, other: Path) -> bool:
    import torch

    if not one.is_file() or not other.is_file():
        return one.exists() == other.exists()
    return _same(*(torch.load(path, weights_only=True, map_location="cpu") for path in (one, other)))


def _same(one: Any, other: Any) -> bool:
    import torch

    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _rows(run: RunFolder) -> list[tuple[int, dict[str, Any]]]:
    return [
        (
            row["step"],
            {name: value for name, value in row["metrics"].items() if not any(time in name for time in OF_THE_MACHINE)},
        )
        for row in read_jsonl(run.metrics)
    ]
