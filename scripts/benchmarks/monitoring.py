#!/usr/bin/env python3
"""What monitoring costs: the same training without it, with it, and with the callback that one writes by hand.

    python scripts/benchmarks/monitoring.py [--steps 100] [--rounds 3] [--json]

off          monitoring=off: nothing is measured or watched besides loss and gradient norm
default      monitoring as it comes
items        off, and a callback that takes grad.norm(2).item() and data.norm(2).item() of each weight at every step
items/100    the same callback, every 100 steps, as often as the default looks at the layers

Each variant trains the same weights on the same batches through dlgsum.create_trainer. They take turns, round by round,
so that other work on the machine slows all of them alike, and what is compared is the ratio within a round.

A step is all from its begin to the begin of the next one, so records and detectors are in it. Differences of one
percent drown in the noise of most machines. So the calls that monitoring makes are timed by themselves too, inside the
same runs; their share of all the time is the figure to go by. On a GPU it is the host's time: what a call has the card
do later shows in the step times only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

# Before torch is loaded, which reads it once: see training.py beside this file.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import transformers
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import TrainerCallback
from transformers.utils.logging import disable_progress_bar

import dlgsum
from dlgsum.core.errors import DlgsumError

OFF: Final = {"enabled": False, "nan_report": False}  # as in conf/monitoring/off.yaml
VARIANTS: Final[dict[str, dict[str, Any]]] = {"off": OFF, "default": {}, "items": OFF, "items/100": OFF}
EVERY: Final = {"items": 1, "items/100": 100}  # steps between two calls of the callback
WARM: Final = 3  # steps of each run before the clock starts
MONITOR: Final = "dlgsum.training.hooks.monitor"
STEADY: Final = 1.5  # longest over shortest round of a variant, above which the report calls itself unreliable


@dataclass
class Stopwatch:
    """Time that goes by inside the functions it was put around; one inside another is not counted twice."""

    running: bool = False
    seconds: float = 0.0
    calls: int = 0
    _inside: bool = False

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with the stopwatch around it."""

        def timed(*arguments: Any, **named: Any) -> Any:
            if self._inside or not self.running:
                return function(*arguments, **named)
            self._inside = True
            started = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - started
                self.calls += 1
                self._inside = False

        return timed


class Items(TrainerCallback):
    """What one writes by hand: two numbers of each weight, each of which is brought to the host by itself."""

    def __init__(self, every: int, stopwatch: Stopwatch) -> None:
        self._every = every
        self._measure = stopwatch.around(self.measure)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure where gradients exist."""
        if (state.global_step + 1) % self._every == 0:
            self._measure(kwargs["model"])

    @staticmethod
    def measure(model: torch.nn.Module) -> dict[str, float]:
        """Return the norm of each gradient, and its ratio to the weight's."""
        found: dict[str, float] = {}
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                norm, size = weight.grad.data.norm(2).item(), weight.data.norm(2).item()
                found |= {f"layer_grad/{name}": norm, f"layer_ratio/{name}": norm / (size + 1e-8)}
        return found


@dataclass
class Clock(TrainerCallback):
    """Notes when each step begins."""

    stopwatch: Stopwatch
    begins: list[float] = field(default_factory=list)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the time; the stopwatch runs from the first step that counts to the begin of the last one."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.begins.append(time.perf_counter())
        self.stopwatch.running = len(self.begins) > WARM and state.global_step < args.max_steps - 1


@dataclass(frozen=True)
class Measured:
    """One run: seconds of all steps together and of each, and seconds and number of the calls of monitoring."""

    seconds: float
    steps: list[float]
    inside: float
    calls: int
    loss: float


def settings(options: argparse.Namespace, variant: str, steps: int, folder: Path) -> dict[str, Any]:
    """Return the configuration of a run of so many steps that count, one before them to end on and some to warm up."""
    width, layers = options.d_model, options.layers
    return {
        "general": {"seed": 42, "output_dir": str(folder)},
        "model": {
            "checkpoint": "kobart_mini",
            "mini": {
                "d_model": width, "ffn": 4 * width, "heads": 4, "vocab_size": 6000,
                "encoder_layers": layers, "decoder_layers": layers, "dropout": 0.1,
            },
        },
        "data": {"source": "sample", "max_eval_samples": 1, "cache_dir": str(folder / "cache")},
        "training": {
            "max_steps": WARM + steps + 1, "per_device_train_batch_size": options.batch_size, "learning_rate": 1e-4,
            "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False,
        },
        "monitoring": {"progress": "off", "samples": 0, **VARIANTS[variant]},
    }  # fmt: skip


