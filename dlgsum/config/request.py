"""What the user asked the configuration to be; light, so that the command line imports it at once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLACES = ("OUTPUT_DIR", "DLGSUM__GENERAL__OUTPUT_DIR", "DLGSUM_STORE", "DLGSUM__TRACKING__STORE")
"""Variables that say where experiments and models are; what else the environment says is of no concern to those."""


@dataclass(frozen=True)
class Request:
    """Overrides, a file or nested settings in its place, a folder of configuration files, and the environment.

    ``values`` lie over ``file`` where both are given. ``base`` is a complete configuration, or the file of one, that
    takes the place of conf/: groups named in ``overrides`` lie over it. ``overrides_from`` says where the overrides
    come from, where it is not the command line. ``secrets`` is the environment that gives back what a saved
    configuration has only as ``***``; nothing else is taken from it.
    """

    overrides: Sequence[str] = ()
    file: Path | None = None
    config_dir: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    values: Mapping[str, Any] = field(default_factory=dict)
    base: Path | Mapping[str, Any] | None = None
    overrides_from: str = ""
    secrets: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def only_places(self) -> Request:
        """Return the request with as much of the environment as says where experiments and models are."""
        environ = {key: value for key, value in self.environ.items() if key in PLACES}
        return dataclasses.replace(self, environ=environ)
