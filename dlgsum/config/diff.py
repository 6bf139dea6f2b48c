"""What differs between two configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlgsum.config.compose import Composition
from dlgsum.config.explain import leaves, value_of
from dlgsum.config.masking import hidden


@dataclass(frozen=True)
class Difference:
    """A setting whose value is not the same on both sides, and what set it on each; empty for a default.

    Secrets are compared, but shown as ``***``.
    """

    key: str
    left: Any
    right: Any
    left_origin: str
    right_origin: str


def differences(left: Composition, right: Composition) -> list[Difference]:
    """Return every setting that differs, in the schema's order; an empty list when nothing does."""
    found = []
    for key in leaves():
        one, other = value_of(left.config, key), value_of(right.config, key)
        if one != other:
            found.append(Difference(key, hidden(key, one), hidden(key, other), _origin(left, key), _origin(right, key)))
    return found


def _origin(composition: Composition, key: str) -> str:
    history = composition.history.get(key, ())
    return str(history[-1].origin) if history else ""
