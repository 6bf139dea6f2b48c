"""What the user asked the configuration to be; light, so that the command line imports it at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """Overrides, a file, a folder of configuration files, and the environment."""

    overrides: Sequence[str] = ()
    file: Path | None = None
    config_dir: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
