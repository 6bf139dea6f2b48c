"""Layer schema defaults, conf/ groups, a file, the environment and overrides into one configuration.

Precedence, lowest first: schema defaults < conf/ groups < ``experiment=`` < ``--config FILE`` < environment
< command line. Hydra chooses and merges the group files; everything after that is a plain merge of dictionaries whose
every value remembers where it came from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dlgsum.config.environment import read_environment
from dlgsum.config.groups import (
    compose_groups,
    find,
    group_in,
    group_options,
    laid_over,
    load_yaml,
    search_path,
    unknown_choices,
    values_of,
)
from dlgsum.config.overrides import parse_overrides
from dlgsum.config.request import Request
from dlgsum.config.schema import Config, defaults, key_names
from dlgsum.config.validate import build_config, unknown_key
from dlgsum.core.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Composition:
    """The composed configuration, the group files chosen, and where each value came from."""

    config: Config
    groups: dict[str, str]
    origins: dict[str, str]


def compose(request: Request) -> Composition:
    """Compose and validate a configuration.

    Raises:
        ConfigError: with every problem found, in files, environment and overrides together.
    """
    folders = search_path(request.config_dir)
    options = group_options(folders)
    overrides = parse_overrides(request.overrides, options)
    problems = list(overrides.problems)
    file_groups, file_values, file_name = _read_file(request, options)
    groups = {**file_groups, **overrides.groups}
    problems += unknown_choices(groups, options)

    known = list(key_names())
    names = load_yaml(find(folders, "env.yaml"))
    environment, environment_problems = read_environment(request.environ, names, known)
    problems += environment_problems
    given = [key for key, _ in _flatten(overrides.values)]
    problems += [f"{unknown_key(key)} (from the command line)" for key in given if key not in known]

    good = {group: name for group, name in groups.items() if name == "null" or name in options.get(group, ())}
    composed, chosen = compose_groups(folders, good)
    # What the groups named on the command line set: only beside a complete configuration does it matter.
    named = {
        f"{group}={name}": dict(_flatten(values_of(folders, group, name)))
        for group, name in (overrides.groups.items() if file_values or request.base else ())
        if name != "null" and group in good
    }
    layers = [
        {key: (value, f"conf ({_choices_text(chosen)})") for key, value in _flatten(composed)},
        *_base_layers(request.base, named),
        {key: (value, file_name) for key, value in _flatten(file_values)},
        {
            key: (value, f"environment variable {variable}")
            for name, (whole, variable) in environment.items()
            for key, value in (_flatten(whole, f"{name}.") if isinstance(whole, dict) else [(name, whole)])
        },
        {key: (value, "the command line") for key, value in _flatten(overrides.values) if key in known},
    ]
    for warning in _buried_groups(named, dict(_flatten(file_values)), file_name):
        logger.warning(warning)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for key, (value, origin) in _without_aliases(layer).items():
            problem = _put(values, key, value)
            origins[key] = origin
            if problem:
                problems.append(f"{problem} (from {origin})" if origin else problem)
    try:
        # Over the defaults, so that ${general.seed} works even where nobody sets the seed.
        resolved = OmegaConf.to_container(OmegaConf.create(laid_over(defaults(), values)), resolve=True)
        config = build_config(resolved, origins)  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        raise ConfigError([*problems, f"an interpolation cannot be resolved: {_first_line(error)}"]) from None
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return Composition(config, chosen, origins)


def to_yaml(config: Config) -> str:
    """Return the configuration as YAML that ``--config`` reads back."""
    return OmegaConf.to_yaml(OmegaConf.create(_escaped(dataclasses.asdict(config))))


def _read_file(request: Request, options: Mapping[str, list[str]]) -> tuple[dict[str, str], dict[str, Any], str]:
    """Return the group choices, the settings and the name of ``--config FILE``, or of the mapping in its place.

    Groups are chosen as ``model: kobart`` or in a defaults list.
    """
    path = request.file
    name = "" if path is None else str(path)
    content = dict(request.values) if path is None else laid_over(load_yaml(path), request.values)
    groups: dict[str, str] = {}
    listed = content.pop("defaults", None) or []
    for entry in listed if isinstance(listed, list) else [listed]:
        if entry == "_self_":
            continue
        if not isinstance(entry, dict):
            raise ConfigError(
                [f"{name or 'settings'}: `defaults` lists group choices such as `- model: kobart`, not {entry!r}"]
            )
        for key, choice in entry.items():
            groups[group_in(key)] = "null" if choice is None else str(choice)
    for key in [key for key in content if key in options and isinstance(content[key], str)]:
        groups[key] = content.pop(key)
    return groups, content, name


def _base_layers(base: Path | None, named: Mapping[str, Mapping[str, Any]]) -> list[dict[str, tuple[Any, str]]]:
    """Return a saved configuration, and over it the groups named on the command line, which it would bury."""
    if base is None:
        return []
    saved = {key: (value, str(base)) for key, value in _flatten(load_yaml(base))}
    return [saved, *({key: (value, choice) for key, value in values.items()} for choice, values in named.items())]


def _buried_groups(named: Mapping[str, Mapping[str, Any]], file: Mapping[str, Any], file_name: str) -> list[str]:
    """Say which groups named on the command line change nothing, because the file sets all that they set."""
    warnings = []
    for choice, values in named.items() if file else ():
        changed = [key for key, value in values.items() if key in file and file[key] != value]
        if changed and all(key in file for key in values):
            warnings.append(
                f"{choice} has no effect: {file_name or 'the settings given'} sets everything that it sets; "
                f"set single values, such as {changed[0]}={values[changed[0]]}"
            )
    return warnings


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{name}.")
        else:
            # `training:` with nothing under it is an empty section, not a null.
            yield name, {} if value is None and "." not in name else value


def _without_aliases(layer: dict[str, tuple[Any, str]]) -> dict[str, tuple[Any, str]]:
    """Translate older names within a layer, so that they override what lower layers set under the newer ones.

    general.model_name means model.checkpoint, and training.warmup_ratio means training.warmup_steps below 1. A layer
    that sets both keeps both: for the model the newer name wins, for the warm-up it is a contradiction.
    """
    layer = dict(layer)
    name = layer.get("general.model_name", (None, ""))
    if name[0] is not None:
        layer.setdefault("model.checkpoint", name)
    ratio, steps = (layer.get(f"training.warmup_{key}", (None, ""))[0] for key in ("ratio", "steps"))
    if ratio is not None and steps is None:
        with contextlib.suppress(TypeError, ValueError):
            if 0 <= float(ratio) < 1:
                layer["training.warmup_steps"] = layer.pop("training.warmup_ratio")
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


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
