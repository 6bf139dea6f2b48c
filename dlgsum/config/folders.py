"""Where the files under conf/ are; light, because completion looks for them at every TAB."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from dlgsum.core.errors import ConfigError


@cache
def packaged_conf() -> Path:
    """Return the folder of the shipped configuration files: inside the wheel, or ./conf of a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def search_path(config_dir: Path | None) -> list[Path]:
    """Return the folders searched for configuration files, first match wins.

    Raises:
        ConfigError: ``config_dir`` was named and does not exist.
    """
    if config_dir is not None and not config_dir.is_dir():
        raise ConfigError([f"--config-dir {config_dir}: there is no such folder"])
    own = config_dir or Path("conf")
    folders = [own.resolve()] if own.is_dir() else []
    return list(dict.fromkeys([*folders, packaged_conf()]))
