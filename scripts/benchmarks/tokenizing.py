#!/usr/bin/env python3
"""Compare how rows get from a CSV file to token numbers, in time and in memory, with the two obvious ways.

    python scripts/benchmarks/tokenizing.py [--rows 100000] [--processes 1 2] [--only NAME ...] [--json]

ours       load_file and encode_split: streamed, cleaned, tokenized, kept on disk
datasets   datasets.load_dataset("csv") and map(batched=True), with the same cleaning and the same tokenizer
pandas     read_csv of the whole file into lists, with the same cleaning and the same tokenizer; one process

The dialogues are made on the spot, with lengths like those of the Korean DialogSum, and so is the tokenizer. Every
measurement runs in a process of its own. Memory is the most that this process and its children had resident
together, sampled 20 times a second; what is there before the first row is read (imports) is shown beside it. Last,
ours is measured on a quarter of the rows as well: time must grow with the rows, and memory must not.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

SEED: Final = 42
MEAN_DIALOGUE, MEAN_SUMMARY = 406, 86  # characters
STEPS: Final = ("nfc", "newlines", "tags", "blanks")
VARIANTS: Final = ("ours", "datasets", "pandas")
ENDS: Final = ["요.", "다.", "니다.", "까요?", "네요.", "세요.", "죠?", "군요."]
SYLLABLES: Final = "가나다라마바사아자차하고기도리무부비서소수시여오우이인일자장전정제조주지진해행현호화회"


@dataclass(frozen=True)
class Result:
    """What one measurement showed.

    Attributes:
        seconds: from the first row read to the last one written.
        cpu_seconds: what all its processes worked meanwhile; other work on the machine hardly changes it.
        peak_mb: most memory of the process and its children together.
        start_mb: memory before the first row.
        tokens: source tokens of all rows, which must be the same for all.
        tokenizing: the part of ``seconds`` after all rows were read and cleaned; 0 where the two are mixed.
    """

    variant: str
    processes: int
    rows: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    start_mb: float
    tokens: int
    tokenizing: float = 0.0

    @property
    def speed(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds

    @property
    def name(self) -> str:
        """Variant and processes."""
        return f"{self.variant}/{self.processes}"


def write_rows(path: Path, rows: int) -> None:
    """Write synthetic dialogues with lengths like the real ones."""
    draw = random.Random(SEED)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(6000)]
    sentences = [" ".join(draw.choices(words, k=draw.randint(3, 9))) + draw.choice(ENDS) for _ in range(5000)]
    mean = statistics.fmean(map(len, sentences))
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["fname", "dialogue", "summary", "topic"])
        for number in range(rows):
            # Right-skewed as the real lengths are: a few dialogues are five times the mean.
            turns = max(2, min(60, round(draw.lognormvariate(-0.1, 0.45) * MEAN_DIALOGUE / (mean + 12))))
            lines = [f"#Person{turn % 2 + 1}#: {draw.choice(sentences)}" for turn in range(turns)]
            summary = f"#Person1#은 #Person2#에게 {' '.join(draw.choices(sentences, k=round(70 / mean)))}"
            writer.writerow([f"train_{number}", "\n".join(lines), summary, "주제"])


def read_some(path: Path, rows: int) -> Iterator[dict[str, str]]:
    """Yield the first rows of a file."""
    with path.open(encoding="utf-8", newline="") as stream:
        for row, _ in zip(csv.DictReader(stream), range(rows), strict=False):
            yield row


def make_tokenizer(path: Path, folder: Path) -> None:
    """Train a tokenizer of KoBART's make on the first rows, and save it."""
    from dlgsum.models.mini import train_tokenizer

    texts = [text for row in read_some(path, 1000) for text in (row["dialogue"], row["summary"])]
    train_tokenizer(texts, vocab_size=8000).save_pretrained(folder)


def load_layout(folder: Path) -> Any:
    """Return the encoder that all variants use."""
    from transformers import PreTrainedTokenizerFast

    from dlgsum.config.schema.model import Tokenizer
    from dlgsum.models.encoding import SummaryTokenizer
    from dlgsum.models.tokenizer import prepare_tokenizer

    original = PreTrainedTokenizerFast.from_pretrained(folder)
    settings = Tokenizer()
    prepared = prepare_tokenizer(original, tags=["#Person1#", "#Person2#"], settings=settings)
    return SummaryTokenizer(prepared, settings)


