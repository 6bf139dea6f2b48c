"""The batch size of a model that is at hand, without a configuration: for notebooks and scripts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from dlgsum.config.schema import Config
from dlgsum.config.validate import build_config
from dlgsum.core.errors import UsageError
from dlgsum.models.family import family_for
from dlgsum.recipes.batch_goals import Longest, generation_goal, rows_goal
from dlgsum.recipes.batch_size import search
from dlgsum.recipes.probe import Subject
from dlgsum.recipes.probe_process import Probes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from dlgsum.models.encoding import SummaryTokenizer

MOST_ROWS = 4096


def find_optimal_batch_size(
    model: PreTrainedModel,
    device: str | torch.device = "auto",
    safe_factor: float = 0.95,
    *,
    task: Literal["training", "generation"] = "training",
    source_length: int | None = None,
    target_length: int | None = None,
    most: int = MOST_ROWS,
    accumulation: int = 1,
    num_beams: int = 4,
    precision: str = "auto",
    optim: str = "adamw_torch",
    activation_checkpointing: bool = False,
    memory_limit: int | None = None,
) -> int:
    """Return the rows of the largest batch that fits a card, or of the smallest that is fast enough on a CPU.

    The steps are real, of a model with the same configuration and random weights, each in a process of its own. A
    model that lies on the card is moved aside meanwhile, and back.

    Args:
        model: an encoder-decoder model of transformers, such as a BART or a T5.
        device: "auto", "cpu", "mps", "cuda" or a card such as "cuda:1".
        safe_factor: share of the memory free at the start that may be taken, above 0 and at most 1.
        task: "training" counts the optimizer and the backward pass, "generation" beams beside the optimizer.
        source_length: tokens of the longest source; 512, or what the model can read.
        target_length: tokens of the longest summary; 128, or what the model can write.
        most: rows beyond which nobody asks.
        accumulation: batches in one optimizer step.
        num_beams: of the generation.
        precision: "auto", "bf16", "fp16" or "fp32".
        optim: as training.optim.
        activation_checkpointing: as training.activation_checkpointing.
        memory_limit: bytes of a smaller device to plan for.

    Raises:
        ConfigError: a value out of its range.
        UsageError: the model is longer than it can be, or ``most`` is below 1.
        EnvironmentProblem: not even a single row fits, or the device does not exist.
    """
    kind, card = _device(str(device))
    positions = family_for(model.config).max_positions(model.config) or 16_384
    source, target = source_length or min(512, positions), target_length or min(128, positions)
    if max(source, target) > positions or most < 1:
        raise UsageError(
            f"source_length={source}, target_length={target}, most={most}: this model takes at most {positions} "
            "tokens, and there must be at least 1 row"
        )
    config = build_config(
        {
            "general": {"device": kind},
            "tokenizer": {
                "encoder_max_len": max(8, source),
                "decoder_max_len": max(4, target),
                "pad_to_multiple_of": 8,
            },
            "generation": {"num_beams": num_beams},
            "training": {
                "batch_size_memory": safe_factor,
                "precision": precision,
                "optim": optim,
                "activation_checkpointing": activation_checkpointing,
            },
        }
    )
    longest = Longest(source, target, source, target)
    if task == "generation":
        goal = generation_goal(longest, most=most, beams=num_beams, tokens=target)
    else:
        goal = rows_goal(longest, most=most, effective=None, accumulation=accumulation)
    subject = Subject(_with_start(config, model), model.config, _marks(model, config))
    with _moved_aside(model), Probes(subject, card=card) as probes:
        return search(probes, config, [goal], memory_limit=memory_limit).choices[0].value


def _device(name: str) -> tuple[str, str | None]:
    """Return the kind of device, and which cards another process may see so that it takes this one."""
    kind, _, number = name.partition(":")
    if kind != "cuda" or not number:
        return kind, None
    visible = [card for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card]
    if not visible:
        return kind, number
    if not number.isdigit() or int(number) >= len(visible):
        raise UsageError(f"device={name}: CUDA_VISIBLE_DEVICES shows {len(visible)} cards")
    return kind, visible[int(number)]


def _with_start(config: Config, model: PreTrainedModel) -> Config:
    """Let the pad token start the decoder where the model does not say what does."""
    if getattr(model.config, "decoder_start_token_id", None) is not None:
        return config
    return dataclasses.replace(config, generation=dataclasses.replace(config.generation, decoder_start="pad"))


def _marks(model: PreTrainedModel, config: Config) -> SummaryTokenizer:
    """Return a tokenizer that knows the model's marks and no words: only the numbers of tokens count here."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    from dlgsum.recipes.wiring import summary_tokenizer

    rows: Any = model.get_input_embeddings()
    given = [getattr(model.config, f"{name}_token_id", None) for name in ("pad", "eos")]
    ids = [number if isinstance(number, int) else None for number in given]
    free = (number for number in range(rows.num_embeddings) if number not in ids)
    pad, eos = (next(free) if number is None else number for number in ids)
    unknown = next(free)
    words = {"<pad>": pad, "</s>": eos, "<unk>": unknown} if pad != eos else {"</s>": eos, "<unk>": unknown}
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<unk>")),
        pad_token="<pad>" if pad != eos else "</s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    return summary_tokenizer(config, model.config, tokenizer)


@contextmanager
def _moved_aside(model: Any) -> Iterator[None]:
    """Free the card of a model while others are tried on it."""
    import torch

    place = model.device
    if place.type != "cuda":
        yield
        return
    model.to("cpu")
    torch.cuda.empty_cache()
    try:
        yield
    finally:
        model.to(place)
