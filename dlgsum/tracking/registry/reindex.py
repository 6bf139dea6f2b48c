"""Making the tables anew from the registry's files."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from dlgsum.tracking.registry import aliases
from dlgsum.tracking.registry.index import Index
from dlgsum.tracking.registry.model import RegisteredModel, read_models, renamed, write_model
from dlgsum.tracking.registry.registry import ModelRegistry
from dlgsum.tracking.registry.runs import register_missing


@dataclass(frozen=True)
class Reindexed:
    """What was done: ids of models in the index, of those registered just now, and notes for people."""

    models: list[str] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def reindex(registry: ModelRegistry) -> Reindexed:
    """Make the tables of models and aliases anew from the files, and register completed runs that are not registered.

    A model whose version another output folder has taken in a shared database gets the next free one, and so do the
    events of its aliases, which keep their time. What others have put into a shared database stays: an alias that
    they gave on later is theirs.

    Raises:
        EnvironmentProblem: the database or the folder cannot be read or written.
    """
    index = registry.shared.open()
    with registry.locked():
        own, notes = read_models(registry.folder)
        rows = {row.id: row for row in index.models()}
        taken = {
            row.id for row in rows.values() if not registry.shared.alone and not _is_ours(row, registry, own)
        }  # fmt: skip
        kept: list[RegisteredModel] = []
        for model in own:
            if model.id in taken:
                moved = _moved(model, registry, index, [*own, *kept])
                notes.append(f"{model.id} is another model in the shared database: the one here is {moved.id} now")
                notes += _given_on(moved, registry)
                model = moved
            kept.append(model)
        index.put_models(kept, remove=rows.keys() - taken)
        index.put_events(aliases.read_events(registry.folder), alone=registry.shared.alone)
    registered, more = register_missing(registry)
    return Reindexed([*(model.id for model in kept), *registered], registered, [*notes, *more])


def _is_ours(row: RegisteredModel, registry: ModelRegistry, own: Sequence[RegisteredModel]) -> bool:
    """Say whether a row comes from this folder, under whatever path it lay before."""
    if any(row.same_registration(model) for model in own if model.id == row.id):
        return True
    # This folder's, whose file is gone. Another folder's row stands for a file that we may not see.
    place = (str(registry.output_dir), socket.gethostname())
    return (row.output_dir, row.host) == place and row.id not in {model.id for model in own}


def _moved(
    model: RegisteredModel, registry: ModelRegistry, index: Index, others: Sequence[RegisteredModel]
) -> RegisteredModel:
    """Give a model the next version that is free in the files and in the database, and the events of its aliases."""
    known = [it.version for it in others if it.name == model.name]
    new = renamed(model, 1 + max([*known, *index.versions(model.name)]))
    write_model(new, registry.folder)
    # Left as they are, they would come to mean the other model.
    for event in aliases.read_events(registry.folder):
        if event.model_id == model.id:
            aliases.append_event(registry.folder, aliases.corrected(event, new.id))
    (registry.folder / f"{model.id}.json").unlink()
    return new


def _given_on(model: RegisteredModel, registry: ModelRegistry) -> list[str]:
    """Return a note on each alias that means a model by the events of this folder, and another by those of all."""
    everywhere = registry.aliases()
    return [
        f"{alias} meant {model.id} here; it means {everywhere.get(alias, 'nothing')}, as another folder said later"
        for alias, identity in aliases.meanings(aliases.read_events(registry.folder)).items()
        if identity == model.id != everywhere.get(alias)
    ]
