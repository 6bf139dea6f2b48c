"""Weights & Biases as a mirror of the local record."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlgsum.config.masking import hidden_line
from dlgsum.config.schema import Wandb


class WandbTracker:
    """Send metrics to one W&B run.

    Args:
        settings: project, entity, name, mode and so on; ``mode`` is "online" or "offline".
        run_id: the id of the local run, used as the W&B run's id so that the two are found together.
        folder: where W&B keeps its files.
        config: the resolved configuration.

    Raises:
        wandb.errors.Error: W&B cannot be reached or refuses; the caller goes on without it.
    """

    name = "W&B"

    def __init__(
        self, settings: Wandb, *, run_id: str, default_name: str, folder: Path, config: Mapping[str, Any]
    ) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        # A run that the user opened (wandb.init before create_trainer) is used as it is.
        self._owned = wandb.run is None
        self._run = wandb.run or wandb.init(
            project=settings.project, entity=settings.entity, name=settings.name or default_name, id=run_id,
            group=settings.group, tags=list(settings.tags), notes=settings.notes, mode=settings.mode,
            dir=str(folder), config=dict(config),
            # W&B keeps the command line with the run: not where it holds a secret.
            settings=wandb.Settings(
                silent=True, init_timeout=30, x_disable_meta=any(hidden_line(part) != part for part in sys.argv)
            ),
            resume="allow",  # a resumed run goes on under its id, instead of replacing what is there
        )  # fmt: skip
        self._run.define_metric("*", step_metric="train/global_step")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log without W&B's own step: two writers with steps lose each other's rows."""
        self._run.log({**metrics, "train/global_step": step})

    def alert(self, title: str, text: str, level: str) -> None:
        """Have W&B tell its user; nothing happens unless the run is online.

        Args:
            title: cut to the 63 characters that W&B takes.
            level: "info", "warning" or "error".
        """
        if getattr(self._run.settings, "mode", "") != "online":
            return
        # Repeats are held back before they come here: W&B need not wait as well.
        self._run.alert(title[:63], text, level={"warning": "WARN"}.get(level, level.upper()), wait_duration=1)

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Write the summary and close the run, unless the user opened it."""
        self._run.summary.update(dict(summary))
        if self._owned:
            self._run.finish(exit_code=1 if failed else 0)
