"""How a setting is declared: a default, one sentence of help and its range, in one place."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

# Extra keys are mistakes; numbers may stand where text is wanted (version: 1.0); NaN is never a setting.
RULES = ConfigDict(extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False, use_enum_values=True)


def option(default: Any, help: str, **limits: Any) -> Any:
    """Declare a setting.

    Args:
        default: the value when nobody sets it; a list or dict is copied for each use.
        help: one sentence, shown by the command line.
        limits: pydantic constraints, such as ``ge``, ``gt``, ``le``, ``lt``, ``min_length``.
    """
    if isinstance(default, (list, dict)):
        return Field(default_factory=lambda: type(default)(default), description=help, **limits)
    return Field(default=default, description=help, **limits)


def nested(kind: type[Any], help: str) -> Any:
    """Declare a sub-section with its own defaults."""
    return Field(default_factory=kind, description=help)
