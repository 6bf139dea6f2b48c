"""A process that only tokenizes: batches of texts come in, tokens go into a file of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_LENGTH = 8  # bytes in front of each message that say how long it is


def send(stream: IO[bytes], data: Any) -> None:
    """Write one message; an empty one says that no more will come."""
    stream.write(memoryview(data).nbytes.to_bytes(_LENGTH, "big"))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes:
    """Read one message.

    Raises:
        EOFError: the other side is gone.
    """
    length = int.from_bytes(_exactly(stream, _LENGTH), "big")
    return _exactly(stream, length)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def main() -> None:
    """Tokenize what standard input brings, and answer each batch with a line of JSON.

    The first message is the pickled encoder with the file to write, which our own parent made; each further one a
    batch of texts. A parent that is gone ends the process.
    """
    # Ctrl-C reaches the whole group; the parent decides what happens, and closing the pipe ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not look like an answer

    def answer(**content: object) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            for rows in _tokenize(sys.stdin.buffer):
                answer(rows=rows)
            answer(done=True)
        except (EOFError, BrokenPipeError):
            raise
        except OSError as error:
            answer(error=str(error), kind="OSError", errno=error.errno)
        except ValueError as error:
            answer(error=str(error), kind="ValueError")
        except BaseException:
            answer(error=traceback.format_exc(), kind="")


def _tokenize(stream: IO[bytes]) -> Iterator[int]:
    encoder, path = pickle.loads(receive(stream))  # noqa: S301  comes from the parent, not from a file
    # After the encoder: its package can be told how many threads to use only before it is loaded.
    import pyarrow as pa

    from dlgsum.data.token_table import TEXT_SCHEMA, encode_texts, write_tokens

    def batches() -> Iterator[Any]:
        while data := receive(stream):
            texts = pa.ipc.read_record_batch(pa.py_buffer(data), TEXT_SCHEMA)
            yield encode_texts(encoder, texts)

    yield from write_tokens(Path(path), batches())
