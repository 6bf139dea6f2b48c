"""Which files a run starts from, by their hashes, so that it can be told later whether they are the same; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from dlgsum.config.schema.model import Model
from dlgsum.core.files import sha256_file
from dlgsum.models.choice import TOKENIZER_FILES, ModelChoice

# In the order in which transformers looks for them; the first that there is holds the weights that are loaded.
_WEIGHTS = ("model.safetensors", "model-*.safetensors", "pytorch_model.bin", "pytorch_model-*.bin")
_BESIDES = (
    "config.json", *TOKENIZER_FILES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt",
)  # fmt: skip


@dataclass(frozen=True)
class Base:
    """The checkpoint that a run starts from.

    Attributes:
        checkpoint: a folder or a name on the hub.
        commit: of a name on the hub, the commit of the files in the local cache.
        files: SHA-256 by name, of weights, configuration and tokenizer.
        unknown: why the files are not known; empty where they are.
    """

    checkpoint: str
    commit: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    unknown: str = ""


def read_base(choice: ModelChoice, model: Model) -> Base | None:
    """Hash the files of a checkpoint, about a second for each 500 MB; None for ``kobart_mini``, which starts from none.

    A file that has not changed since is not read again. What cannot be read gives a base without files.
    """
    if choice.kind == "mini":
        return None
    folder, commit = Path(choice.checkpoint).expanduser(), None
    if not folder.is_dir():
        cached = _cached(choice.checkpoint, model.revision)
        if cached is None:
            return Base(choice.checkpoint, unknown="it is not in the local cache")
        folder, commit = cached, cached.name
    weights = next((found for pattern in _WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
    if not model.load_pretrained:
        weights = []  # the seed decides them
    elif not weights:
        return Base(choice.checkpoint, commit, unknown=f"no weights were found in {folder}")
    try:
        paths = [*weights, *(path for name in _BESIDES if (path := folder / name).is_file())]
        files = {path.name: _hash(path, (it := path.stat()).st_size, it.st_mtime_ns) for path in paths}
    except OSError as error:
        return Base(choice.checkpoint, commit, unknown=f"{error.filename} cannot be read: {error.strerror}")
    return Base(choice.checkpoint, commit, files)


def _cached(checkpoint: str, revision: str | None) -> Path | None:
    """Return the folder of a hub checkpoint in the local cache, which has the name of the commit."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(checkpoint, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(path).parent if isinstance(path, str) else None


@lru_cache(maxsize=64)
def _hash(path: Path, size: int, modified: int) -> str:
    return sha256_file(path)
