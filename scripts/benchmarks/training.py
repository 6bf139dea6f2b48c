#!/usr/bin/env python3
"""Compare our training loop with the two obvious ones, in one process, on the same rows.

    python scripts/benchmarks/training.py [--rows 320] [--rounds 3] [--data FILE] [--json]

ours/samples   SummarizationTrainer, rows of like length together, the same number of rows in each batch
ours/tokens    SummarizationTrainer, batches filled up to a number of tokens
plain          Seq2SeqTrainer with DataCollatorForSeq2Seq: random order, each batch padded to its longest row
fixed          Seq2SeqTrainer with every row padded to the longest that the settings allow, as in
               tokenizer(..., padding="max_length")

All train the same weights on the same rows once, with the same optimizer. They take turns, round by round, so
that other work on the machine slows all of them alike, and what is compared is the ratio within a round.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

# Before torch is loaded, which reads it once. Threads that spin while they wait stop each other wherever another
# program wants a processor: on two busy ones single rounds took ten times as long, now of one variant, now of another.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import numpy.typing as npt
import torch
import transformers
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import DataCollatorForSeq2Seq, PrinterCallback, Seq2SeqTrainer
from transformers.utils.logging import disable_progress_bar

from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.errors import DlgsumError
from dlgsum.data.batching import plan_batches, waste
from dlgsum.data.encode import EncodedSplit, encode_split
from dlgsum.data.rows import Dialogue, make_split
from dlgsum.recipes import wiring
from dlgsum.recipes.settle import settle_config
from dlgsum.training.arguments import build_arguments
from dlgsum.training.inference import SummaryGenerator
from dlgsum.training.trainer import SummarizationTrainer

SOURCE_MAX, TARGET_MAX = 512, 100
REAL_ROWS: Final = 12_457  # training rows of the Korean DialogSum
SEED: Final = 42
OURS: Final = ("ours/samples", "ours/tokens")
OTHERS: Final = ("plain", "fixed")
VARIANTS: Final = (*OURS, *OTHERS)
IGNORED: Final = -100
STEADY: Final = 1.5  # longest over shortest round of a variant, above which the report calls itself unreliable

Collator = Callable[[Sequence[Any]], dict[str, torch.Tensor]]
Lengths = npt.NDArray[np.int64]


@dataclass
class Work:
    """What a variant put through the model."""

    rows: Counter[tuple[int, ...]] = field(default_factory=Counter)
    batches: int = 0
    real: int = 0
    computed: int = 0


@dataclass(frozen=True)
class Counting:
    """A collator that also counts; the cost is some microseconds per row and the same for all."""

    collator: Collator
    work: Work

    def __call__(self, features: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Return the batch of the collator inside."""
        # Counted first: DataCollatorForSeq2Seq changes the rows that it is given.
        for row in features:
            self.work.rows[(*row["input_ids"], *row["labels"])] += 1
            self.work.real += len(row["input_ids"]) + len(row["labels"])
        batch = self.collator(features)
        self.work.batches += 1
        self.work.computed += batch["input_ids"].numel() + batch["labels"].numel()
        return batch


