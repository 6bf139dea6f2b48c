"""What a run depends on besides its configuration: versions, hardware, commit, command."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dlgsum.config.masking import hidden_line
from dlgsum.core.hardware.nvml import read_nvidia
from dlgsum.core.masking import masked

PACKAGES = (
    "torch", "transformers", "tokenizers", "accelerate", "datasets", "evaluate", "rouge-score", "sacrebleu",
    "kiwipiepy", "kiwipiepy_model", "hydra-core", "omegaconf", "pydantic", "numpy", "safetensors", "wandb",
)  # fmt: skip


def describe_environment() -> dict[str, Any]:
    """Return versions, hardware, the git commit and the command line, without secrets.

    torch is not imported for this, which takes seconds: where nobody has imported it, ``torch_threads`` is None, and
    ``gpus`` are the cards that the driver knows, whichever of them this process may use.
    """
    threads, gpus = _torch()
    return {
        "dlgsum": _version("dlgsum"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu_count": os.cpu_count(),
        "torch_threads": threads,
        "gpus": gpus,
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git(Path.cwd()),
        "command": masked(" ".join(hidden_line(part) for part in sys.argv)),
        "working_directory": str(Path.cwd()),
    }


def _torch() -> tuple[int | None, list[str]]:
    """Return the threads of torch and the names of the cards."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None, [card.name for card in read_nvidia().cards if card.name]
    return torch.get_num_threads(), [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    """Return the commit and whether files differ from it; None outside a repository."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*words: str) -> str | None:
        done = subprocess.run([git, *words], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        commit = ask("rev-parse", "HEAD")
        return None if commit is None else {"commit": commit, "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
