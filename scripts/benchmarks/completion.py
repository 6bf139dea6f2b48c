#!/usr/bin/env python3
"""Time one TAB of shell completion, from the shell's question to its answer.

    python scripts/benchmarks/completion.py [--rounds 15]

Each line is the median of whole processes: a real bash (and fish) that loads the script and asks it as TAB does, its
own start included, and for comparison `python -c pass` and `dlgsum --help`. They take turns, round by round, so that
other work on the machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from dlgsum.cli.completion.command import Shell, read_script

QUESTIONS: Final = (
    "tra", "train mod", "train model=", "train training.le", "train training.batching=", "train metrics.scorer=",
    "train data.train=", "predict ", "train --",
)  # fmt: skip


def in_bash(question: str) -> list[str]:
    """Return a bash that asks its completion function as TAB does."""
    line = f"dlgsum {question}"
    program = f"{read_script(Shell.bash)}\nCOMP_LINE='{line}' COMP_POINT={len(line)}\n_dlgsum dlgsum\n"
    return ["bash", "-c", f'{program}\n[ "${{#COMPREPLY[@]}}" -gt 0 ]']


def in_fish(question: str) -> list[str]:
    """Return a fish that completes a line; fish takes long to start, so its figure is not one TAB."""
    script = Path(__file__).resolve().parents[2] / "dlgsum" / "cli" / "completion" / "dlgsum.fish"
    return ["fish", "--no-config", "-c", f"source {script}; complete -C 'dlgsum {question}'"]


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description="Time one TAB of shell completion.")
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    # The program of this environment, whether it is active or not.
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    contenders = {"python -c pass": [sys.executable, "-c", "pass"], "dlgsum --help": ["dlgsum", "--help"]}
    contenders |= {f"bash  dlgsum {question}<TAB>": in_bash(question) for question in QUESTIONS}
    if shutil.which("fish"):
        contenders |= {"fish -c true": ["fish", "--no-config", "-c", "true"]}
        contenders |= {"fish  dlgsum train training.batching=<TAB>": in_fish("train training.batching=")}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, command in contenders.items():
            start = time.perf_counter()
            subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=True)
            times[name].append(time.perf_counter() - start)
    bare = statistics.median(times["python -c pass"][1:])
    helped = statistics.median(times["dlgsum --help"][1:])
    print(f"{'median of ' + str(rounds) + ' rounds':45} {'seconds':>8} {'/ pass':>8} {'/ --help':>8}")
    for name, seconds in times.items():
        median = statistics.median(seconds[1:])  # the first round filled the caches
        print(f"{name:45} {median:8.3f} {median / bare:8.1f} {median / helped:8.2f}")


if __name__ == "__main__":
    main()
