"""Settings from environment variables: the well-known names of env.yaml, and DLGSUM__SECTION__KEY for any key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dlgsum.core.errors import nearest

PREFIX = "DLGSUM__"


def read_environment(
    environ: Mapping[str, str], names: Mapping[str, Any], keys: Collection[str]
) -> tuple[dict[str, tuple[Any, str]], list[str]]:
    """Return ``{dotted key: (value, variable)}`` and the problems found.

    Args:
        environ: the process environment.
        names: variable to dotted key, from env.yaml.
        keys: every key that exists.

    An empty variable counts as unset. ``DLGSUM__`` variables win over the well-known names.
    """
    values: dict[str, tuple[Any, str]] = {}
    problems: list[str] = []
    for variable, key in names.items():
        if not isinstance(key, str):
            problems.append(f"env.yaml: {variable} must name a setting, such as general.seed; got {key!r}")
        elif environ.get(variable):
            values[key] = (_value(environ[variable]), variable)
    by_lower = {key.lower(): key for key in keys}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or not environ[variable]:
            continue
        wanted = variable[len(PREFIX) :].lower().replace("__", ".")
        if wanted in by_lower:
            values[by_lower[wanted]] = (_value(environ[variable]), variable)
        else:
            guess = nearest(wanted, keys)
            problems.append(
                f"environment variable {variable}: there is no setting '{wanted}'"
                + (f"; did you mean {PREFIX}{guess.upper().replace('.', '__')}?" if guess else "")
            )
    return values, problems


def _value(text: str) -> Any:
    """Read lists, mappings and null as YAML; the schema turns other text into numbers and booleans."""
    if text.strip().lower() in {"null", "none"}:
        return None
    if text.strip()[:1] in ("[", "{"):
        try:
            return OmegaConf.to_container(OmegaConf.create(f"value: {text}"))["value"]  # type: ignore[index, call-overload]
        except (OmegaConfBaseException, YAMLError, RecursionError):
            return text
    return text