Done = tuple[int, int, float]  # rows, source tokens, seconds of tokenizing alone (0: not to be told apart)
Job = Callable[[Path, Path, int], Done]


def ours() -> Job:
    """Return our way, imported."""
    from dlgsum.config.schema.data import Data
    from dlgsum.data.encode import encode_split
    from dlgsum.data.sources import FileSource, load_source

    def run(path: Path, folder: Path, processes: int) -> Done:
        encoder, data = load_layout(folder / "tokenizer"), Data(cleaning=list(STEPS))
        split = load_source(FileSource(path), data, name="train", need_summary=True, spool=folder / "spool")
        read = time.perf_counter()
        encoded = encode_split(split, encoder, cache_dir=folder / "cache", processes=processes)
        return len(encoded), int(encoded.source_lengths.sum()), time.perf_counter() - read

    return run


def with_datasets() -> Job:
    """Return the way of `datasets`, imported."""
    import datasets
    import pyarrow.compute as pc

    from dlgsum.data.clean import clean

    datasets.disable_progress_bars()

    def run(path: Path, folder: Path, processes: int) -> Done:
        layout = load_layout(folder / "tokenizer").portable()

        def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
            sources = [clean(text, STEPS)[0] for text in batch["dialogue"]]
            targets = [clean(text, STEPS)[0] for text in batch["summary"]]
            return {"input_ids": layout.encode_sources(sources), "labels": layout.encode_targets(targets)}

        cache = str(folder / "datasets")
        rows = datasets.load_dataset("csv", data_files=str(path), split="train", cache_dir=cache)
        many = processes if processes > 1 else None
        encoded = rows.map(encode, batched=True, num_proc=many, remove_columns=rows.column_names)
        lengths = pc.list_value_length(encoded.data.column("input_ids"))
        return len(encoded), int(pc.sum(lengths).as_py()), 0.0

    return run


def with_pandas() -> Job:
    """Return the way of whole lists, imported."""
    import pandas

    from dlgsum.data.clean import clean

    def run(path: Path, folder: Path, processes: int) -> Done:
        layout = load_layout(folder / "tokenizer").portable()
        frame = pandas.read_csv(path)
        sources = layout.encode_sources([clean(text, STEPS)[0] for text in frame["dialogue"].tolist()])
        targets = layout.encode_targets([clean(text, STEPS)[0] for text in frame["summary"].tolist()])
        assert len(sources) == len(targets)
        return len(sources), sum(map(len, sources)), 0.0

    return run


JOBS: Final[dict[str, Callable[[], Job]]] = {"ours": ours, "datasets": with_datasets, "pandas": with_pandas}


def run_here(variant: str, path: Path, folder: Path, processes: int) -> None:
    """Do one job in this process, and print what it took."""
    job = JOBS[variant]()
    load_layout(folder / "tokenizer")  # imports, which every program needs once
    start_mb = resident_mb([os.getpid()])
    started, worked = time.perf_counter(), cpu_seconds()
    rows, tokens, tokenizing = job(path, folder, processes)
    taken = {"seconds": time.perf_counter() - started, "cpu_seconds": cpu_seconds() - worked}
    print(json.dumps({"rows": rows, "tokens": tokens, "tokenizing": tokenizing, "start_mb": start_mb, **taken}))


def cpu_seconds() -> float:
    """Return what this process and its ended children have worked so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(variant: str, path: Path, folder: Path, processes: int) -> Result:
    """Do one job in a process of its own, and watch its memory and its children's."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        (Path(work) / "tokenizer").symlink_to(folder / "tokenizer")
        command = [sys.executable, __file__, "--here", variant, str(path), work, str(processes)]
        # One thread a process, or one process would take every core and there would be nothing to compare.
        threads = {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        quiet = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        environment = {**os.environ, **threads, **quiet}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, resident_mb(family(process.pid)))
            time.sleep(0.05)
        assert process.stdout is not None
        answer = process.stdout.read().strip().splitlines()
    if process.returncode:
        raise RuntimeError(f"{variant} with {processes} processes ended with code {process.returncode}")
    return Result(variant, processes, peak_mb=peak, **json.loads(answer[-1]))


