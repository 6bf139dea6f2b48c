"""How a setting is declared: a default, one sentence of help and its range, in one place."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

# Extra keys are mistakes; numbers may stand where text is wanted (version: 1.0); NaN is never a setting.
RULES = ConfigDict(extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False, use_enum_values=True)

MASK = "***"  # stands in the place of a secret wherever a configuration becomes text

_SECRET: dict[str, Any] = {"secret": True}


def option(default: Any, help: str, *, secret: bool = False, **limits: Any) -> Any:
    """Declare a setting.

    Args:
        default: the value when nobody sets it; a list or dict is copied for each use.
        help: one sentence, shown by the command line.
        secret: never shown or saved: wherever a configuration becomes text, ``***`` stands in its place.
        limits: pydantic constraints, such as ``ge``, ``gt``, ``le``, ``lt``, ``min_length``.
    """
    if secret:
        limits |= {"repr": False, "json_schema_extra": _SECRET}
    if isinstance(default, (list, dict)):
        return Field(default_factory=lambda: type(default)(default), description=help, **limits)
    return Field(default=default, description=help, **limits)


def is_secret(field: Any) -> bool:
    """Say whether pydantic's record of a setting marks it as secret."""
    return bool(field.json_schema_extra == _SECRET)


def nested(kind: type[Any], help: str) -> Any:
    """Declare a sub-section with its own defaults."""
    return Field(default_factory=kind, description=help)