def run(options: argparse.Namespace, variant: str, steps: int, folder: Path) -> Measured:
    """Train once."""
    job = dlgsum.create_trainer(settings(options, variant, steps, folder))
    trainer, stopwatch = job.trainer, Stopwatch()
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__module__ == MONITOR:
            for name in (name for name in dir(callback) if name.startswith("on_")):
                setattr(callback, name, stopwatch.around(getattr(callback, name)))
    if job.config.monitoring.nan_report:  # keeps random states, to do a step again
        trainer.this_step.enter = stopwatch.around(trainer.this_step.enter)  # type: ignore[method-assign]
    if variant in EVERY:
        trainer.add_callback(Items(EVERY[variant], stopwatch))
    clock = Clock(stopwatch)
    trainer.add_callback(clock)
    job.train()
    begins = clock.begins[WARM:]
    if len(begins) != steps + 1:
        raise RuntimeError(f"{variant} did {len(begins) - 1} steps that count instead of {steps}")
    each = [after - before for before, after in pairwise(begins)]
    return Measured(
        begins[-1] - begins[0],
        each,
        stopwatch.seconds,
        stopwatch.calls,
        next(row["train_loss"] for row in reversed(trainer.state.log_history) if "train_loss" in row),
    )


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Warm up, let the variants take turns, and return every number of the report."""
    names = list(VARIANTS)
    load = [os.getloadavg()[0]] if hasattr(os, "getloadavg") else []
    # Each round begins with another variant: none always comes after the same one.
    turns = [names[(first + place) % len(names)] for first in range(options.rounds) for place in range(len(names))]
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    for name in names:
        run(options, name, 2, folder)
    console = Console(stderr=True)
    for name in track(turns, description="training", console=console, disable=options.json, transient=True):
        runs[name].append(run(options, name, options.steps, folder))
    load += [os.getloadavg()[0]] if hasattr(os, "getloadavg") else []
    losses = {one.loss for of_variant in runs.values() for one in of_variant}
    variants = {
        name: {
            "seconds": [one.seconds for one in of_variant],
            "step_ms": statistics.median(1000 * one.seconds / options.steps for one in of_variant),
            "median_step_ms": statistics.median(1000 * statistics.median(one.steps) for one in of_variant),
            "extra_percent": spread(
                [100 * (one.seconds / off.seconds - 1) for one, off in zip(of_variant, runs["off"], strict=True)]
            ),
            "extra_percent_of_median_step": spread(
                [
                    100 * (statistics.median(one.steps) / statistics.median(off.steps) - 1)
                    for one, off in zip(of_variant, runs["off"], strict=True)
                ]
            ),
            "inside_percent": spread([100 * one.inside / one.seconds for one in of_variant]),
            "inside_ms_per_step": spread([1000 * one.inside / options.steps for one in of_variant]),
            "calls": of_variant[-1].calls,
        }
        for name, of_variant in runs.items()
    }
    unsteady = [name for name, it in variants.items() if max(it["seconds"]) > STEADY * min(it["seconds"])]
    return {"variants": variants, "load_average": load, "unsteady": unsteady, "same_loss": len(losses) == 1}


def spread(values: list[float]) -> dict[str, Any]:
    """Return the median, the extremes and the values themselves."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "rounds": values}


def shown(values: dict[str, Any], kind: str) -> str:
    """Return the median, and the extremes where there are several rounds."""
    text = format(values["median"], kind)
    if len(values["rounds"]) == 1:
        return text
    return f"{text} ({format(values['least'], kind)} to {format(values['most'], kind)})"


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """Return machine and model, for whoever reads the numbers later."""
    return {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, threads used: "
        f"{torch.get_num_threads()}",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}",
        "model": f"BART, {options.layers}+{options.layers} layers of width {options.d_model}, vocabulary 6000",
        "data": f"the sample that comes along, batches of {options.batch_size} rows",
        "steps": options.steps,
        "rounds": options.rounds,
    }


