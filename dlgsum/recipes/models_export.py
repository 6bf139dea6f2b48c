"""Write a registered model to a folder of its own, as it is or as the hub would hold it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dlgsum.config.compose import compose, to_yaml
from dlgsum.config.request import Request
from dlgsum.config.schema import Config, General, Meta
from dlgsum.config.schema.data import Data
from dlgsum.config.schema.metrics import Metrics
from dlgsum.config.schema.model import Model
from dlgsum.core.errors import ConfigError, DataError
from dlgsum.core.files import dumps, new_folder
from dlgsum.models.choice import MINI
from dlgsum.recipes.model_card import LOCAL, Card, Part, hub_name, render
from dlgsum.recipes.models import find_registered
from dlgsum.recipes.models_export_target import checked_target
from dlgsum.tracking.registry import ModelRegistry
from dlgsum.tracking.registry.files import Progress
from dlgsum.tracking.registry.model import RegisteredModel
from dlgsum.tracking.registry.reference import folder_there

Layout = Literal["folder", "hub"]

_CONFIG = "dlgsum.yaml"
_CARD = "README.md"
# What transformers loads; all else in a model's folder is ours, or may run code or hold a state of training.
_HUB_FILES = re.compile(
    r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|config\.json|generation_config\.json"
    r"|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt"
    r"|spiece\.model|tokenizer\.model|sentencepiece\.bpe\.model|chat_template\.jinja"
)
_CLEANED = frozenset({"config.json", "generation_config.json", "tokenizer_config.json"})
_NAMES = frozenset({"_name_or_path", "name_or_path"})  # where it was loaded from
_PATH_KEY = re.compile(r"(^|_)(path|file|dir|folder)s?$")
_ABSOLUTE = re.compile(r"(/|~|[A-Za-z]:[\\/]|\\\\|file:).")
_SETTINGS = {
    "learning_rate": "learning rate", "batch_size": "batch size", "effective_batch_size": "effective batch size",
    "epochs": "epochs", "steps": "steps", "best_step": "step of the best model", "seed": "seed",
}  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """What was written: files by their paths in ``folder``, what of the model's folder was left out, and notes."""

    model: str
    folder: str
    layout: str
    files: list[str]
    size: int
    left_out: list[str]
    notes: list[str]


def export_model(
    registry: ModelRegistry,
    name: str,
    target: Path,
    *,
    layout: Layout = "folder",
    force: bool = False,
    on_progress: Progress | None = None,
) -> Exported:
    """Write a model to a folder; it is there whole, or not at all.

    Args:
        layout: ``folder`` copies every registered file. ``hub`` takes what transformers loads and writes a model card;
            paths, host names and settings that say where things lie stay behind.
        force: replace a folder that is not empty.
        on_progress: called with the bytes copied and all bytes.

    Raises:
        UsageError: there is no such model, its files are gone, or the folder is not empty or cannot be replaced.
        DataError: a file is not what was registered, or the model has no safetensors weights for the hub.
    """
    model = find_registered(registry, name)
    source = folder_there(registry, model)
    target = checked_target(target, source, registry, force=force)
    names = [it for it in model.files if layout == "folder" or _HUB_FILES.fullmatch(it)]
    if layout == "hub" and not any(it.endswith(".safetensors") for it in names):
        raise DataError(f"{model.id} has no weights in safetensors, as the hub's layout wants", "Try --layout folder.")
    total = sum(int(model.files[it]["size"]) for it in names)
    done = 0
    with new_folder(target) as folder:
        for it in names:
            _copy(source / it, folder / it, str(model.files[it]["sha256"]))
            done += int(model.files[it]["size"])
            if on_progress is not None:
                on_progress(done, total)
        notes = _make_public(folder, model, source) if layout == "hub" else []
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        size = sum((folder / it).stat().st_size for it in files)
    left_out = sorted(model.files.keys() - set(files))
    return Exported(model.id, str(target), layout, files, size, left_out, notes)


