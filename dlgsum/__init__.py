"""Config-driven training and experiments for Korean dialogue summarization."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlgsum.core.logger import Logger
    from dlgsum.recipes.config_dict import ConfigManager
    from dlgsum.recipes.create import create_trainer
    from dlgsum.recipes.gpu_check import check_gpu_compatibility
    from dlgsum.recipes.optimal import find_optimal_batch_size
    from dlgsum.recipes.result import TrainingResult
    from dlgsum.recipes.train import DialogueSummarizationTrainer
    from dlgsum.tracking.experiment_tracker import ExperimentTracker
    from dlgsum.tracking.notebook import NotebookLogger
    from dlgsum.tracking.registry import ModelRegistry
    from dlgsum.tracking.wandb_logger import WandBLogger

__version__ = "0.1.0"
__all__ = [
    "ConfigManager", "DialogueSummarizationTrainer", "ExperimentTracker", "Logger", "ModelRegistry", "NotebookLogger",
    "TrainingResult", "WandBLogger", "__version__", "check_gpu_compatibility", "create_trainer",
    "find_optimal_batch_size",
]  # fmt: skip

_HOMES = {
    "ConfigManager": "dlgsum.recipes.config_dict",
    "DialogueSummarizationTrainer": "dlgsum.recipes.train",
    "ExperimentTracker": "dlgsum.tracking.experiment_tracker",
    "Logger": "dlgsum.core.logger",
    "ModelRegistry": "dlgsum.tracking.registry",
    "NotebookLogger": "dlgsum.tracking.notebook",
    "TrainingResult": "dlgsum.recipes.result",
    "WandBLogger": "dlgsum.tracking.wandb_logger",
    "check_gpu_compatibility": "dlgsum.recipes.gpu_check",
    "create_trainer": "dlgsum.recipes.create",
    "find_optimal_batch_size": "dlgsum.recipes.optimal",
}


def __getattr__(name: str) -> Any:
    """Import the public classes when they are first used, so that ``import dlgsum`` stays instant."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dlgsum' has no attribute '{name}'")
