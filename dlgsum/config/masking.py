"""Secrets of a configuration: ``***`` in their place wherever it becomes text, and the way back to them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, get_type_hints

from dlgsum.config.environment import PREFIX
from dlgsum.config.schema import Config
from dlgsum.config.schema.options import MASK, is_secret
from dlgsum.core.files import dumps
from dlgsum.core.masking import masked

# Of addresses of other schemes any part may be the secret; the credentials of these are masked wherever they are.
_ADDRESS = re.compile(r"(\b(?!(?:https?|s3|gs|hf|file|sqlite|postgresql)://)\w+://).+", re.IGNORECASE | re.DOTALL)


@cache
def secret_keys() -> frozenset[str]:
    """Return the dotted name of every setting that the schema marks as secret."""

    def walk(section: type[Any], prefix: str) -> list[str]:
        found = []
        hints = get_type_hints(section)
        for name, field in section.__pydantic_fields__.items():
            if dataclasses.is_dataclass(hints[name]):
                found += walk(hints[name], f"{prefix}{name}.")
            elif is_secret(field):
                found.append(prefix + name)
        return found

    return frozenset(walk(Config, ""))


def hidden(key: str, value: Any) -> Any:
    """Return what may be shown of the value that was given to ``key``.

    A secret becomes ``***``, each item of a list for itself; what is unset stays as it is. A section with secrets takes
    no value: what was put there by mistake shows only where it is a plain word, such as the name of a group's file.
    """
    if isinstance(value, Mapping):
        return {name: hidden(f"{key}.{name}" if key else str(name), item) for name, item in value.items()}
    if _is_secret(key):
        return _masked(value)
    return value if _is_word(value) or not _holds_secrets(key) else MASK


def hidden_line(line: str) -> str:
    """Return what may be shown of an override such as ``section.key=value``, or of any other argument.

    An address ``scheme://…`` may be of somebody to alert, put at the wrong place; only schemes of data are shown.
    """
    line = _ADDRESS.sub(rf"\1{MASK}", line)
    name, equals, value = line.partition("=")
    key = name.lstrip("+~").partition("@")[0].replace("/", ".")
    if not equals:
        return masked(line)
    if _holds_secrets(key):
        return f"{name}={value if _is_word(value) else MASK}"
    return f"{name}={MASK}" if _is_secret(key) else masked(line)


def plain(config: Config) -> dict[str, Any]:
    """Return a configuration as nested dictionaries that may be shown and saved: secrets are ``***``."""
    return hidden("", dataclasses.asdict(config))  # type: ignore[no-any-return]


def is_masked(value: Any) -> bool:
    """Say whether a value is, or a list holds, what stands in the place of a secret."""
    return any(is_masked(item) for item in value) if isinstance(value, (list, tuple)) else value == MASK


def filled(saved: Any, given: Any) -> Any:
    """Return a saved value with the secrets that were given again; of a list, what was not masked stays behind them."""
    if not isinstance(saved, (list, tuple)) or not isinstance(given, (list, tuple)):
        return given
    return [*given, *(item for item in saved if not is_masked(item) and item not in given)]


def secret_environment(config: Config) -> dict[str, str]:
    """Return variables that give the secrets of a configuration to another process, which reads the rest from a file.

    Empty where nothing secret is set.
    """
    found = {}
    for key in sorted(secret_keys()):
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        if value and not is_masked(value):
            text = value if isinstance(value, str) else dumps(value)
            found[f"{PREFIX}{key.upper().replace('.', '__')}"] = text
    return found


def _is_secret(key: str) -> bool:
    return any(key == secret or key.startswith(f"{secret}.") for secret in secret_keys())


def _holds_secrets(key: str) -> bool:
    return any(name.startswith(f"{key}.") for name in secret_keys())


def _is_word(value: Any) -> bool:
    return value is None or re.fullmatch(r"[\w ]{0,20}", str(value)) is not None


def _masked(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_masked(item) for item in value]
    return value if value is None or value == "" else MASK
