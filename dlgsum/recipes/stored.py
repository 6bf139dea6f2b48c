"""Where experiments and models are found: the folder of all results, and the database that indexes it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlgsum.config.compose import compose
from dlgsum.config.masking import is_masked
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.recipes import wiring

if TYPE_CHECKING:
    from dlgsum.tracking.store.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where experiments are: the folder of all results, and the database; None: dlgsum.db in that folder."""

    output_dir: Path
    store: str | None = None


def place_of(config: Config) -> Place:
    """Return the place that a configuration names.

    An address of a database that was masked when the configuration was saved is not known any more; that is said.
    """
    address = config.tracking.store
    if is_masked(address):
        logger.warning("the address of tracking.store is not saved with a run; set DLGSUM_STORE. dlgsum.db is used")
        address = None
    return Place(wiring.output_dir(config), address or None)


def find_place(request: Request) -> Place:
    """Return the place that a command asks for; of the environment, only what says so plays a part.

    Raises:
        ConfigError: a setting is wrong.
    """
    return place_of(compose(request.only_places()).config)


def open_store(config: Config) -> Store:
    """Open the index of a configuration.

    Raises:
        EnvironmentProblem: the database cannot be reached, read or written.
    """
    from dlgsum.tracking.store.store import Store

    place = place_of(config)
    return Store.open(place.store, place.output_dir)


@contextmanager
def opened(place: Place, *, create: bool = True, replace_broken: bool = False) -> Iterator[Store]:
    """Give the index, and close it.

    Args:
        create: as for ``Store.open``; so is replace_broken.

    Raises:
        EnvironmentProblem: the database cannot be used.
    """
    from dlgsum.tracking.store.store import Store

    store = Store.open(place.store, place.output_dir, create=create, replace_broken=replace_broken)
    try:
        yield store
    finally:
        store.close()
