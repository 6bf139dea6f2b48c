"""The files under conf/: where they are, which there are, and Hydra's merge of the chosen ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dlgsum.config.origin import Layer, Origin, layer_of, line_numbers, shown_path
from dlgsum.config.overrides import quoted
from dlgsum.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from hydra._internal.defaults_list import DefaultsList
    from hydra.core.default_element import ResultDefault


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


def group_options(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Return each configuration group with the names of its files."""
    options: dict[str, set[str]] = {}
    shipped = {path.name for path in packaged_conf().iterdir() if path.is_dir()}
    for folder in folders:
        for path in folder.glob("*/*.yaml"):
            # In a user's own folder only the groups we know count: ./conf may hold another tool's files.
            if path.parent.name in shipped:
                options.setdefault(path.parent.name, set()).add(path.stem)
    return {group: sorted(names) for group, names in sorted(options.items())}


def compose_groups(folders: Sequence[Path], groups: Mapping[str, str]) -> tuple[list[Layer], dict[str, str]]:
    """Let Hydra put the chosen group files in order; return a layer for each, lowest first, and the choices.

    Raises:
        ConfigError: a file cannot be read, or the files cannot be composed.
    """
    overrides = [f"~{group}" if name == "null" else f"{group}={quoted(name)}" for group, name in groups.items()]
    files = _ordered(folders, "config", overrides)
    chosen = {k: str(v) for k, v in files.overrides.known_choices.items() if "/" not in k and v is not None}
    return [_layer(folders, default) for default in files.defaults if _is_own(default)], chosen


def values_of(folders: Sequence[Path], group: str, name: str) -> Layer:
    """Return what one group file sets, with the files that it names itself; an experiment's other groups first.

    Raises:
        ConfigError: a file cannot be read or composed.
    """
    if group != "experiment":
        merged: Layer = {}
        for default in _ordered(folders, f"{group}/{name}", []).defaults:
            if _is_own(default):
                merged |= _layer(folders, default)
        return merged
    path = find(folders, f"{group}/{name}.yaml")
    own = load_yaml(path)
    values: Layer = {}
    for entry in own.pop("defaults", None) or []:
        for other, choice in entry.items() if isinstance(entry, dict) else ():
            values |= values_of(folders, group_in(other), str(choice))
    return values | layer_of(own, _origin(path), line_numbers(path))


def group_in(key: object) -> str:
    """Return the group that a key of a defaults list names, such as ``override /model``."""
    return str(key).removeprefix("override ").strip().lstrip("/")


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings ``above`` merged over ``below``; lists are replaced, not joined."""
    merged = dict(below)
    for key, value in above.items():
        under = below.get(key)
        merged[key] = laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _ordered(folders: Sequence[Path], name: str, overrides: list[str]) -> DefaultsList:
    """Return a configuration file and all that it names, in the order in which they are merged.

    Hydra's loader is used directly rather than through ``initialize_config_dir``: that keeps global state and
    wants config.yaml in the first folder, but a user's ./conf usually holds a single group file. Its merge is not
    used, because it forgets which file a value came from.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from hydra.types import RunMode

    Plugins.instance()  # registers the sources that read file:// and pkg://
    path = ConfigSearchPathImpl()
    path.append("hydra", "pkg://hydra.conf")
    for number, folder in enumerate(folders):
        path.append(f"folder {number + 1}", f"file://{folder}")
    path.append("schema", "structured://")
    where = f"the files under {', '.join(str(folder) for folder in folders)} cannot be composed"
    try:
        return ConfigLoaderImpl(path).compute_defaults_list(name, overrides, RunMode.RUN)
    except RecursionError:
        raise ConfigError([f"{where}: the `defaults` of two files name each other"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path} is not UTF-8" for path in _not_utf8(folders)] or [where]) from None
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        raise ConfigError([f"{where}: {reason(error)}"]) from None


def _is_own(default: ResultDefault) -> bool:
    """Say whether an entry is a file of ours or the user's, rather than one of Hydra's own."""
    return default.config_path is not None and not default.config_path.startswith("hydra/")


def _layer(folders: Sequence[Path], default: ResultDefault) -> Layer:
    path = find(folders, f"{default.config_path}.yaml")
    values = load_yaml(path)
    values.pop("defaults", None)
    values.pop("hydra", None)  # another Hydra program's own settings
    package = default.package or ""
    lines = line_numbers(path, package)
    for part in reversed(package.split(".") if package else []):
        values = {part: values}
    return layer_of(values, _origin(path), lines)


def _origin(path: Path) -> Origin:
    return Origin("file", shown_path(path, packaged_conf()))


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        ConfigError: it does not exist, cannot be read, or is no mapping.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file"]) from None
    except IsADirectoryError:
        raise ConfigError([f"{path} is a folder; --config takes a YAML file (a folder goes to --config-dir)"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path} is not UTF-8: {error.reason} at byte {error.start}"]) from None
    except (OmegaConfBaseException, YAMLError, OSError) as error:
        raise ConfigError([f"{path} cannot be read: {reason(error)}"]) from None
    if not isinstance(content, dict):
        raise ConfigError([f"{path}: expected sections such as `training:`, found a {type(content).__name__}"])
    return {str(key): value for key, value in content.items()}


def find(folders: Sequence[Path], name: str) -> Path:
    """Return the first file of that name in the folders; there must be one."""
    return next(folder / name for folder in folders if (folder / name).is_file())


def unknown_choices(groups: Mapping[str, str], options: Mapping[str, list[str]]) -> list[str]:
    """Say which chosen groups and files do not exist, and what was probably meant."""
    problems = []
    for group, name in groups.items():
        if group not in options:
            guess = nearest(group, options)
            problems.append(f"'{group}' is not a configuration group" + (f"; did you mean {guess}?" if guess else ""))
        elif name != "null" and name not in options[group]:
            guess = nearest(name, options[group], cutoff=0.5)
            problems.append(
                f"{group}={name}: there is no such file in the group; there are: {', '.join(options[group])}"
                + (f"; did you mean {group}={guess}?" if guess else "")
            )
    return problems


def _not_utf8(folders: Sequence[Path]) -> Iterator[Path]:
    for path in itertools.chain.from_iterable(folder.rglob("*.yaml") for folder in folders):
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            yield path


def reason(error: Exception) -> str:
    """Return an error's text on one line, without Hydra's own advice, which would hide a typo."""
    text = str(error) or str(error.__cause__ or type(error).__name__)  # OmegaConf wraps some errors in an empty one
    return " ".join(line.strip() for line in text.splitlines() if "To append to your config" not in line)
