#!/usr/bin/env python3
"""Write the package's bundled sample dialogues (train, dev and test CSV) from a seed.

    python scripts/make_sample_data.py [--out dlgsum/data/sample] [--seed 42]

The dialogues are filled from the skeletons in ``scripts/sample_dialogues``; the same seed gives the same
bytes on every Python version. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sample_dialogues.render import Row, render
from sample_dialogues.script import load

ROOT: Final = Path(__file__).resolve().parent.parent
SKELETONS: Final = Path(__file__).resolve().parent / "sample_dialogues"
SAMPLE: Final = ROOT / "dlgsum" / "data" / "sample"
#: Rows of each split, in the order in which the rounds over the skeletons fill them.
SIZES: Final[dict[str, int]] = {"test": 150, "dev": 150, "train": 1400}
TAG: Final = re.compile(r"#[A-Za-z0-9]+#")


def _order(rng: random.Random, count: int) -> list[int]:
    """The numbers below ``count`` in an order that depends on ``random()`` alone."""
    keyed = sorted((rng.random(), number) for number in range(count))
    return [number for _, number in keyed]


def generate(seed: int) -> dict[str, list[Row]]:
    """The rows of every split; each dialogue is used once, and each skeleton about equally often."""
    skeletons, common = load(SKELETONS)
    rng = random.Random(f"splits:{seed}")
    rows: list[Row] = []
    seen: set[str] = set()
    used: Counter[tuple[tuple[str, ...], str]] = Counter()
    total, turn = sum(SIZES.values()), 0
    while len(rows) < total:
        for number in _order(rng, len(skeletons)):
            skeleton = skeletons[number]
            for attempt in range(100):
                name = f"{seed}:{skeleton.topic}:{skeleton.key}:{turn}:{attempt}"
                row = render(skeleton, common, name, used)
                if row.dialogue not in seen:
                    break
            else:
                raise RuntimeError(f"{skeleton.topic}/{skeleton.key} has run out of new dialogues")
            seen.add(row.dialogue)
            rows.append(row)
        turn += 1
    splits: dict[str, list[Row]] = {}
    start = 0
    for split, size in SIZES.items():
        part = rows[start : start + size]
        splits[split] = [part[number] for number in _order(rng, size)]
        start += size
    return splits


def to_csv(split: str, rows: Sequence[Row]) -> bytes:
    """One split as UTF-8 CSV with LF line ends; the test split carries three summaries."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    extra = ["summary2", "summary3"] if split == "test" else []
    writer.writerow(["fname", "dialogue", "summary", *extra, "topic"])
    for number, row in enumerate(rows):
        summaries = row.ordered_summaries[: 1 + len(extra)]
        writer.writerow([f"{split}_{number}", row.dialogue, *summaries, row.topic])
    return text.getvalue().encode("utf-8")


def report(splits: dict[str, list[Row]], sizes: dict[str, int]) -> str:
    """A small table of what was written."""
    lines = [f"{'split':<6}{'rows':>6}{'topics':>8}{'turns':>7}{'dialogue':>10}{'summary':>9}{'bytes':>10}"]
    tags: Counter[str] = Counter()
    for split in ("train", "dev", "test"):
        rows = splits[split]
        count = len(rows)
        turns = sum(row.dialogue.count("\n") + 1 for row in rows) / count
        long = sum(len(row.dialogue) for row in rows) / count
        short = sum(len(row.ordered_summaries[0]) for row in rows) / count
        topics = len({row.topic for row in rows})
        lines.append(f"{split:<6}{count:>6}{topics:>8}{turns:>7.1f}{long:>10.1f}{short:>9.1f}{sizes[split]:>10}")
        tags.update(tag for row in rows for tag in set(TAG.findall(row.dialogue)))
    lines.append("rows with a tag: " + ", ".join(f"{tag} {number}" for tag, number in tags.most_common()))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description="Write the bundled sample dialogues.")
    parser.add_argument("--out", type=Path, default=SAMPLE, help="folder to fill")
    parser.add_argument("--seed", type=int, default=42, help="seed of the whole data set")
    options = parser.parse_args(argv)
    splits = generate(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    sizes: dict[str, int] = {}
    for split, rows in splits.items():
        data = to_csv(split, rows)
        (options.out / f"{split}.csv").write_bytes(data)
        sizes[split] = len(data)
    print(report(splits, sizes))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
