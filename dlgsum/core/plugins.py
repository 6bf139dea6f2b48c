"""Find plugins: one module in a seam's folder, or an entry point of another package.

A plugin is a class with a ``name``. Modules in the folder are found by listing it, so adding a file adds a
plugin; other packages add theirs through the entry-point group ``dlgsum.<seam>``. Nothing is imported until
a plugin is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dlgsum.core.errors import UsageError, nearest

SEAMS = {
    "scorers": "dlgsum.metrics.scorers",
    "families": "dlgsum.models.families",
    "detectors": "dlgsum.monitoring.detectors",
    "trackers": "dlgsum.tracking.trackers",
}


@cache
def names(seam: str) -> tuple[str, ...]:
    """Return the short names of a seam's plugins, sorted; the module's name is the plugin's name."""
    folder = importlib.import_module(SEAMS[seam])
    own = {module.name for module in pkgutil.iter_modules(folder.__path__) if not module.name.startswith("_")}
    return tuple(sorted(own | set(_others(seam))))


@cache
def _others(seam: str) -> dict[str, EntryPoint]:
    """Return the plugins of other packages; every installed package is asked, so once is enough."""
    return {point.name: point for point in entry_points(group=f"dlgsum.{seam}")}


def load(seam: str, name: str) -> type[Any]:
    """Return the plugin class ``name`` of a seam.

    The module ``<folder>/<name>.py`` holds it as its attribute ``PLUGIN``.

    Raises:
        UsageError: there is no such plugin; the nearest name is suggested.
    """
    if name not in names(seam):
        guess = nearest(name, names(seam))
        raise UsageError(
            f"'{name}' is not one of the {seam}: {', '.join(names(seam))}",
            f"Did you mean '{guess}'?" if guess else "",
        )
    other = _others(seam).get(name)
    if other is not None:
        plugin: type[Any] = other.load()
        return plugin
    own: type[Any] = importlib.import_module(f"{SEAMS[seam]}.{name}").PLUGIN
    return own
