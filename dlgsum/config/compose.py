"""Layer schema defaults, conf/ groups, a file, the environment and overrides into one configuration.

Precedence, lowest first: schema defaults < conf/ groups < ``experiment=`` < ``--config FILE`` < environment
< command line. Hydra chooses and merges the group files; everything after that is a plain merge of dictionaries
whose every value remembers where it came from.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dlgsum.config.environment import read_environment
from dlgsum.config.overrides import parse_overrides, quoted
from dlgsum.config.request import Request
from dlgsum.config.schema import Config, defaults, key_names
from dlgsum.config.validate import build_config, unknown_key
from dlgsum.core.errors import ConfigError, nearest


@dataclass(frozen=True)
class Composition:
    """The composed configuration, the group files chosen, and where each value came from."""

    config: Config
    groups: dict[str, str]
    origins: dict[str, str]


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


def compose(request: Request) -> Composition:
    """Compose and validate a configuration.

    Raises:
        ConfigError: with every problem found, in files, environment and overrides together.
    """
    folders = search_path(request.config_dir)
    options = group_options(folders)
    overrides = parse_overrides(request.overrides, options)
    problems = list(overrides.problems)
    file_groups, file_values = _read_file(request.file, options) if request.file else ({}, {})
    groups = {**file_groups, **overrides.groups}
    problems += _unknown_choices(groups, options)

    known = list(key_names())
    names = _load_yaml(_find(folders, "env.yaml"))
    environment, environment_problems = read_environment(request.environ, names, known)
    problems += environment_problems
    given = [key for key, _ in _flatten(overrides.values)]
    problems += [f"{unknown_key(key)} (from the command line)" for key in given if key not in known]

    good = {group: name for group, name in groups.items() if name == "null" or name in options.get(group, ())}
    composed, chosen = _compose_groups(folders, good)
    layers = [
        {key: (value, f"conf ({_choices_text(chosen)})") for key, value in _flatten(composed)},
        {key: (value, str(request.file)) for key, value in _flatten(file_values)},
        {
            key: (value, f"environment variable {variable}")
            for name, (whole, variable) in environment.items()
            for key, value in (_flatten(whole, f"{name}.") if isinstance(whole, dict) else [(name, whole)])
        },
        {key: (value, "the command line") for key, value in _flatten(overrides.values) if key in known},
    ]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for key, (value, origin) in _without_aliases(layer).items():
            problem = _put(values, key, value)
            origins[key] = origin
            if problem:
                problems.append(f"{problem} (from {origin})")
    try:
        # Over the defaults, so that ${general.seed} works even where nobody sets the seed.
        resolved = OmegaConf.to_container(OmegaConf.create(_laid_over(defaults(), values)), resolve=True)
        config = build_config(resolved, origins)  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        raise ConfigError([*problems, f"an interpolation cannot be resolved: {_first_line(error)}"]) from None
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return Composition(config, chosen, origins)


def from_mapping(values: Mapping[str, Any]) -> Config:
    """Return the configuration for plain nested settings; what is absent takes its default.

    Raises:
        ConfigError: with every problem found.
    """
    flat = _without_aliases({key: (value, "") for key, value in _flatten(dict(values))})
    nested: dict[str, Any] = {}
    problems = [problem for key, (value, _) in flat.items() if (problem := _put(nested, key, value))]
    if problems:
        raise ConfigError(problems)
    return build_config(nested)


def to_yaml(config: Config) -> str:
    """Return the configuration as YAML that ``--config`` reads back."""
    return OmegaConf.to_yaml(OmegaConf.create(_escaped(dataclasses.asdict(config))))


def _compose_groups(folders: Sequence[Path], groups: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Let Hydra merge the chosen group files; return the values and the choices.

    Hydra's loader is used directly rather than through ``initialize_config_dir``: that keeps global state and
    wants config.yaml in the first folder, but a user's ./conf usually holds a single group file.
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
    overrides = [f"~{group}" if name == "null" else f"{group}={quoted(name)}" for group, name in groups.items()]
    where = f"the files under {', '.join(str(folder) for folder in folders)} cannot be composed"
    try:
        composed = ConfigLoaderImpl(path).load_configuration(
            "config", overrides, run_mode=RunMode.RUN, from_shell=False
        )
    except RecursionError:
        raise ConfigError([f"{where}: the `defaults` of two files name each other"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path} is not UTF-8" for path in _not_utf8(folders)] or [where]) from None
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        raise ConfigError([f"{where}: {_reason(error)}"]) from None
    chosen = {k: str(v) for k, v in composed.hydra.runtime.choices.items() if "/" not in str(k) and v is not None}
    content = OmegaConf.to_container(OmegaConf.masked_copy(composed, [str(k) for k in composed if k != "hydra"]))
    return content, chosen  # type: ignore[return-value]


def _read_file(path: Path, options: Mapping[str, list[str]]) -> tuple[dict[str, str], dict[str, Any]]:
    """Read ``--config FILE``: settings, and group choices given as ``model: kobart`` or in a defaults list."""
    content = _load_yaml(path)
    groups: dict[str, str] = {}
    listed = content.pop("defaults", None) or []
    for entry in listed if isinstance(listed, list) else [listed]:
        if entry == "_self_":
            continue
        if not isinstance(entry, dict):
            raise ConfigError([f"{path}: `defaults` lists group choices such as `- model: kobart`, not {entry!r}"])
        for name, choice in entry.items():
            group = str(name).removeprefix("override ").strip().lstrip("/")
            groups[group] = "null" if choice is None else str(choice)
    for key in [key for key in content if key in options and isinstance(content[key], str)]:
        groups[key] = content.pop(key)
    return groups, content


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file"]) from None
    except IsADirectoryError:
        raise ConfigError([f"{path} is a folder; --config takes a YAML file (a folder goes to --config-dir)"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path} is not UTF-8: {error.reason} at byte {error.start}"]) from None
    except (OmegaConfBaseException, YAMLError, OSError) as error:
        raise ConfigError([f"{path} cannot be read: {_reason(error)}"]) from None
    if not isinstance(content, dict):
        raise ConfigError([f"{path}: expected sections such as `training:`, found a {type(content).__name__}"])
    return {str(key): value for key, value in content.items()}


def _not_utf8(folders: Sequence[Path]) -> Iterator[Path]:
    for path in itertools.chain.from_iterable(folder.rglob("*.yaml") for folder in folders):
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            yield path


def _find(folders: Sequence[Path], name: str) -> Path:
    return next(folder / name for folder in folders if (folder / name).is_file())


def _unknown_choices(groups: Mapping[str, str], options: Mapping[str, list[str]]) -> list[str]:
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


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{name}.")
        else:
            # `training:` with nothing under it is an empty section, not a null.
            yield name, {} if value is None and "." not in name else value


def _without_aliases(layer: dict[str, tuple[Any, str]]) -> dict[str, tuple[Any, str]]:
    """Give model.checkpoint the value of general.model_name where this layer names only the latter."""
    named = layer.get("general.model_name", (None, ""))
    if named[0] is not None and "model.checkpoint" not in layer:
        return {**layer, "model.checkpoint": named}
    return layer


def _put(tree: dict[str, Any], dotted: str, value: Any) -> str | None:
    """Set a dotted key; return the problem when a plain value stands where a section is wanted."""
    *path, leaf = dotted.split(".")
    node: Any = tree
    for depth, part in enumerate(path):
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            return f"{dotted}: '{'.'.join(path[: depth + 1])}' was given a value, so it has no settings of its own"
    if value == {}:
        node.setdefault(leaf, {})  # an empty section changes nothing
    else:
        node[leaf] = value
    return None


def _laid_over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = below.get(key)
        merged[key] = _laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _escaped(value: Any) -> Any:
    """Return nested settings in which a literal ``${`` is not read back as an interpolation."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, str) and "${" in value:
        return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", value)
    return value


def _choices_text(chosen: Mapping[str, str]) -> str:
    return ", ".join(f"{group}={name}" for group, name in chosen.items())


def _reason(error: Exception) -> str:
    """Return an error's text on one line, without Hydra's own advice, which would hide a typo."""
    text = str(error) or str(error.__cause__ or type(error).__name__)  # OmegaConf wraps some errors in an empty one
    return " ".join(line.strip() for line in text.splitlines() if "To append to your config" not in line)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
