"""A trainer for whatever a notebook has at hand: a file, settings, overrides, the parameters of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.errors import UsageError
from dlgsum.recipes.config_dict import open_sweep_overrides, request_for
from dlgsum.recipes.settle import settle
from dlgsum.recipes.train import DialogueSummarizationTrainer


def create_trainer(
    config: str | Path | Config | Mapping[str, Any] | None = None, *overrides: str, sweep_mode: bool = False
) -> DialogueSummarizationTrainer:
    """Return a trainer for a YAML file, plain settings, or the defaults.

    Args:
        config: a YAML file (merged over the defaults like ``--config``), nested settings, or None.
        overrides: as on the command line, such as ``"training.learning_rate=3e-5"``.
        sweep_mode: take the parameters of the W&B run that is open over everything else.

    Raises:
        ConfigError: the settings are wrong; every problem is reported.
    """
    if isinstance(config, Config):
        if overrides or sweep_mode:
            raise UsageError("overrides and sweep_mode do not go with a finished Config", "Give a file or a mapping.")
        return DialogueSummarizationTrainer(config)
    lines = [*overrides, *(open_sweep_overrides() if sweep_mode else ())]
    if isinstance(config, (str, Path)):
        request = Request(overrides=lines, file=Path(config))
    else:
        request = request_for(config or {}, *lines)
    return DialogueSummarizationTrainer(settled=settle(request))
