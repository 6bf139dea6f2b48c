"""Tokenizing rows into files, in this process or in several, with the same tokens however many there are."""

from __future__ import annotations

import json
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.data.dialogues import BATCH_ROWS, Dialogue, StoredRows
from dlgsum.data.token_table import TEXT_SCHEMA, PortableEncoder, TextEncoder, encode_texts, write_tokens
from dlgsum.data.tokenize_worker import send

Progress = Callable[[int, int], None]

# A process is ready after about half a second, in which a core tokenizes some thousands of rows.
ROWS_THAT_PAY = 30_000
ROWS_A_PROCESS = 10_000
MOST = 32  # beyond that, the parent cannot feed them

logger = logging.getLogger(__name__)


def how_many(rows: int, asked: int | None) -> int:
    """Return the number of processes for so many rows; never more than there are batches.

    Args:
        asked: ``data.processes``; None takes as many as pay.
    """
    batches = max(1, -(-rows // BATCH_ROWS))
    if asked is not None:
        return min(asked, batches)
    if rows < ROWS_THAT_PAY:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, rows // ROWS_A_PROCESS, MOST)


def token_batches(rows: Sequence[Dialogue], encoder: TextEncoder) -> Iterator[pa.RecordBatch]:
    """Yield the tokens of rows, batch by batch, made in this process.

    Raises:
        ValueError: the encoder returned another number of rows than it was given.
    """
    for number in range(_batches(rows)):
        yield encode_texts(encoder, _texts(rows, number))


def write_shards(
    rows: Sequence[Dialogue], encoder: TextEncoder, folder: Path, *, processes: int | None, progress: Progress | None
) -> list[Path]:
    """Tokenize rows into files, one for each process, and return the files in order; memory does not grow with rows.

    Args:
        processes: as ``how_many``.
        progress: called with the rows done and the rows there are, after each batch.

    Raises:
        ValueError: the encoder returned another number of rows than it was given.
        OSError: the disk is full or the folder is not writable.
        EnvironmentProblem: a process died.
    """
    count = how_many(len(rows), processes)
    message = _message(encoder) if count > 1 else None
    if message is None:
        file = folder / _name(0, 1)
        done = 0
        for written in write_tokens(file, token_batches(rows, encoder)):
            done += written
            if progress is not None:
                progress(done, len(rows))
        return [file]
    files = [folder / _name(number, count) for number in range(count)]
    _Pool(rows, message, files).run(progress)
    return files


def _message(encoder: TextEncoder) -> Any:
    """Return the encoder as another process can take it; None where it cannot."""
    light = encoder.portable() if isinstance(encoder, PortableEncoder) else encoder
    if type(light).__module__ == "__main__":  # the other process has another main module
        return None
    try:
        pickle.dumps(light)
    except Exception as error:  # objects say in many ways that they cannot be pickled
        logger.info("Tokenizing in one process: the encoder cannot be sent to another (%s).", error)
        return None
    return light


def _name(number: int, count: int) -> str:
    return f"tokens-{number:05d}-of-{count:05d}.arrow"


def _batches(rows: Sequence[Dialogue]) -> int:
    return -(-len(rows) // BATCH_ROWS)


def _texts(rows: Sequence[Dialogue], number: int) -> pa.RecordBatch:
    """Return dialogues and first references of one batch of rows."""
    if isinstance(rows, StoredRows):
        batch = rows.batch(number)
        sources, references = batch.column(1), batch.column(2).to_pylist()
    else:
        part = list(rows[number * BATCH_ROWS : (number + 1) * BATCH_ROWS])
        sources, references = pa.array([row.dialogue for row in part], pa.string()), [row.references for row in part]
    targets = pa.array([found[0] if found else None for found in references], pa.string())
    return pa.record_batch([sources, targets], schema=TEXT_SCHEMA)


class _Pool:
    """Processes that each take every n-th batch; a thread feeds each of them."""

    def __init__(self, rows: Sequence[Dialogue], encoder: TextEncoder, files: Sequence[Path]) -> None:
        self._rows = rows
        self._encoder = encoder
        self._files = files
        self._reading = threading.Lock()
        self._events: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()

    def run(self, progress: Progress | None) -> None:
        """Tokenize everything; whatever happens, no process is left behind."""
        workers: list[subprocess.Popen[bytes]] = []
        threads: list[threading.Thread] = []
        try:
            for number, file in enumerate(self._files):
                workers.append(_start())
                arguments = (workers[-1], file, range(number, _batches(self._rows), len(self._files)))
                threads.append(threading.Thread(target=self._drive, args=arguments, daemon=True))
                threads[-1].start()
            self._wait(len(threads), progress)
        finally:
            for worker in workers:
                worker.kill()  # ends the threads, too: their pipes break
            for thread in threads:
                thread.join()
            for worker in workers:
                worker.wait()

    def _wait(self, working: int, progress: Progress | None) -> None:
        done = 0
        while working:
            event = self._events.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                working -= 1
                continue
            done += event
            if progress is not None:
                progress(done, len(self._rows))

    def _drive(self, worker: subprocess.Popen[bytes], file: Path, numbers: range) -> None:
        try:
            try:
                assert worker.stdin is not None
                with worker.stdin as pipe:
                    send(pipe, pickle.dumps((self._encoder, str(file))))
                    for place, number in enumerate(numbers):
                        with self._reading:
                            texts = _texts(self._rows, number)
                        send(pipe, texts.serialize())
                        if place:  # it has always one batch more, so that it never waits
                            self._events.put(self._answer(worker)["rows"])
                    send(pipe, b"")
                    if numbers:
                        self._events.put(self._answer(worker)["rows"])
                    self._answer(worker)
            except BrokenPipeError:
                while True:  # until it says why it is gone, or turns out to have been killed
                    self._answer(worker)
        except BaseException as error:
            self._events.put(error)
        else:
            self._events.put(None)
        finally:
            assert worker.stdout is not None
            worker.stdout.close()

    def _answer(self, worker: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert worker.stdout is not None
        line = worker.stdout.readline()
        if not line.endswith(b"\n"):
            raise _died(worker.wait())
        answer: dict[str, Any] = json.loads(line)
        if "error" not in answer:
            return answer
        if answer["kind"] == "OSError":
            raise OSError(answer["errno"], answer["error"])
        if answer["kind"] == "ValueError":
            raise ValueError(answer["error"])
        raise RuntimeError(f"tokenizing failed in another process:\n{answer['error']}")


def _start() -> subprocess.Popen[bytes]:
    # Not multiprocessing: it runs the user's main script again in each process.
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    # One thread each: the processes themselves are what works in parallel.
    one = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", "from dlgsum.data.tokenize_worker import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **one, "PYTHONPATH": path},
    )


def _died(code: int) -> EnvironmentProblem:
    how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
    return EnvironmentProblem(
        f"A process that tokenizes {how}.",
        "Where memory is short the system kills processes: use fewer, such as data.processes=1.",
    )