def _copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a file, and see that what was copied is what was registered."""
    target.parent.mkdir(parents=True, exist_ok=True)
    seen = hashlib.sha256()
    try:
        with source.open("rb") as read, target.open("wb") as write:
            while chunk := read.read(2**20):
                seen.update(chunk)
                write.write(chunk)
    except FileNotFoundError:
        raise DataError(f"{source} is gone", "Look at the model: dlgsum models verify") from None
    if seen.hexdigest() != sha256:
        raise DataError(f"{source} is not what was registered", "Look at the model: dlgsum models verify")
    shutil.copymode(source, target)


def _public_config(config: Config, name: str, checkpoint: str) -> Config:
    """Return a configuration without what is only true, or only of concern, here.

    Only what says how the model was trained and is used is taken over; all else gets its default.

    Args:
        checkpoint: the registered one, which is absolute where it is a folder.
    """
    of_hub = config.data.source == "hub" and hub_name(config.data.dataset or "") is not None
    data = config.data
    return Config(
        meta=Meta(experiment_name=name),
        general=General(seed=config.general.seed),
        model=_public_model(config.model, checkpoint),
        tokenizer=config.tokenizer,
        data=Data(
            source=data.source if of_hub or data.source == "sample" else "auto",
            dataset=data.dataset if of_hub else None,
            dataset_config=data.dataset_config if of_hub else None,
            dataset_revision=data.dataset_revision if of_hub else None,
            columns=data.columns, cleaning=data.cleaning, max_train_samples=data.max_train_samples,
            max_eval_samples=data.max_eval_samples,
        ),
        training=config.training,
        generation=config.generation,
        metrics=_public_metrics(config.metrics),
    )  # fmt: skip


def _public_model(model: Model, checkpoint: str) -> Model:
    names = {it for it in (model.checkpoint, checkpoint) if it not in ("", "auto", MINI)}
    if all(hub_name(it) for it in names):
        return model
    # Not "auto", which would train from other weights without a word.
    return dataclasses.replace(model, checkpoint=LOCAL, revision=None)


def _public_metrics(metrics: Metrics) -> Metrics:
    extra = [name for name in metrics.extra if hub_name(name)]
    best = metrics.best if len(extra) == len(metrics.extra) else "rouge_combined_f1"
    return dataclasses.replace(metrics, extra=extra, best=best)


def _make_public(folder: Path, model: RegisteredModel, source: Path) -> list[str]:
    """Take paths out of the JSON files, and write the configuration and the card; return notes."""
    notes, config = [], None
    for name in _CLEANED:
        path = folder / name
        if not path.is_file():
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        cleaned = _without_paths(content)
        if cleaned != content:
            path.write_text(dumps(cleaned, indent=2) + "\n", encoding="utf-8")
    if (source / _CONFIG).is_file():
        try:
            saved = compose(Request(base=source / _CONFIG, environ={}, secrets={})).config
        except ConfigError as error:
            notes.append(f"{_CONFIG} is left out, as it cannot be read: {error.problems[0]}")
        else:
            config = _public_config(saved, model.name, model.checkpoint)
            (folder / _CONFIG).write_text(to_yaml(config), encoding="utf-8")
    (folder / _CARD).write_text(render(_card(model, config)), encoding="utf-8")
    return notes


def _without_paths(content: Any) -> Any:
    """Return JSON without the values that are paths of this machine.

    By the name of the key: a token such as "/" is a value as well.
    """
    if isinstance(content, dict):
        return {
            key: _without_paths(value)
            for key, value in content.items()
            if key not in _NAMES and not (isinstance(value, str) and _PATH_KEY.search(key) and _ABSOLUTE.match(value))
        }
    return [_without_paths(it) for it in content] if isinstance(content, list) else content


def _card(model: RegisteredModel, config: Config | None) -> Card:
    info = model.training_info
    data, rows = (value if isinstance(value, dict) else {} for value in (info.get("data"), info.get("rows")))
    settings = {words: info[key] for key, words in _SETTINGS.items() if isinstance(info.get(key), (int, float))}
    signatures = {"validation": model.signature, "test": str(info.get("test_signature", ""))}
    return Card(
        name=model.id,
        checkpoint=model.checkpoint,
        metrics=model.performance,
        signatures=signatures,
        data={str(name): Part(rows.get(name), str(print_)) for name, print_ in data.items()},
        dataset=(config.data.dataset or "") if config else "",
        training=settings,
        origin=f"run `{model.experiment_id}`" if model.experiment_id else "",
        reruns="further settings are in `dlgsum.yaml`, without the places of files" if config else "",
        version=str(info.get("dlgsum", "")) or "of unknown version",
    )
