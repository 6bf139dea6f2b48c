"""From ``models:NAME`` to a folder that can be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dlgsum.core.errors import UsageError
from dlgsum.tracking.registry.files import look_at
from dlgsum.tracking.registry.model import RegisteredModel
from dlgsum.tracking.registry.registry import ModelRegistry

if TYPE_CHECKING:
    from dlgsum.tracking.store.store import Store


class Found(NamedTuple):
    """A registered model whose files are there; ``experiment_id`` is the run that trained it, None where unknown."""

    folder: Path
    experiment_id: str | None
    id: str


def resolve_reference(name: str, store: Store | str | None = None, output_dir: str | Path | None = None) -> Found:
    """Return where the model is that ``models:NAME``, ``models:NAME@3`` or ``models:ALIAS`` means.

    Args:
        store: an open index, or its URL; None: that of ``output_dir``.
        output_dir: the folder of all results; None: the store's.

    Raises:
        UsageError: there is no such model, or its files are gone.
    """
    if output_dir is None:
        output_dir = "./outputs" if store is None or isinstance(store, str) else store.output_dir
    registry = ModelRegistry(output_dir, store)
    try:
        model = registry.resolve(name)
        return Found(folder_there(registry, model), model.experiment_id, model.id)
    finally:
        registry.shared.close()


def folder_there(registry: ModelRegistry, model: RegisteredModel) -> Path:
    """Return a model's folder.

    Raises:
        UsageError: its files are gone, or on a machine whose folders are not seen from here.
    """
    files = look_at(model, registry.output_dir)
    if files.folder is not None:
        return files.folder
    if files.state == "elsewhere":
        raise UsageError(
            f"The model {model.id} is on {model.host} in {model.path}, which is not seen from here",
            "Run the command there, or bring the folder here and register it.",
        )
    raise UsageError(
        f"The files of the model {model.id} are gone: {model.path} does not hold them any more",
        "Put the folder back, or choose another model: dlgsum models list",
    )
