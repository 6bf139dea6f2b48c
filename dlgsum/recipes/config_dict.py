"""Configurations as plain dictionaries, for notebooks and W&B sweeps."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlgsum.config.compose import compose
from dlgsum.config.masking import plain, secret_environment
from dlgsum.config.origin import flatten
from dlgsum.config.overrides import override_value
from dlgsum.config.request import Request
from dlgsum.config.schema import Config, key_names
from dlgsum.config.validate import RENAMED, unknown_key
from dlgsum.core.errors import ConfigError
from dlgsum.recipes import configurations
from dlgsum.recipes.settle import config_problems, settle


class ConfigDict(dict[str, Any]):
    """Every setting, nested by section, free to be changed; the environment has already had its say.

    A trainer takes it as it is: what a notebook sets in it wins over files and variables. It may be printed and sent
    to a tracker: addresses of alerts are ``***``, and only a trainer gets them back.
    """

    def __init__(self, values: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> None:
        super().__init__(values)
        self._secrets = dict(secrets if secrets is not None else getattr(values, "_secrets", {}))

    @classmethod
    def of(cls, config: Config) -> ConfigDict:
        """Return a configuration as a dictionary."""
        return cls(plain(config), secret_environment(config))

    def request(self, overrides: Sequence[str]) -> Request:
        """Return the request for what the dictionary says now."""
        # A base, so that a group chosen now is not buried by what an earlier choice of it had set.
        base = copy.deepcopy(dict(self))
        return Request(overrides=overrides, base=base, environ={}, secrets={**os.environ, **self._secrets})


class ConfigManager:
    """Load, merge and check configurations as dictionaries.

    Args:
        config_dir: folder of configuration files that is searched first.
    """

    def __init__(self, config_dir: str | Path | None = None) -> None:
        self._config_dir = None if config_dir is None else Path(config_dir)

    def load_config(self, path: str | Path | None = None, *overrides: str) -> ConfigDict:
        """Return the whole configuration: defaults, the file, the environment and overrides.

        model=auto and data=auto are settled, so that the dictionary says what a run would use.

        Raises:
            ConfigError: with every problem found.
            DataError: a data file does not exist.
        """
        settled = settle(self._request(path, overrides))
        return ConfigDict.of(settled.config)

    def merge_sweep_params(self, config: Mapping[str, Any], params: Mapping[str, Any]) -> ConfigDict:
        """Return a copy of ``config`` with the parameters of a sweep, such as ``wandb.config``, laid over it.

        A parameter is named as ``training.learning_rate``, or ``learning_rate`` for short, or nested; a bare name that
        several sections have means the one of ``training``; usual short names (lr, batch_size, …) work too. Names
        that begin with ``_`` are W&B's own and left out.

        Raises:
            ConfigError: a parameter that is no setting, or a value that is not allowed; every one is reported.
        """
        # Composed for the checks: the values get their types, and contradictions are found.
        request = request_for(ConfigDict(config), *sweep_overrides(params))
        merged = compose(dataclasses.replace(request, overrides_from="the sweep's parameters"), config_problems)
        return ConfigDict.of(merged.config)

    def validate_config_file(self, path: str | Path) -> configurations.Verdict:
        """Check a file as ``--config`` would use it; the verdict is true when nothing is wrong, and prints what is."""
        return configurations.check(self._request(path, ()), str(path))

    def _request(self, path: str | Path | None, overrides: tuple[str, ...]) -> Request:
        return Request(
            overrides=overrides, file=None if path is None else Path(path).expanduser(), config_dir=self._config_dir
        )


def request_for(settings: Mapping[str, Any], *overrides: str) -> Request:
    """Return the request for nested settings, treated like the file of ``--config``.

    The environment lies over plain settings, but not over a ``ConfigDict``: it was asked when that was loaded.
    """
    if isinstance(settings, ConfigDict):
        return settings.request(overrides)
    return Request(overrides=overrides, values=copy.deepcopy(dict(settings)))


def sweep_overrides(params: Mapping[str, Any]) -> list[str]:
    """Return the parameters of a sweep as overrides.

    Raises:
        ConfigError: parameters that are no settings; every one is reported, with the nearest name.
    """
    known = list(key_names())
    by_leaf: dict[str, list[str]] = {}
    for key in known:
        by_leaf.setdefault(key.rpartition(".")[2], []).append(key)
    lines, problems = [], []
    for name, value in flatten(dict(params)):
        if name.startswith("_"):
            continue
        fitting = [name] if "." in name else by_leaf.get(name) or [RENAMED.get(name, name)]
        key = next((key for key in fitting if key.startswith("training.")), fitting[0] if fitting else name)
        if key in known:
            lines.append(f"{key}={override_value(value)}")
        else:
            problems.append(f"{unknown_key(key)} (from the sweep's parameters)")
    if problems:
        raise ConfigError(problems)
    return lines


def open_sweep_overrides() -> list[str]:
    """Return the parameters of the W&B run that is open as overrides.

    Raises:
        ConfigError: none is open, or a parameter is no setting.
    """
    import wandb

    if wandb.run is None:
        raise ConfigError(["sweep_mode=True, but no W&B run is open; call wandb.init() first"])
    return sweep_overrides(dict(wandb.config))
