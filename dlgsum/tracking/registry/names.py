"""What models and aliases are called; light enough for completion."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from dlgsum.core.errors import UsageError
from dlgsum.core.files import read_jsonl

PREFIX = "models:"
ALIASES = "aliases.jsonl"
RESERVED = frozenset({"latest", "best"})  # these mean runs

_ID = re.compile(r"(?P<name>.+)-v(?P<version>[1-9]\d{0,8})")
_ALIAS = re.compile(r"\w[\w.-]{0,99}")
# A file name has at most 255 bytes on common file systems; version, suffix and the name of a temporary file need some.
_NAME_BYTES = 180


def safe_name(name: str) -> str:
    """Return a model's name as it can stand in a file name and before ``@3``.

    Letters and digits of any script, ``.``, ``-``, ``+`` and ``_`` stay; all else becomes ``_``, and so does the hyphen
    of an ending such as ``-v2``, which would read as a version. A name of nothing else becomes ``model``.
    """
    text = re.sub(r"[^\w.+-]+", "_", unicodedata.normalize("NFC", name)).strip("._-")
    text = text.encode()[:_NAME_BYTES].decode(errors="ignore")
    return re.sub(r"-(v\d+)$", r"_\1", text) or "model"


def model_id(name: str, version: int) -> str:
    """Return the id of a version of a model, such as ``kobart-v3``."""
    return f"{name}-v{version}"


def parts_of(identity: str) -> tuple[str, int] | None:
    """Return name and version of an id such as ``kobart-v3``; None for what is none."""
    match = _ID.fullmatch(identity)
    return None if match is None else (match["name"], int(match["version"]))


def check_alias(alias: str) -> str:
    """Return an alias that can be one.

    Raises:
        UsageError: it has other characters than letters, digits, ``.``, ``-`` and ``_``, or means something else.
    """
    if not _ALIAS.fullmatch(alias):
        raise UsageError(
            f"'{alias}' cannot be an alias: 1 to 100 letters, digits, '.', '-' and '_', the first a letter or digit",
            "Choose another, such as champion.",
        )
    if alias in RESERVED:
        raise UsageError(f"'{alias}' cannot be an alias: it names a run", "Choose another, such as champion.")
    if parts_of(alias):
        raise UsageError(f"'{alias}' cannot be an alias: it reads as a version of a model", "Choose another.")
    return alias


def model_names(output_dir: Path) -> list[tuple[str, str]]:
    """Return each alias and each model's name with a few words on it, for completion: from the files alone.

    Aliases come first, then names; both in the order of the alphabet. What cannot be read is left out.
    """
    folder = output_dir / "models"
    versions: dict[str, list[int]] = {}
    meanings: dict[str, str] = {}
    try:
        for path in folder.iterdir():
            parts = parts_of(path.stem) if path.suffix == ".json" and not path.name.startswith(".") else None
            if parts:
                versions.setdefault(parts[0], []).append(parts[1])
        # A later row with the id of an earlier one corrects it, and has its place.
        rows = {str(row.get("id", number)): row for number, row in enumerate(read_jsonl(folder / ALIASES))}
        for row in rows.values():
            meanings[str(row.get("alias"))] = str(row.get("model_id") or "")
    except OSError:
        pass
    aliases = [(alias, f"means {meant}") for alias, meant in sorted(meanings.items()) if meant]
    names = [
        (name, f"model, newest version {max(found)}" if len(found) > 1 else f"model, version {found[0]}")
        for name, found in sorted(versions.items())
    ]
    return [*aliases, *names]
