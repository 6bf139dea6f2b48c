#!/usr/bin/env python3
"""What the index of experiments is good for: listing runs from it, beside reading all their folders.

    python scripts/benchmarks/index.py [--runs 300] [--rows 10000] [--store URL] [--json]

folders   every run folder is read, as a list without an index would have to
rebuild   the index is made of the same folders
sync      nothing has changed since: the folders are looked at, and none is read
list      all rows are read from the index; --rows of them, of which --runs have a folder
ratio     time of the folders for one run over that of sync and list together for one row

Each figure is the shortest of three, but for rebuild, which is done once. The folders are tiny copies of one run, with
a configuration of the usual size, on the disk of the temporary folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dlgsum.config.compose import compose, to_yaml
from dlgsum.config.request import Request
from dlgsum.core.files import write_json
from dlgsum.tracking.record import read_record
from dlgsum.tracking.run import RunFolder, list_runs
from dlgsum.tracking.store import rows
from dlgsum.tracking.store.store import Store

SCORES = {f"metric_{number}": number / 7 for number in range(10)}


def make_runs(output_dir: Path, count: int) -> None:
    """Write run folders with what the index reads of them."""
    config = to_yaml(compose(Request(environ={})).config)
    for _ in range(count):
        run = RunFolder.create(output_dir)
        run.config.write_text(config, encoding="utf-8")
        run.event("start")
        run.metrics.write_text('{"step": 1, "time": 1.0, "metrics": {"eval/loss": 1.0}}\n' * 50)
        run.event("end", status="completed")
        run.best_model.mkdir()
        results = {"best_metrics": SCORES, "final_metrics": SCORES, "signature": "s" * 150, "best_step": 1}
        write_json(run.results, results)
        run.status("completed")


def shortest(work: Callable[[], object], tries: int = 3) -> float:
    """Return the seconds of the fastest try."""
    taken = []
    for _ in range(tries):
        since = time.perf_counter()
        work()
        taken.append(time.perf_counter() - since)
    return min(taken)


def measure(output_dir: Path, url: str | None, runs: int, count: int) -> dict[str, float]:
    """Return the seconds of each way, and the ratio."""
    make_runs(output_dir, runs)
    folders = shortest(lambda: [read_record(run) for run in list_runs(output_dir)])
    store = Store.open(url, output_dir)
    rebuild = shortest(store.sync, 1)
    (example, *_) = store.records()
    with store.session() as session:
        more = [replace(example, id=f"x{n:07}", folder=f"/x/{n}", output_dir="/x") for n in range(count - runs)]
        rows.upsert(session, [rows.row_of(record, 1) for record in more])
    sync, listed = shortest(store.sync), shortest(store.records)
    found = len(store.records())
    store.close()
    ratio = (folders / runs) / (sync / runs + listed / found)
    return {"folders": folders, "rebuild": rebuild, "sync": sync, "list": listed, "rows": found, "ratio": ratio}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Compare listing from the index with reading all folders.")
    parser.add_argument("--runs", type=int, default=300, help="run folders")
    parser.add_argument("--rows", type=int, default=10_000, help="rows in the index, those of the folders among them")
    parser.add_argument("--store", metavar="URL", help="database that may be filled; default: a SQLite file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.store, arguments.runs, max(arguments.rows, arguments.runs))
    if arguments.json:
        print(json.dumps({"runs": arguments.runs, **found}))
        return
    runs, count = arguments.runs, int(found["rows"])
    for name, number in (("folders", runs), ("rebuild", runs), ("sync", runs), ("list", count)):
        each = found[name] / number * 1000
        print(f"{name:8} {number:>7,} runs  {found[name]:8.3f} s  {each:8.3f} ms a run", file=sys.stdout)
    print(f"ratio    {found['ratio']:.0f}")


if __name__ == "__main__":
    main()
