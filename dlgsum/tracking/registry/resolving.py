"""What a name of a model means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dlgsum.core.errors import UsageError, nearest
from dlgsum.tracking.registry.model import RegisteredModel
from dlgsum.tracking.registry.names import PREFIX, safe_name


def resolve(name: str, models: Sequence[RegisteredModel], aliases: Mapping[str, str], place: Path) -> RegisteredModel:
    """Return the model that a name means; see ``ModelRegistry.resolve``.

    Args:
        aliases: the id that each alias means.
        place: the registry's folder, for the error.

    Raises:
        UsageError: nothing fits, or an alias means a model that is not registered any more.
    """
    wanted = name.removeprefix(PREFIX)
    by_id = {model.id: model for model in models}
    if wanted in aliases:
        identity = aliases[wanted]
        if identity in by_id:
            return by_id[identity]
        raise UsageError(
            f"The alias '{wanted}' means {identity}, whose registration is gone from {place}",
            f"Give it to another model: dlgsum models promote MODEL --alias {wanted}",
        )
    if wanted in by_id:
        return by_id[wanted]
    plain, at, version = wanted.partition("@")
    versions = {model.version: model for model in models if plain and model.name in (plain, safe_name(plain))}
    if versions and not at:
        return versions[max(versions)]
    if versions:
        if version.isdecimal() and int(version) in versions:
            return versions[int(version)]
        known = ", ".join(f"@{number}" for number in sorted(versions))
        raise UsageError(f"'{plain}' has no version '{version}'", f"It has {known}.")
    raise _unknown(wanted, models, aliases, place)


def _unknown(wanted: str, models: Sequence[RegisteredModel], aliases: Mapping[str, str], place: Path) -> UsageError:
    if not models:
        return UsageError(
            f"There is no model '{wanted}': none is registered in {place}",
            "A model is registered when its training completes; `dlgsum experiments reindex` registers earlier ones.",
        )
    names = list(dict.fromkeys([*aliases, *(model.name for model in models), *(model.id for model in models)]))
    guess = nearest(wanted, names)
    newest = ", ".join(dict.fromkeys(model.id for model in reversed(models[-5:])))
    return UsageError(
        f"There is no model '{wanted}' in {place}", f"Did you mean {guess}?" if guess else f"The newest: {newest}"
    )