def print_report(console: Console, setting: dict[str, Any], result: dict[str, Any]) -> None:
    """Print the setting and one line per variant."""
    for name, value in setting.items():
        console.print(f"{name:<9} {value}", markup=False, highlight=False)
    load = ", ".join(f"{value:.1f}" for value in result["load_average"])
    console.print(f"load      before and after: {load}\n", highlight=False)
    table = Table()
    percent = ("more than off, %", "median step, %", "share of the time, %")
    for name in ("", "ms a step", *percent[:2], "inside the calls, ms a step", percent[2]):
        table.add_column(name, justify="right" if name else "left")
    for name, it in result["variants"].items():
        compared = () if name == "off" else (it["extra_percent"], it["extra_percent_of_median_step"])
        table.add_row(
            name,
            f"{it['step_ms']:.1f}",
            *([shown(one, "+.2f") for one in compared] or ["", ""]),
            f"{it['inside_ms_per_step']['median']:.3f}",
            shown(it["inside_percent"], ".3f"),
        )
    console.print(table)
    console.print(
        "Medians of the rounds and, in brackets, their extremes. The share of the time is the figure to go by: the "
        "time inside the calls of monitoring over all the time of the same run.",
        highlight=False,
    )
    if setting["steps"] < 100:
        console.print("Below 100 steps neither the default nor items/100 looks at a layer at all.", highlight=False)
    if not result["same_loss"]:
        console.print("WRONG: the variants did not learn the same.", highlight=False)
    if result["unsteady"]:
        console.print(
            f"UNRELIABLE step times: the rounds of {', '.join(result['unsteady'])} differ by more than a factor of "
            f"{STEADY}; other programs are in the way. Try --threads 1, more --rounds, or a quieter time.",
            highlight=False,
        )


def parse_arguments() -> argparse.Namespace:
    """Return the options; ``--quick`` replaces the sizes that were not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {  # name: (default, with --quick, help)
        "steps": (100, 10, "steps that count in each run; at least 100 for the layers to be looked at"),
        "rounds": (3, 1, "how often each variant has its turn"),
        "batch-size": (8, 2, "rows in a batch"),
        "layers": (3, 1, "layers of the encoder, and of the decoder"),
        "d-model": (192, 16, "width of the model; a multiple of 4"),
    }
    for name, (default, quick, text) in sizes.items():
        parser.add_argument(f"--{name}", type=_from_one, metavar="N", help=f"{text} ({default}; --quick: {quick})")
    parser.add_argument(
        "--threads", type=_from_one, metavar="N", help="threads of torch (torch's own choice; --quick: 1)"
    )
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, to see that it works")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    for name, (default, quick, _) in sizes.items():
        key = name.replace("-", "_")
        if getattr(options, key) is None:
            setattr(options, key, quick if options.quick else default)
    if options.quick and options.threads is None:
        options.threads = 1
    return options


def _from_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def main() -> int:
    """Measure and print."""
    options = parse_arguments()
    for library in ("transformers", "dlgsum"):
        logging.getLogger(library).setLevel(logging.ERROR)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", module=r"torch\.|transformers\.")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    for variable in ("SLACK_WEBHOOK_URL", "DISCORD_WEBHOOK_URL"):
        os.environ.pop(variable, None)  # nobody wants to be told of these runs
    try:
        # What a run says of itself belongs to no report, and --json promises nothing but JSON.
        with tempfile.TemporaryDirectory(prefix="dlgsum-benchmark-") as folder, contextlib.redirect_stdout(sys.stderr):
            result = measure(options, Path(folder))
    except DlgsumError as error:
        print(f"monitoring.py: {error}", file=sys.stderr)
        return 2
    setting = describe(options)
    if options.json:
        print(json.dumps({"setting": setting, **result}, ensure_ascii=False, indent=2))
    else:
        print_report(Console() if sys.stdout.isatty() else Console(width=140), setting, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
