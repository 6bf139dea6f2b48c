#!/usr/bin/env python3
"""Compare the batch sizes that dlgsum finds with the true maxima, found by trying every size.

    python scripts/benchmarks/batch_size.py [--quick] [--json]

On a CPU the memory of a card is simulated by counting tensors, with a tiny model; on CUDA the limits are those of the
card's allocator, with a model of KoBART's size. Each try, ours and the exhaustive ones, is a process of its own. The
exhaustive search goes through all sizes from the smallest to a quarter above what was found, or on CUDA and with
--quick from a tenth below; token budgets go by in steps of 1 %. A ratio of at least 0.952 is within 5 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch

from dlgsum.config.request import Request
from dlgsum.recipes.batch_goals import EVAL, TOKENS, TRAIN, Goal, goals
from dlgsum.recipes.batch_size import BatchSizes, search
from dlgsum.recipes.prepare import prepare
from dlgsum.recipes.probe import Subject
from dlgsum.recipes.probe_process import Probes
from dlgsum.recipes.settle import settle

MIB: Final = 2**20
TINY: Final = (
    "model.mini.d_model=32", "model.mini.ffn=64", "model.mini.heads=2", "model.mini.encoder_layers=1",
    "model.mini.decoder_layers=1", "model.mini.vocab_size=2600", "tokenizer.encoder_max_len=128",
    "tokenizer.decoder_max_len=24", "general.device=cpu",
)  # fmt: skip
LIKE_KOBART: Final = (
    "model.mini.d_model=768", "model.mini.ffn=3072", "model.mini.heads=16", "model.mini.encoder_layers=6",
    "model.mini.decoder_layers=6", "model.mini.vocab_size=4000", "tokenizer.encoder_max_len=512",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What was found within a limit, and what there is to be found."""

    key: str
    limit_mib: int
    ours: int
    truth: int
    ratio: float
    probes: int
    seconds: float
    tried_all: int


def cases(quick: bool) -> Iterator[Case]:
    """Compare each kind of batch within each limit."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        common = ["model=kobart_mini", "data=sample", "data.cache=false", "metrics=char"]
        settled = settle(Request(overrides=[*common, *TINY]))
        on_card = torch.cuda.is_available()
        if on_card:
            settled = settle(Request(overrides=[*common, *LIKE_KOBART, "generation.max_length=100"]))
        prepared = prepare(settled)
        subject = Subject(settled.config, prepared.start.config, prepared.start.tokenizer)
        limits: list[int | None] = [4096 * MIB, 16384 * MIB, None] if on_card else [20 * MIB, 40 * MIB]
        with Probes(subject) as probes:
            for limit in limits[: 1 if quick else None]:
                for key in (TRAIN, TOKENS, EVAL):
                    (goal,) = goals(settled.config, prepared.datasets, [key], processes=1)
                    # A card takes more rows than the bundled data have; what is sought is the end of its memory.
                    goal = dataclasses.replace(goal, largest=goal.largest * (1000 if on_card else 1), landmarks=())
                    started = time.perf_counter()
                    sizes = search(probes, settled.config, [goal], memory_limit=limit)
                    seconds = time.perf_counter() - started
                    yield compare(probes, goal, sizes, seconds, around=quick or on_card)


def compare(probes: Probes, goal: Goal, sizes: BatchSizes, seconds: float, *, around: bool) -> Case:
    """Try every size, and compare the largest that fits with the one that was found."""
    (choice,) = sizes.choices
    found, memory = choice.found, sizes.memory
    step = max(1, found // (100 if goal.key == TOKENS or found > 400 else 1000))
    first = max(goal.smallest, round(found * 0.9)) if around else goal.smallest
    tried = range(first, min(goal.largest, round(found * 1.25)) + 1, step)
    truth = found
    for size in tried:
        task = dataclasses.replace(goal.task(size, False), limit=memory.limit, counting=memory.counting)
        if probes.run(task).fits:
            truth = max(truth, size)
    return Case(
        goal.key, memory.limit // MIB, found, truth, round(found / truth, 4), len(choice.probes), seconds, len(tried)
    )


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description="Compare found batch sizes with the true maxima.")
    parser.add_argument("--quick", action="store_true", help="one limit, and only sizes around what was found")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    done = []
    for case in cases(arguments.quick):
        done.append(case)
        print(
            f"{case.key:38} limit {case.limit_mib:>7,} MiB  found {case.ours:>7,}  true {case.truth:>7,}  "
            f"ratio {case.ratio:.3f}  in {case.probes:>2} tries, {case.seconds:5.1f} s; all: {case.tried_all} tries",
            file=sys.stderr if arguments.json else sys.stdout,
            flush=True,
        )
    if arguments.json:
        print(json.dumps([dataclasses.asdict(case) for case in done]))
    worst, most = min(case.ratio for case in done), max(case.probes for case in done)
    print(f"worst ratio {worst:.3f}, most tries {most}", file=sys.stderr if arguments.json else sys.stdout)


if __name__ == "__main__":
    main()
