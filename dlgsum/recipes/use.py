"""Open a trained model for use: by run, or by folder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.errors import ConfigError, EnvironmentProblem, UsageError
from dlgsum.data.rows import Split
from dlgsum.models.choice import saved_model
from dlgsum.recipes import wiring
from dlgsum.recipes.named import model_folder_named
from dlgsum.recipes.stored import place_of

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit
    from dlgsum.training.inference import SummaryGenerator


@dataclass(frozen=True)
class TrainedModel:
    """A model folder with the configuration it was trained with."""

    folder: Path
    config: Config
    name: str

    def rows_in_a_batch(self, asked: int | None) -> int:
        """Return the rows to generate for at once: those asked for, or those of the configuration.

        Raises:
            ConfigError: the configuration leaves them to be found by trying, which is done before training only.
        """
        if asked is None and self.config.training.per_device_eval_batch_size == "auto":
            raise ConfigError(
                [
                    "training.per_device_eval_batch_size=auto is found before training only; give a number, such as "
                    "--batch-size 32 (`dlgsum find-batch-size` finds the largest)"
                ]
            )
        return asked or self.config.training.eval_rows


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to generate."""

    trained: TrainedModel
    generator: SummaryGenerator

    def encode(self, split: Split) -> EncodedSplit:
        """Tokenize rows as in training; a few rows are not worth a cache."""
        from dlgsum.data.encode import encode_split

        return encode_split(split, self.generator.tokenizer, cache_dir=None)


def find_model(name: str, request: Request) -> TrainedModel:
    """Find a model by run id, unique prefix, ``latest``, ``best``, ``models:NAME`` or folder; torch is not needed.

    The configuration is the one saved with the model, with the overrides of ``request`` on top. A folder that
    dlgsum did not write takes the defaults.

    Raises:
        UsageError: nothing fits ``name``.
        ConfigError: an override is wrong.
    """
    path = Path(name)
    if (path / "config.json").is_file():
        folder, label = path, path.name
    elif path.is_dir() and not (path / "config.yaml").is_file():
        raise UsageError(
            f"{path} holds neither a model (config.json) nor a run (config.yaml and models/)",
            "Name a run, such as latest, or a model folder, such as outputs/experiments/<run>/models/best_model.",
        )
    else:
        folder, label = model_folder_named(name, place_of(compose(request).config))
    saved = folder / "dlgsum.yaml"
    if saved.is_file():
        request = dataclasses.replace(request, base=saved)
        config = compose(request).config
    else:
        config = compose(request).config
        config = dataclasses.replace(config, tokenizer=dataclasses.replace(config.tokenizer, find_tags=False))
    return TrainedModel(folder, config, label)


def load_model(trained: TrainedModel) -> LoadedModel:
    """Load a trained model onto its device.

    Raises:
        EnvironmentProblem: the files cannot be read.
    """
    from dlgsum.core.log import route_transformers
    from dlgsum.models import loading
    from dlgsum.models.tokenizer import prepare_tokenizer

    route_transformers()
    config = trained.config
    choice, settings = saved_model(trained.folder, config.model)
    model, original = loading.load_pretrained(choice, settings)
    tokenizer = prepare_tokenizer(original, tags=[], settings=config.tokenizer)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        raise EnvironmentProblem(f"{trained.folder}: the tokenizer has more tokens than the model has embeddings")
    plan = wiring.build_plan(config, model)
    generator = wiring.build_generator(config, model, wiring.summary_tokenizer(config, model.config, tokenizer), plan)
    return LoadedModel(trained, generator)
