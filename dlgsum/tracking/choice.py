"""Which trackers mirror a run, by name; nothing heavy is imported to find out whether the names are right."""

from __future__ import annotations

import sys

from dlgsum.config.schema import Config
from dlgsum.core import plugins
from dlgsum.core.errors import nearest
from dlgsum.tracking.tracker import Tracker

WANDB = "wandb"

INTEGRATIONS = (
    "azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "flyte", "kubeflow", "mlflow", "neptune",
    "swanlab", "tensorboard", "trackio", "wandb",
)  # fmt: skip
"""Trackers that transformers integrates, which is known without importing it; a test compares."""


def tracker_problems(config: Config) -> list[str]:
    """Return what is wrong with ``tracking.trackers``; a package that is missing is not asked for here."""
    known = sorted({*plugins.names("trackers"), *INTEGRATIONS}) if config.tracking.trackers else []
    problems = []
    for name in dict.fromkeys(config.tracking.trackers):
        if name not in known:
            guess = nearest(name, known)
            hint = f"; did you mean {guess}?" if guess else ""
            problems.append(f"tracking.trackers: '{name}' is not one of {', '.join(known)}{hint}")
        elif name == WANDB and config.wandb.mode == "disabled":
            problems.append(
                "tracking.trackers names wandb, but wandb.mode=disabled; set wandb.mode=online (needs an account) or "
                "offline, which is all that W&B needs"
            )
    return problems


def chosen(config: Config) -> list[str]:
    """Return the names of the trackers of a run, each once: W&B where it is on or the user has a run of it open."""
    open_run = getattr(sys.modules.get("wandb"), "run", None)
    wanted = config.wandb.mode != "disabled" or open_run is not None
    return list(dict.fromkeys([*([WANDB] if wanted else []), *config.tracking.trackers]))


def tracker_class(name: str) -> type[Tracker]:
    """Return the tracker of a name: a plugin, else what transformers integrates.

    Raises:
        UsageError: there is no such tracker.
    """
    if name in INTEGRATIONS and name not in plugins.names("trackers"):
        from dlgsum.tracking.integrations import integration

        return integration(name)
    return plugins.load("trackers", name)
