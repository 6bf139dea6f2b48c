"""Small keys for texts, so that equal ones are found among a million without keeping any text."""

from __future__ import annotations

import hashlib
import unicodedata
from array import array

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
NONE = 0  # the key of a text of nothing but blanks


def same_text(text: str) -> str:
    """Return the text as it is compared: composed, and every run of blanks and newlines one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def text_key(*texts: str) -> int:
    """Return 64 bits that are the same for texts that differ only in blanks; ``NONE`` when all are empty.

    Among a million texts, two different ones share a key with a chance of 3 in 100 million.
    """
    compared = [same_text(text) for text in texts]
    if not any(compared):
        return NONE
    # No compared text holds a NUL, so that ("a b",) and ("a", "b") differ.
    data = "\0".join(compared).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") or 1


def as_keys(values: array[int]) -> Keys:
    """Return collected keys as an array; empty gives an empty one."""
    return np.frombuffer(values, dtype=np.uint64) if len(values) else np.empty(0, dtype=np.uint64)


def joined(first: Keys, second: Keys) -> Keys:
    """Return one key for each pair of keys."""
    mixed: Keys = first * np.uint64(0x9E3779B97F4A7C15) ^ second
    return mixed


def first_places(keys: Keys, *, ignore: npt.NDArray[np.bool_] | None = None) -> Places:
    """Return for each key the index at which it occurs first; for a key to ignore, its own index."""
    own = np.arange(len(keys), dtype=np.int64)
    if not len(keys):
        return own
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    places: Places = first[group].astype(np.int64)
    return places if ignore is None else np.where(ignore, own, places)