@dataclass(frozen=True)
class FixedCollator:
    """Pads every row to the longest length there may be."""

    pad_id: int

    def __call__(self, features: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Return tensors that are equally wide in every batch; BART itself makes the decoder's input of the labels."""
        sources = torch.full((len(features), SOURCE_MAX), self.pad_id)
        mask = torch.zeros((len(features), SOURCE_MAX), dtype=torch.int64)
        labels = torch.full((len(features), TARGET_MAX), IGNORED)
        for index, row in enumerate(features):
            source, target = row["input_ids"], row["labels"]
            sources[index, : len(source)] = torch.tensor(source)
            mask[index, : len(source)] = 1
            labels[index, : len(target)] = torch.tensor(target)
        return {"input_ids": sources, "attention_mask": mask, "labels": labels}


@dataclass(frozen=True)
class RandomTokens:
    """Encodes "dialogue 3" as so many random tokens as row 3 shall have; a text encoder for encode_split."""

    sources: Lengths
    targets: Lengths
    vocabulary: int
    end: int

    @property
    def fingerprint(self) -> str:
        """Never used: random rows are not cached."""
        return "random"

    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        """Return the random sources."""
        return [self._draw(0, int(text), int(self.sources[int(text)])) for text in texts]

    def encode_targets(self, texts: list[str]) -> list[list[int]]:
        """Return the random targets."""
        return [self._draw(1, int(text), int(self.targets[int(text)])) for text in texts]

    def _draw(self, side: int, row: int, length: int) -> list[int]:
        ids = np.random.default_rng((SEED, side, row)).integers(7, self.vocabulary, length - 1)  # 0-6: control tokens
        return [*ids.tolist(), self.end]


def draw_lengths(rows: int) -> tuple[Lengths, Lengths]:
    """Return lengths as in the Korean DialogSum, in KoBART's tokens with tags as single ones, end marks included.

    A log-normal with the mean 150 and the 95th percentile 357 has 1.4 % above 512, about as many as the data. The
    targets have the mean 29 and are cut at 100. How far longer dialogues have longer summaries is an assumption
    (0.5 between the logarithms).
    """
    random = np.random.default_rng(SEED)
    first, second = random.standard_normal((2, rows))
    sources = 120.7 * np.exp(0.66 * first)
    targets = 25.6 * np.exp(0.5 * (0.5 * first + np.sqrt(0.75) * second))
    return (
        np.clip(np.rint(sources), 8, SOURCE_MAX).astype(np.int64),
        np.clip(np.rint(targets), 4, TARGET_MAX).astype(np.int64),
    )


@dataclass(frozen=True)
class Job:
    """Everything that the variants share."""

    config: Config
    generator: SummaryGenerator
    rows: EncodedSplit
    weights: dict[str, torch.Tensor]
    tokens_per_batch: int
    folder: Path

    def trainer(self, variant: str, rows: EncodedSplit, work: Work) -> Seq2SeqTrainer:
        """Return a new trainer of a variant, on the starting weights, that counts what it computes."""
        model, plan = self.generator.model, self.generator.plan
        model.load_state_dict(self.weights)
        args = build_arguments(self.config, plan, self.folder / variant)
        if variant in OURS:
            generator = replace(self.generator, collator=Counting(self.generator.collator, work))  # type: ignore[arg-type]
            batching = {"batching": variant.removeprefix("ours/"), "tokens_per_batch": self.tokens_per_batch}
            config = replace(self.config, training=replace(self.config.training, **batching))  # type: ignore[arg-type]
            return SummarizationTrainer(
                config=config,
                args=args,
                generator=generator,
                suite=wiring.build_suite(config, None),
                train_dataset=rows,
                eval_dataset=None,
            )
        tokenizer = self.generator.tokenizer.hf
        collator: Collator = FixedCollator(self.generator.tokenizer.pad_id)
        if variant == "plain":
            collator = DataCollatorForSeq2Seq(tokenizer, model=model)
        trainer = Seq2SeqTrainer(
            model=model,
            args=args,
            data_collator=Counting(collator, work),
            train_dataset=rows,
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def run(self, variant: str, rows: EncodedSplit) -> tuple[float, Work]:
        """Train on the rows once; return the seconds of ``train()`` and what was counted.

        Raises:
            RuntimeError: a row did not come exactly once.
        """
        work = Work()
        trainer = self.trainer(variant, rows, work)
        started = time.perf_counter()
        trainer.train()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        expected = Counter((*row["input_ids"], *row["labels"]) for row in (rows[index] for index in range(len(rows))))
        if work.rows != expected:
            raise RuntimeError(f"{variant} did not train on each of the {len(rows)} rows exactly once")
        return seconds, work


def make_job(options: argparse.Namespace, folder: Path) -> Job:
    """Build the model, the rows and the settings with dlgsum's own parts.

    Raises:
        DlgsumError: the file has no usable rows, or the sizes are impossible.
    """
    data: dict[str, Any] = {"source": "sample", "max_eval_samples": 1, "cache": False}
    if options.data is not None:
        file = str(options.data.expanduser().resolve())
        data |= {"source": "csv", "train": file, "validation": file, "max_train_samples": options.rows}
    values: dict[str, object] = {
        "general": {"seed": SEED, "output_dir": str(folder)},
        "model": {
            "checkpoint": "kobart_mini",
            "mini": {
                "d_model": options.d_model, "ffn": 4 * options.d_model, "heads": 4, "vocab_size": 6000,
                "encoder_layers": options.layers, "decoder_layers": options.layers, "dropout": 0.1,
            },
        },
        "tokenizer": {"encoder_max_len": SOURCE_MAX, "decoder_max_len": TARGET_MAX},
        "data": data,
        "training": {
            "num_train_epochs": 1, "per_device_train_batch_size": options.batch_size, "learning_rate": 1e-4,
            "eval_strategy": "no", "save_strategy": "no", "logging_steps": 1_000_000,
            "load_best_model_at_end": False,
        },
        "monitoring": {"progress": "off"},
    }  # fmt: skip
    config = compose(Request(values=values, environ={})).config
    settled = settle_config(config)
    splits = wiring.build_splits(settled.config)
    transformers.set_seed(SEED)
    start = wiring.build_start(settled.config, settled.model, splits.train)
    model, tokenizer = wiring.build_model(settled.config, start), start.tokenizer
    generator = wiring.build_generator(settled.config, model, tokenizer, wiring.build_plan(settled.config, model))
    if options.data is not None:
        rows = wiring.encode(settled.config, splits, tokenizer)["train"]
    else:
        sources, targets = draw_lengths(options.rows)
        numbered = make_split("train", "random", [Dialogue(str(i), str(i), (str(i),)) for i in range(options.rows)])
        encoder = RandomTokens(sources, targets, len(tokenizer.hf), tokenizer.eos_id)
        rows = encode_split(numbered, encoder, cache_dir=None)
    # About as many rows in a batch of ours/tokens as in the others, so that no variant gains by larger batches.
    tokens = int(options.batch_size * (rows.source_lengths + rows.target_lengths).mean())
    weights = copy.deepcopy(model.state_dict())
    return Job(settled.config, generator, rows, weights, max(64, tokens), folder)


def measure(job: Job, rounds: int, *, show: bool) -> dict[str, Any]:
    """Warm up, let the variants take turns, and return every number of the report."""
    batch = job.config.training.per_device_train_batch_size
    # The longest rows, so that no variant meets a new largest shape while the clock runs.
    longest, _ = job.rows.longest_first()
    for variant in VARIANTS:
        job.run(variant, longest.select(2 * batch))
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    work: dict[str, Work] = {}
    load = [os.getloadavg()[0]] if hasattr(os, "getloadavg") else []
    # Each round begins with another variant: none always comes after the same one.
    turns = [VARIANTS[(first + place) % len(VARIANTS)] for first in range(rounds) for place in range(len(VARIANTS))]
    console = Console(stderr=True)
    for variant in track(turns, description="training", console=console, disable=not show, transient=True):
        taken, work[variant] = job.run(variant, job.rows)
        seconds[variant].append(taken)
    load += [os.getloadavg()[0]] if hasattr(os, "getloadavg") else []
    planned = plan_full_size(batch)
    variants = {}
    for variant in VARIANTS:
        done, speeds = work[variant], [len(job.rows) / taken for taken in seconds[variant]]
        variants[variant] = {
            "batches": done.batches,
            "seconds": seconds[variant],
            "samples_per_second": statistics.median(speeds),
            "real_tokens_per_second": statistics.median(speeds) * done.real / len(job.rows),
            "computed_to_real": done.computed / done.real,
            "computed_to_real_at_full_size": planned[variant],
        }
    ratios = {
        f"{ours} : {other}": spread([b / a for a, b in zip(seconds[ours], seconds[other], strict=True)])
        for ours in OURS
        for other in OTHERS
    }
    unsteady = [variant for variant in VARIANTS if max(seconds[variant]) > STEADY * min(seconds[variant])]
    return {"variants": variants, "ratios": ratios, "load_average": load, "unsteady": unsteady}


def spread(values: list[float]) -> dict[str, Any]:
    """Return the median, the extremes and the values themselves."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "rounds": values}


def plan_full_size(batch: int) -> dict[str, float]:
    """Return computed over real tokens for as many random rows as the real data has; nothing is trained.

    A few hundred rows are sorted as a whole, thousands only window by window, which pads a little more.
    """
    sources, targets = draw_lengths(REAL_ROWS)
    tokens = int(batch * (sources + targets).mean())
    common: dict[str, Any] = {"seed": SEED, "epoch": 0, "batch_size": batch, "tokens_per_batch": tokens}
    modes = {"ours/samples": "samples", "ours/tokens": "tokens", "plain": "random"}
    ratios = {
        name: waste(plan_batches(sources, targets, mode=mode, **common), sources, targets)  # type: ignore[arg-type]
        for name, mode in modes.items()
    }
    return ratios | {"fixed": REAL_ROWS * (SOURCE_MAX + TARGET_MAX) / float(sources.sum() + targets.sum())}


def describe(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """Return machine, model and data, for whoever reads the numbers later."""
    model, rows = job.generator.model, job.rows
    return {
        "machine": f"{_processor()}, {os.cpu_count()} processors, threads used: {torch.get_num_threads()}, "
        f"OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}",
        "device": job.generator.plan.reason,
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layers": options.layers,
        "d_model": options.d_model,
        "vocabulary": model.get_input_embeddings().num_embeddings,
        "data": "random tokens, lengths as in the Korean DialogSum" if options.data is None else str(options.data),
        "rows": len(rows),
        "source_tokens": _lengths(rows.source_lengths),
        "target_tokens": _lengths(rows.target_lengths),
        "batch_size": options.batch_size,
        "tokens_per_batch": job.tokens_per_batch,
        "rounds": options.rounds,
        "optimizer": job.config.training.optim,
    }


def print_report(console: Console, setting: dict[str, Any], result: dict[str, Any]) -> None:
    """Print the setting, one line per variant, and the ratios."""
    source, target = setting["source_tokens"], setting["target_tokens"]
    lines = {
        "machine": f"{setting['machine']}; {setting['versions']}",
        "device": setting["device"],
        "model": f"BART, {setting['layers']}+{setting['layers']} layers of width {setting['d_model']}, vocabulary "
        f"{setting['vocabulary']}, {setting['parameters'] / 1e6:.2f}M parameters, {setting['optimizer']}",
        "data": f"{setting['data']}; {setting['rows']} rows; source tokens mean {source['mean']:.0f}, p95 "
        f"{source['p95']:.0f}, most {source['most']}; target mean {target['mean']:.0f}, most {target['most']}",
        "batches": f"{setting['batch_size']} rows; ours/tokens: {setting['tokens_per_batch']} tokens; "
        f"fixed: {SOURCE_MAX} + {TARGET_MAX} tokens a row",
        "load": "load average before and after: " + ", ".join(f"{value:.1f}" for value in result["load_average"]),
    }
    for name, line in lines.items():
        console.print(f"{name:<9} {line}", markup=False, highlight=False)
    console.print(f"\nEach variant trains all rows once in each round; median of {setting['rounds']} rounds")
    table = Table()
    for name in ("", "samples/s", "real tokens/s", "batches", "computed/real tokens", f"the same, {REAL_ROWS} rows*"):
        table.add_column(name, justify="right" if name else "left")
    for variant, values in result["variants"].items():
        table.add_row(
            variant,
            f"{values['samples_per_second']:.1f}",
            f"{values['real_tokens_per_second']:.0f}",
            str(values["batches"]),
            f"{values['computed_to_real']:.2f}",
            f"{values['computed_to_real_at_full_size']:.2f}",
        )
    console.print(table)
    console.print("\nSpeed of ours over the other's, in samples/s as in real tokens/s")
    table = Table()
    for name in ("", "median", "spread", "rounds"):
        table.add_column(name, justify="right" if name else "left")
    for name, ratio in result["ratios"].items():
        each = " ".join(f"{value:.2f}" for value in ratio["rounds"])
        table.add_row(name, f"{ratio['median']:.2f}", f"{ratio['least']:.2f}-{ratio['most']:.2f}", each)
    console.print(table)
    if result["unsteady"]:
        console.print(
            f"UNRELIABLE: the rounds of {', '.join(result['unsteady'])} differ by more than a factor of {STEADY}; "
            "other programs are in the way. Try --threads 1, more --rounds, or a quieter time.",
            highlight=False,
        )
    console.print(
        "* planned only, with random lengths. All variants see the same rows, so both speeds have one ratio.",
        highlight=False,
    )


def _lengths(lengths: npt.NDArray[Any]) -> dict[str, float]:
    return {"mean": float(lengths.mean()), "p95": float(np.percentile(lengths, 95)), "most": int(lengths.max())}


def _processor() -> str:
    """Return the processor's name; Linux tells it only in a file."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is below {least}")
        return value

    return number


def parse_arguments() -> argparse.Namespace:
    """Return the options; ``--quick`` replaces the sizes that were not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {  # name: (default, with --quick, least, help)
        "rows": (320, 48, 16, "rows in each round"),
        "rounds": (3, 1, 1, "how often each variant has its turn"),
        "batch-size": (16, 4, 1, "rows in a batch"),
        "layers": (2, 1, 1, "layers of the encoder, and of the decoder"),
        "d-model": (128, 16, 16, "width of the model; a multiple of 4"),
    }
    for name, (default, quick, least, text) in sizes.items():
        parser.add_argument(
            f"--{name}", type=_at_least(least), metavar="N", help=f"{text} ({default}; --quick: {quick})"
        )
    parser.add_argument(
        "--threads",
        type=_at_least(1),
        metavar="N",
        help="threads of torch (torch's own choice; --quick: 1); fewer than processors on a machine that is busy",
    )
    parser.add_argument("--data", type=Path, metavar="FILE", help="CSV with rows of your own instead of random tokens")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, to see that it works")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    for name, (default, quick, _, _) in sizes.items():
        key = name.replace("-", "_")
        if getattr(options, key) is None:
            setattr(options, key, quick if options.quick else default)
    if options.quick and options.threads is None:
        options.threads = 1
    return options


def main() -> int:
    """Measure and print."""
    options = parse_arguments()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", module=r"torch\.|transformers\.")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        with tempfile.TemporaryDirectory(prefix="dlgsum-benchmark-") as folder:
            job = make_job(options, Path(folder))
            setting = describe(job, options)
            result = measure(job, options.rounds, show=not options.json)
    except DlgsumError as error:
        print(f"training.py: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"setting": setting, **result}, ensure_ascii=False, indent=2))
    else:
        print_report(Console() if sys.stdout.isatty() else Console(width=140), setting, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
