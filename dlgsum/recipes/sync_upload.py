"""Upload W&B's own files of a run, by W&B's own command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlgsum.config.schema import Config
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.masking import masked
from dlgsum.core.text import duration
from dlgsum.tracking.run import RunFolder

TIMEOUT = 1800.0  # seconds that one run may take; a model of 500 MB passes a line of 3 Mbit/s in that time
_PAGE = re.compile(r"\bat (https?://\S+/runs/\S+)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Uploaded:
    """Where a run went."""

    id: str
    entity: str | None
    project: str
    url: str | None


def upload(run: RunFolder, files: Sequence[Path], config: Config) -> Uploaded:
    """Upload the files of a run that were not uploaded yet, oldest first; they go to one run of W&B.

    Raises:
        EnvironmentProblem: W&B did not take all of them, in its own words, or not in half an hour.
    """
    place = ["-p", config.wandb.project, *(["-e", config.wandb.entity] if config.wandb.entity else [])]
    command = [sys.executable, "-m", "wandb", "sync", "--no-include-synced", "--include-online", *place]
    # The run's own choice, such as offline, would keep the command from reaching the server.
    environ = {name: value for name, value in os.environ.items() if name not in ("WANDB_MODE", "WANDB_SILENT")}
    try:
        done = subprocess.run(
            [*command, *(str(path.absolute()) for path in files)],
            cwd=run.path,  # it writes logs to ./wandb
            stdin=subprocess.DEVNULL,  # it must not ask for a key
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(
            f"{run.id} was not uploaded within {duration(TIMEOUT)}",
            "Try again; what is there already is not sent twice.",
        ) from None
    said = masked(_COLOUR.sub("", done.stdout.decode("utf-8", "replace")))
    left = [path for path in files if not path.with_suffix(".wandb.synced").exists()]
    if done.returncode != 0 or left:
        words = [line.removeprefix("wandb: ").strip() for line in said.splitlines() if line.strip()]
        raise EnvironmentProblem(f"W&B did not take {run.id}: {' | '.join(words[-3:]) or f'exit {done.returncode}'}")
    page = _PAGE.search(said)
    return Uploaded(run.id, config.wandb.entity, config.wandb.project, page[1] if page else None)
