"""Layer schema defaults, conf/ groups, a file, the environment and overrides into one configuration.

Precedence, lowest first: schema defaults < conf/ groups < ``experiment=`` < ``--config FILE`` < environment
< command line. Hydra chooses and merges the group files; everything after that is a plain merge of dictionaries whose
every value remembers where it came from.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dlgsum.config.dump import dumped
from dlgsum.config.environment import read_environment
from dlgsum.config.groups import (
    compose_groups,
    find,
    group_in,
    group_options,
    laid_over,
    load_yaml,
    packaged_conf,
    search_path,
    unknown_choices,
    values_of,
)
from dlgsum.config.legacy import is_legacy, migrate, notice
from dlgsum.config.masking import filled, hidden, hidden_line, is_masked, plain, secret_keys
from dlgsum.config.origin import Layer, Origin, Setting, flatten, layer_of, line_numbers, shown_path
from dlgsum.config.overrides import parse_overrides
from dlgsum.config.request import Request
from dlgsum.config.schema import Config, defaults, is_key, key_names
from dlgsum.config.validate import OUTGROWN, build_config, in_todays_terms, unknown_key
from dlgsum.core.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Composition:
    """The composed configuration, the group files chosen, and where each value came from.

    Attributes:
        history: dotted key to everything that set it, the winner last; a key that nothing set is absent. Of secrets it
            has only ``***``.
    """

    config: Config
    groups: dict[str, str]
    history: dict[str, tuple[Setting, ...]]


@dataclass(frozen=True)
class _File:
    """What ``--config FILE``, or the mapping in its place, says."""

    groups: dict[str, str]
    layer: Layer
    name: str


def compose(request: Request, further: Callable[[Config], list[str]] | None = None) -> Composition:
    """Compose and validate a configuration.

    Args:
        further: more checks, by parts that the schema cannot know; their problems join the one report.

    Raises:
        ConfigError: with every problem found, in files, environment and overrides together.
    """
    folders = search_path(request.config_dir)
    options = group_options(folders)
    overrides = parse_overrides(request.overrides, options)
    problems = list(overrides.problems)
    file = _read_file(request, options)
    groups = {**file.groups, **overrides.groups}
    problems += unknown_choices(groups, options)

    known = dict.fromkeys(key_names())  # in order: of two names equally near, the first is suggested
    names = load_yaml(find(folders, "env.yaml"))
    environment, environment_problems = read_environment(request.environ, names, known)
    problems += environment_problems
    base = _base_layer(request.base) if request.base else {}
    environment = {**_given_again(request, names, {**base, **file.layer}), **environment}
    given = {
        name: Setting(setting, _argument(request, overrides.lines[key]))
        for key, value in overrides.values.items()
        for name, setting in flatten({key: value})
    }
    problems += [f"{unknown_key(key)} (from {given[key].origin.in_words})" for key in given if not is_key(key, known)]

    good = {group: name for group, name in groups.items() if name == "null" or name in options.get(group, ())}
    composed, chosen = compose_groups(folders, good)
    # What the groups named on the command line set: only beside a complete configuration does it matter.
    named = {
        f"{group}={name}": values_of(folders, group, name)
        for group, name in (overrides.groups.items() if file.layer or request.base else ())
        if name != "null" and group in good
    }
    for warning in _buried_groups(named, file):
        logger.warning(warning)
    history, values, misplaced = _pile(
        [
            *composed,
            *([base, *named.values()] if request.base else []),
            file.layer,
            {
                key: Setting(value, Origin("variable", variable))
                for name, (whole, variable) in environment.items()
                for key, value in (flatten(whole, f"{name}.") if isinstance(whole, dict) else [(name, whole)])
            },
            {key: setting for key, setting in given.items() if is_key(key, known)},
        ]
    )
    problems += misplaced
    origins = {key: settings[-1].origin.in_words for key, settings in history.items()}
    try:
        # Over the defaults, so that ${general.seed} works even where nobody sets the seed.
        resolved = OmegaConf.to_container(OmegaConf.create(laid_over(defaults(), values)), resolve=True)
        config = build_config(resolved, origins, further)  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        raise ConfigError([*problems, f"an interpolation cannot be resolved: {_first_line(error)}"]) from None
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return Composition(config, chosen, history)


def to_yaml(config: Config) -> str:
    """Return the configuration as YAML that ``--config`` reads back; of secrets only that they are set."""
    return dumped(escaped(plain(config)))


def _given_again(request: Request, names: Mapping[str, Any], layer: Layer) -> dict[str, tuple[Any, str]]:
    """Return the secrets that a saved configuration has only as ``***``, where the environment gives them again."""
    lost = [key for key in sorted(secret_keys()) if key in layer and is_masked(layer[key].value)]
    names = {variable: key for variable, key in names.items() if key in lost}
    # Variables of other settings are no problem here: whether they are right is not asked.
    given = read_environment(request.secrets, names, lost)[0] if lost else {}
    # A list may have got a new address beside those that were masked.
    return {key: (filled(layer[key].value, value), variable) for key, (value, variable) in given.items()}


def _read_file(request: Request, options: Mapping[str, list[str]]) -> _File:
    """Read ``--config FILE``, or the mapping in its place.

    Groups are chosen as ``model: kobart`` or in a defaults list. A file in the competition baseline's format is
    migrated on the fly, with a warning.
    """
    path = request.file
    name = "" if path is None else shown_path(path.absolute(), packaged_conf())
    content = dict(request.values) if path is None else load_yaml(path)
    lines = None if path is None else line_numbers(path)
    implied: set[str] = set()
    if is_legacy(content):
        migration = migrate(content)
        logger.warning(notice(migration, name or "the dictionary given", in_file=path is not None))
        content = migration.as_file()
        # Lines are those of the old file: a key stands where the one stood that it came from.
        old = lines or {}
        lines = {key: old[source] for key, source in migration.sources.items() if source in old}
        implied = {key for key, source in migration.sources.items() if not source}
    if path is not None:
        implied -= dict(flatten(dict(request.values))).keys()
        content = laid_over(content, request.values)
    content = in_todays_terms(content)
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
    layer = layer_of(content, Origin("file", name), lines)
    way = Origin("file", f"the old program's way ({name})")
    layer |= {key: Setting(layer[key].value, way) for key in implied & layer.keys()}
    return _File(groups, layer, name)


def _argument(request: Request, line: str) -> Origin:
    if request.overrides_from:
        return Origin("choice", request.overrides_from)
    return Origin("argument", hidden_line(line))


def _base_layer(base: Path | Mapping[str, Any]) -> Layer:
    if not isinstance(base, Path):
        return layer_of(in_todays_terms(base), Origin("file", "the settings given"))
    name = shown_path(base.absolute(), packaged_conf())
    content = in_todays_terms(load_yaml(base))
    for key, now in OUTGROWN.items():
        section, _, leaf = key.partition(".")
        if isinstance(content.get(section), dict) and leaf in content[section]:
            content[section] = {setting: value for setting, value in content[section].items() if setting != leaf}
            logger.info("%s was saved by an earlier version: %s is passed over; %s", name, key, now)
    return layer_of(content, Origin("file", name), line_numbers(base))


def _buried_groups(named: Mapping[str, Layer], file: _File) -> list[str]:
    """Say which groups named on the command line change nothing, because the file sets all that they set."""
    warnings = []
    for choice, layer in named.items() if file.layer else ():
        changed = [key for key, it in layer.items() if key in file.layer and file.layer[key].value != it.value]
        if changed and all(key in file.layer for key in layer):
            warnings.append(
                f"{choice} has no effect: {file.name or 'the settings given'} sets everything that it sets; "
                f"set single values, such as {changed[0]}={hidden(changed[0], layer[changed[0]].value)}"
            )
    return warnings


def _pile(layers: list[Layer]) -> tuple[dict[str, tuple[Setting, ...]], dict[str, Any], list[str]]:
    """Lay the layers over each other; return who set what, the nested values, and what was in the wrong place."""
    history: dict[str, tuple[Setting, ...]] = {}
    values: dict[str, Any] = {}
    problems = []
    for layer in layers:
        for key, setting in _without_aliases(layer).items():
            problem = _put(values, key, setting.value)
            if problem:
                origin = setting.origin.in_words
                problems.append(f"{problem} (from {origin})" if origin else problem)
            shown = Setting(hidden(key, setting.value), setting.origin)
            history[key] = (*history.get(key, ()), shown)
    return history, values, problems


def _without_aliases(layer: Layer) -> Layer:
    """Translate older names within a layer, so that they override what lower layers set under the newer ones.

    general.model_name means model.checkpoint, and training.warmup_ratio means training.warmup_steps below 1. A layer
    that sets both keeps both: for the model the newer name wins, for the warm-up it is a contradiction.
    """
    layer = dict(layer)
    name = layer.get("general.model_name")
    if name is not None and name.value is not None:
        layer.setdefault("model.checkpoint", name)
    ratio, steps = layer.get("training.warmup_ratio"), layer.get("training.warmup_steps")
    if ratio is not None and ratio.value is not None and (steps is None or steps.value is None):
        with contextlib.suppress(TypeError, ValueError):
            if 0 <= float(ratio.value) < 1:
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


def escaped(value: Any) -> Any:
    """Return nested settings in which a literal ``${`` is not read back as an interpolation."""
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    if isinstance(value, str) and "${" in value:
        return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", value)
    return value


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
