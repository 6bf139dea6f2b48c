"""Encoders that other processes load; apart from the tests, so that those processes load nothing else."""

from __future__ import annotations

import os
import signal
import sys
import time


class Letters:
    """One number a letter, with an end mark; pickled into other processes."""

    fingerprint = "letters"

    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        return [[*map(ord, text), 1] for text in texts]

    encode_targets = encode_sources


class Slow(Letters):
    """Long enough to be interrupted; a worker whose parent is gone ends after the batch that it has."""

    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        time.sleep(6)
        return super().encode_sources(texts)


class Killed(Letters):
    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        if "3500" in texts:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_sources(texts)


class Wrong(Letters):
    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        return super().encode_sources(texts)[1:]


class Noisy(Letters):
    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        sys.stdout.write("a library that prints\n")
        os.write(1, b"and one that writes\n")
        return super().encode_sources(texts)


class Broken(Letters):
    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        raise KeyError("가나다")


class Full(Letters):
    """The disk is full, in the other process only."""

    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        if os.getpid() != int(os.environ["TEST_PARENT"]):
            raise OSError(28, "No space left on device")
        return super().encode_sources(texts)
