"""Write a model folder that plain transformers and dlgsum can load, and take its weights back."""

from __future__ import annotations

import functools
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.compose import to_yaml
from dlgsum.config.schema import Config
from dlgsum.core.files import write_json
from dlgsum.recipes.model_card import write_model_card

if TYPE_CHECKING:
    from torch import Tensor

    from dlgsum.data.encode import EncodedSplit
    from dlgsum.training.hooks.keep_best import WriteModel
    from dlgsum.training.trainer import SummarizationTrainer


class ModelWriter:
    """Writes the model of a run as it is now.

    Args:
        run_id: named in the folder's record.
        datasets: described in the model card.
    """

    def __init__(
        self, trainer: SummarizationTrainer, config: Config, datasets: Mapping[str, EncodedSplit], run_id: str
    ) -> None:
        self._trainer = trainer
        self._config = config
        self._datasets = datasets
        self._run_id = run_id

    def __call__(self) -> WriteModel:
        """Take hold of the model as it is now; every process calls this, and the first writes what it returns."""
        return functools.partial(self._write, self._trainer.weights())

    def _write(self, weights: dict[str, Tensor] | None, folder: Path, metrics: dict[str, float], step: int) -> None:
        """Fill ``folder`` with weights, tokenizer, metrics, configuration and model card."""
        trainer = self._trainer
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder, state_dict=weights)
        trainer.generator.tokenizer.hf.save_pretrained(folder)
        evaluation = trainer.last_evaluation
        signature = evaluation.scores.signature if evaluation and evaluation.scores else ""
        record = {"run": self._run_id, "step": step, "signature": signature, "metrics": metrics}
        for path in folder.glob("*.safetensors"):  # their library gives them to the owner alone, whatever the umask
            path.chmod(stat.S_IMODE((folder / "config.json").stat().st_mode))
        write_json(folder / "metrics.json", record)
        (folder / "dlgsum.yaml").write_text(to_yaml(self._config), encoding="utf-8")
        write_model_card(folder, self._config, self._datasets, record)


def load_weights(model: Any, folder: Path) -> None:
    """Put the weights of a model folder into ``model``, which has the same shape; every process calls this."""
    from safetensors.torch import load_model

    from dlgsum.training import fsdp

    if fsdp.is_shared_out(model):
        fsdp.take_weights(model, folder / "model.safetensors")
        return
    load_model(model, folder / "model.safetensors", strict=False)
    model.tie_weights()