def family(parent: int) -> list[int]:
    """Return a process and everything it started, at any depth."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [parent]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def resident_mb(processes: Sequence[int]) -> float:
    """Return the resident memory of processes together, in MB."""
    total = 0
    for process in processes:
        try:
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return total * os.sysconf("SC_PAGE_SIZE") / 2**20


def compare(options: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> list[Result]:
    """Measure every variant, and ours on a quarter of the rows."""
    whole, quarter = folder / "rows.csv", folder / "quarter.csv"
    say(f"making {options.rows:,} dialogues …")
    write_rows(whole, options.rows)
    write_rows(quarter, max(1, options.rows // 4))
    make_tokenizer(whole, folder / "tokenizer")
    results = []
    jobs = [(name, count, whole) for name in options.only for count in options.processes if name != "pandas"]
    jobs += [("pandas", 1, whole)] if "pandas" in options.only else []
    jobs += [("ours", options.processes[-1], quarter)] if "ours" in options.only else []
    for variant, processes, path in jobs:
        results.append(result := measure(variant, path, folder, processes))
        tokenizing = f"(tokenizing {result.tokenizing:.1f} s) " if result.tokenizing else ""
        say(
            f"{result.name:<12} {result.rows:>9,} rows {result.seconds:8.1f} s {result.cpu_seconds:8.1f} CPU s "
            f"{result.speed:8,.0f} rows/s {tokenizing}"
            f"{result.peak_mb:8,.0f} MB at most ({result.start_mb:,.0f} MB before)"
        )
    return results


def ratios(results: Sequence[Result], rows: int) -> dict[str, float]:
    """Return what is claimed, as ratios within this run; only those whose two sides were measured."""
    whole = {result.name: result for result in results if result.rows == rows}
    part = [result for result in results if result.rows != rows and result.variant == "ours"]
    found: dict[str, float] = {}
    for name, result in whole.items():
        first = whole.get(f"{result.variant}/1")
        if first is not None and result.processes > 1:
            found[f"speed {name} : {first.name}"] = result.speed / first.speed
            if first.tokenizing:
                found[f"speed of tokenizing alone {name} : {first.name}"] = first.tokenizing / result.tokenizing
            # What a process adds where each has a core of its own.
            found[f"CPU time {name} : {first.name}"] = result.cpu_seconds / first.cpu_seconds
        mine = whole.get(f"ours/{result.processes}")
        if mine is not None and result is not mine:
            found[f"speed {mine.name} : {name}"] = mine.speed / result.speed
            found[f"CPU time {mine.name} : {name}"] = mine.cpu_seconds / result.cpu_seconds
            found[f"memory {mine.name} : {name}"] = mine.peak_mb / result.peak_mb
    if part and part[0].name in whole:
        mine, small = whole[part[0].name], part[0]
        found["seconds a row, all rows : a quarter"] = small.speed / mine.speed
        per_row = (mine.cpu_seconds / mine.rows) / (small.cpu_seconds / small.rows)
        found["CPU seconds a row, all rows : a quarter"] = per_row
        found["memory, all rows : a quarter"] = mine.peak_mb / small.peak_mb
    return found


def parse_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, metavar="N", help="rows (100000)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], metavar="N", help="how many (1 2)")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="leave the others out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.rows < 4 or min(options.processes) < 1:
        parser.error("--rows must be 4 or more, --processes 1 or more")
    return options


def main() -> int:
    """Measure and print."""
    if sys.argv[1:2] == ["--here"]:
        variant, path, folder, processes = sys.argv[2:]
        run_here(variant, Path(path), Path(folder), int(processes))
        return 0
    options = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="dlgsum-benchmark-") as folder:
        results = compare(options, Path(folder), (lambda text: None) if options.json else print)
    tokens = {result.tokens for result in results if result.rows == options.rows}
    if len(tokens) > 1:
        print(f"tokenizing.py: the variants made different tokens: {tokens}", file=sys.stderr)
        return 1
    claims = ratios(results, options.rows)
    if options.json:
        print(json.dumps({"results": [asdict(result) for result in results], "ratios": claims}, indent=2))
        return 0
    print(f"\n{os.cpu_count()} processors; {results[0].tokens / results[0].rows:.0f} source tokens a row")
    for name, ratio in claims.items():
        print(f"{name:<45} {ratio:6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
