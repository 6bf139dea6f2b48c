"""The files under conf/: where they are, which there are, and Hydra's merge of the chosen ones."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dlgsum.config.folders import packaged_conf as packaged_conf
from dlgsum.config.folders import search_path as search_path
from dlgsum.config.masking import hidden_line
from dlgsum.config.origin import Layer, Origin, layer_of, line_numbers, shown_path
from dlgsum.config.overrides import quoted
from dlgsum.core.errors import ConfigError, nearest

_LARGEST = 100_000
_DEEPEST = 50

if TYPE_CHECKING:
    from hydra._internal.defaults_list import DefaultsList
    from hydra.core.default_element import ResultDefault


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
    if not default.primary and _late_header(path):
        raise ConfigError([f"{path}: the line `# @package …` must come first in the file, or it is only a comment"])
    values.pop("defaults", None)
    values.pop("hydra", None)  # another Hydra program's own settings
    package = default.package or ""
    lines = line_numbers(path, package)
    for part in reversed(package.split(".") if package else []):
        values = {part: values}
    return layer_of(values, _origin(path), lines)


def _late_header(path: Path) -> bool:
    """Say whether `# @package` stands where Hydra does not look for it."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    first = next((n for n, line in enumerate(lines) if not re.match(r"\s*#\s*@", line)), len(lines))
    return any(re.match(r"\s*#\s*@package\b", line) for line in lines[first:])


def _origin(path: Path) -> Origin:
    return Origin("file", shown_path(path, packaged_conf()))


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        ConfigError: it does not exist, cannot be read, or is no mapping.
    """
    try:
        check_size(path)
        content = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file"]) from None
    except IsADirectoryError:
        raise ConfigError([f"{path} is a folder; --config takes a YAML file (a folder goes to --config-dir)"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([not_utf8(path, error)]) from None
    except (OmegaConfBaseException, YAMLError, OSError, RecursionError) as error:
        raise ConfigError([f"{path} cannot be read: {reason(error)}"]) from None
    if not isinstance(content, dict):
        raise ConfigError([f"{path}: expected sections such as `training:`, found a {type(content).__name__}"])
    return {str(key): value for key, value in content.items()}


def check_size(path: Path) -> None:
    """Refuse a YAML file that means more than a configuration can: aliases multiply, and may contain themselves.

    Raises:
        YAMLError: it has more than 100,000 values, or is nested more than 50 deep.
    """
    text = path.read_text(encoding="utf-8")
    if "*" not in text and len(text) < _LARGEST:
        return
    with path.open(
        encoding="utf-8"
    ) as stream:  # of a stream, errors name the line without quoting it: it may be secret
        root = yaml.compose(stream, Loader=yaml.SafeLoader)
    sizes: dict[int, int] = {}

    def size(node: yaml.Node | None, depth: int) -> int:
        if depth > _DEEPEST:
            raise YAMLError(f"it is nested more than {_DEEPEST} deep")
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) not in sizes:
            inner = itertools.chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in inner)
        return sizes[id(node)]

    if size(root, 0) > _LARGEST:
        raise YAMLError(f"it has more than {_LARGEST:,} values")


def not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    """Say that a file is not UTF-8, and how to make it so where it is in Korea's older encoding."""
    told = f"{path} is not UTF-8: {error.reason} at byte {error.start}"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        path.read_bytes().decode("cp949")
        return f"{told}; it reads as cp949: iconv -f cp949 -t utf-8 {path} > {path.stem}_utf8{path.suffix}"
    return told


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
            told = hidden_line(f"{group}={name}")
            problems.append(
                f"{told}: there is no such file in the group; there are: {', '.join(options[group])}"
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
