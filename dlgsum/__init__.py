"""Config-driven training and experiments for Korean dialogue summarization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlgsum.recipes.train import DialogueSummarizationTrainer, TrainingResult, create_trainer

__version__ = "0.1.0"
__all__ = ["DialogueSummarizationTrainer", "TrainingResult", "__version__", "create_trainer"]


def __getattr__(name: str) -> Any:
    """Import the public classes when they are first used, so that ``import dlgsum`` stays instant."""
    if name in __all__:
        from dlgsum.recipes import train

        return getattr(train, name)
    raise AttributeError(f"module 'dlgsum' has no attribute '{name}'")
