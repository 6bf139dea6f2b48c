"""The registry of models; its files are the truth, the database an index of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlgsum.tracking.registry.names import model_names
    from dlgsum.tracking.registry.reference import Found, resolve_reference
    from dlgsum.tracking.registry.registry import ModelRegistry
    from dlgsum.tracking.registry.runs import register_run

__all__ = ["Found", "ModelRegistry", "model_names", "register_run", "resolve_reference"]

# Imported when they are asked for: completion needs the names alone, at every TAB.
_HOMES = {
    "Found": "reference", "ModelRegistry": "registry", "model_names": "names", "register_run": "runs",
    "resolve_reference": "reference",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
