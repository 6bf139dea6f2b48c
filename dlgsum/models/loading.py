"""Load the tokenizer and the weights of the model that was chosen."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.schema.model import Model
from dlgsum.core.errors import ConfigError, EnvironmentProblem
from dlgsum.models.choice import TOKENIZER_FILES, ModelChoice, ask_hub, is_cached
from dlgsum.models.problems import explained, not_a_folder

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

_MODEL_TYPES = {"kobart": "bart", "bart": "bart", "t5": "t5", "mt5": "mt5"}
_PATIENCE = 10.0  # seconds
_NAMED_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


class Checkpoint:
    """A pretrained checkpoint, of which the configuration is read at once, and tokenizer and weights when asked for.

    What is complete in the local cache is loaded without asking the hub, so that all runs start from the same
    weights; `model.revision` picks others.

    Attributes:
        config: the configuration of transformers that came with it.

    Raises:
        EnvironmentProblem: the checkpoint is missing, damaged, not an encoder–decoder or needs code of its own.
        ConfigError: it is not of the architecture that was asked for.
    """

    def __init__(self, choice: ModelChoice, model: Model) -> None:
        from transformers import AutoConfig

        self._name = choice.checkpoint
        self._settings = model
        self._source = str(Path(self._name).expanduser())
        not_a_folder(self._name)
        self._common: dict[str, Any] = {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
        if not Path(self._source).is_dir():
            self._common["local_files_only"] = _is_local_only(self._source, model)
        with explained(self._name, "configuration"):
            self.config: PreTrainedConfig = AutoConfig.from_pretrained(self._source, **self._common)
        _check_architecture(choice, self.config)

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer as it is.

        Raises:
            EnvironmentProblem: it is missing or damaged, or needs a package that is not installed.
        """
        with explained(self._name, "tokenizer"):
            return _load_tokenizer(self._source, self.config, self._common)

    def load_model(self) -> Any:
        """Load the model, in float32.

        Safetensors are preferred; a `.bin` file is read by `torch.load(weights_only=True)`, which runs no code from
        it. With `load_pretrained=false` the weights are random, drawn from torch's global random state.

        Raises:
            EnvironmentProblem: the weights are missing, damaged, or those of another model.
        """
        with explained(self._name, "model"):
            if not self._settings.load_pretrained:
                return _random(self.config, self._settings)
            return _load_weights(self._source, self.config, self._common)


def load_pretrained(choice: ModelChoice, model: Model) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load a checkpoint's model and its tokenizer (see ``Checkpoint``)."""
    checkpoint = Checkpoint(choice, model)
    return checkpoint.load_model(), checkpoint.load_tokenizer()


def resize_for(model: Any, tokenizer: PreTrainedTokenizerFast, multiple: int, *, seed: int) -> None:
    """Make the embedding large enough for every token, rounded up to a multiple; it never shrinks.

    New rows are drawn around the mean of the old ones, from `seed`; the caller's random state is left alone.
    """
    import torch

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    highest = max(tokenizer.get_vocab().values(), default=-1) + 1
    size = max(highest, embedding.num_embeddings)
    size = -(-size // multiple) * multiple
    if head is not None and head.weight is not embedding.weight:
        # T5 1.1 and mT5 have an output layer of their own, yet transformers 5 sets "tied" on every T5: resizing
        # would tie, and so overwrite the trained output layer with the embedding.
        model.config.tie_word_embeddings = False
    if size == embedding.num_embeddings:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.resize_token_embeddings(size)


def _is_local_only(checkpoint: str, model: Model) -> bool:
    """Say whether to load without the hub: the cache has everything, or the hub is out of reach.

    Left alone, the hub's client tries an unreachable hub again for every file, which takes half a minute.
    """
    if is_cached(checkpoint, model.revision):
        return True
    # More patience than for model=auto: here nothing else could be used instead.
    status, why = ask_hub(checkpoint, model.revision, max(model.hub_timeout, _PATIENCE))
    if status is None:
        log.warning("only the local cache is searched for '%s': %s", checkpoint, why)
    return status is None


def _check_architecture(choice: ModelChoice, config: PreTrainedConfig) -> None:
    from dlgsum.models.family import family_for

    family_for(config)
    expected = _MODEL_TYPES.get(choice.architecture)
    if expected is not None and config.model_type != expected:
        raise ConfigError(
            [f"model.architecture={choice.architecture}, but '{choice.checkpoint}' is a {config.model_type} model"],
            "Use model.architecture=auto to take it from the checkpoint.",
        )


def _load_tokenizer(source: str, config: PreTrainedConfig, common: dict[str, Any]) -> PreTrainedTokenizerBase:
    """Return the tokenizer as its tokenizer.json says, where there is one."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.utils.hub import cached_file

    where = {key: value for key, value in common.items() if key != "trust_remote_code"}
    missing_is_fine = {
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_gated_repo": False,
    }

    def has(name: str) -> bool:
        return cached_file(source, name, **where, **missing_is_fine) is not None

    if not has("tokenizer.json"):
        if any(has(name) for name in TOKENIZER_FILES[1:]) and find_spec("sentencepiece") is None:
            raise EnvironmentProblem(  # transformers asks for tiktoken then, which would not help
                f"The tokenizer of '{source}' is a SentencePiece model, which needs the package 'sentencepiece'",
                "Install it with: pip install sentencepiece",
            )
        other: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, **common)
        # Without any file transformers 5 makes up an empty vocabulary and says nothing.
        if not any(has(name) for name in type(other).vocab_files_names.values()):
            raise FileNotFoundError("it has no vocabulary file")
        return other
    # AutoTokenizer picks a class by model type, and that class builds a backend of its own make: RoBERTa's
    # bytes for every BART, SentencePiece's for every T5. For KoBART and pko-t5 both are wrong.
    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(source, **where)
    for key in _NAMED_IDS:
        index, attribute = getattr(config, key, None), key.removesuffix("_id")
        if getattr(tokenizer, attribute) is None and isinstance(index, int) and 0 <= index < len(tokenizer):
            setattr(tokenizer, attribute, tokenizer.convert_ids_to_tokens(index))
    return tokenizer


def _load_weights(source: str, config: PreTrainedConfig, common: dict[str, Any]) -> Any:
    """Return the model with the checkpoint's weights, after naming those that did not fit."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    with _no_conversion_request():
        # Master weights in float32, whatever type the file has: training in fp16 fails on fp16 weights.
        model, info = AutoModelForSeq2SeqLM.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, **common
        )
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    if missing:
        if len(missing) >= len(dict(model.named_parameters())):
            raise EnvironmentProblem(
                f"None of the weights in '{source}' belong to a {type(model).__name__}",
                "Use another checkpoint.",
            )
        log.warning(
            "%d weights are MISSING from '%s' and start random, so the model is not the pretrained one: %s",
            len(missing), source, ", ".join(missing),
        )  # fmt: skip
    if unexpected:
        log.warning("%d weights of '%s' are not used: %s", len(unexpected), source, ", ".join(unexpected))
    return model


def _random(config: PreTrainedConfig, model: Model) -> Any:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    trust = model.trust_remote_code
    return AutoModelForSeq2SeqLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.float32, trust_remote_code=trust
    )


@contextmanager
def _no_conversion_request() -> Iterator[None]:
    """Keep transformers from asking a public service to convert a `.bin` checkpoint, in a thread of its own."""
    key = "DISABLE_SAFETENSORS_CONVERSION"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before
