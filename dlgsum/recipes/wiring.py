"""Build each part of a job from the configuration; the only place where independent parts meet."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.device import DevicePlan, plan_device
from dlgsum.core.errors import ConfigError
from dlgsum.data.sources import SAMPLE_FOLDER, Splits, load_splits, resolve_files
from dlgsum.data.text_files import check_file
from dlgsum.metrics.suite import MetricSuite, settings_problems
from dlgsum.models.family import family_for
from dlgsum.models.loading import ModelChoice, choose_checkpoint

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

    from dlgsum.data.encode import EncodedSplit
    from dlgsum.models.encoding import SummaryTokenizer
    from dlgsum.tracking.run import RunFolder
    from dlgsum.tracking.stream import Tracker
    from dlgsum.training.inference import SummaryGenerator

logger = logging.getLogger(__name__)

NOT_SCORES = ("loss",)  # metrics that may choose the best model although no scorer makes them


@dataclass(frozen=True)
class Settled:
    """A configuration in which nothing is left open, with the reasons for what was chosen."""

    config: Config
    model: ModelChoice
    reasons: dict[str, str]


def settle(request: Request) -> Settled:
    """Compose the configuration and settle ``model=auto`` and ``data=auto``, without importing torch.

    Where model=auto ends in a model that has its own file under conf/model, that file is composed in its
    place, so that its recommended settings hold.

    Raises:
        ConfigError: with every problem found.
        DataError: a data file does not exist.
    """
    composition = compose(request)
    choice = choose_checkpoint(composition.config.model)
    if composition.groups.get("model") == "auto" and composition.config.model.checkpoint == "auto":
        file = "kobart" if choice.kind == "pretrained" else "kobart_mini"
        composition = compose(dataclasses.replace(request, overrides=[*request.overrides, f"model={file}"]))
    return settle_config(composition.config, choice)


def settle_config(config: Config, choice: ModelChoice | None = None) -> Settled:
    """Settle a configuration that was composed before, such as a saved one."""
    check_names(config)
    choice = choice or choose_checkpoint(config.model)
    files = resolve_files(config.data, folder=Path.cwd())
    model = dataclasses.replace(config.model, checkpoint=choice.checkpoint, architecture=choice.architecture)  # type: ignore[arg-type]
    for path in (files.train, files.validation, files.test):
        if path is not None:
            check_file(path)
    data = config.data
    if any(path is not None and path.parent != SAMPLE_FOLDER for path in (files.train, files.validation, files.test)):
        data = dataclasses.replace(
            data, source="csv", train=str(files.train), validation=str(files.validation),
            test=None if files.test is None else str(files.test),
        )  # fmt: skip
    else:
        data = dataclasses.replace(data, source="sample")
    reasons = {"model": choice.reason, "data": files.reason}
    return Settled(dataclasses.replace(config, model=model, data=data), choice, reasons)


def check_names(config: Config) -> None:
    """Check the names of plugins and metrics, which the schema cannot know.

    Raises:
        ConfigError: an unknown scorer or metric, with the nearest name.
    """
    problems = settings_problems(config.metrics, other_names=NOT_SCORES)
    if problems:
        raise ConfigError(problems)


def output_dir(config: Config) -> Path:
    """Return the folder of all results."""
    return Path(config.general.output_dir)


def cache_dir(config: Config) -> Path | None:
    """Return the folder of tokenized rows; None where caching is off."""
    if not config.data.cache:
        return None
    return Path(config.data.cache_dir) if config.data.cache_dir else output_dir(config) / "cache"


def build_splits(config: Config) -> Splits:
    """Read and clean the data files."""
    return load_splits(resolve_files(config.data, folder=Path.cwd()), config.data)


def build_plan(config: Config, model: PreTrainedModel) -> DevicePlan:
    """Choose device and precision."""
    training = config.training
    precision = "fp16" if training.fp16 else "bf16" if training.bf16 else training.precision
    unsafe = family_for(model.config).unsafe_in_fp16(model.config)
    plan = plan_device(config.general.device, precision, unsafe_in_fp16=unsafe)
    if "FALLBACK" in plan.reason:
        logger.warning(plan.reason)
    return plan


def build_model(config: Config, choice: ModelChoice, texts: list[str]) -> tuple[PreTrainedModel, SummaryTokenizer]:
    """Load or make the model and its tokenizer, with the tags of ``texts`` as tokens of their own.

    Args:
        texts: the training text; kobart_mini's tokenizer is trained on it.
    """
    from dlgsum.models import loading, mini
    from dlgsum.models.tokenizer import find_tags, prepare_tokenizer

    settings = config.tokenizer
    tags = find_tags(texts) if settings.find_tags else []
    if choice.kind == "mini":
        original: Any = mini.train_tokenizer(texts, vocab_size=config.model.mini.vocab_size)
        prepared = prepare_tokenizer(original, tags=tags, settings=settings)
        longest = max(settings.encoder_max_len, settings.decoder_max_len, config.generation.max_length or 0)
        bart = mini.build_mini_config(config.model.mini, prepared, max_positions=longest + 2)
        model: Any = mini.build_mini_model(bart, seed=config.general.seed)
    else:
        model, original = loading.load_pretrained(choice, config.model)
        prepared = prepare_tokenizer(original, tags=tags, settings=settings)
    loading.resize_for(model, prepared, settings.pad_to_multiple_of, seed=config.general.seed)
    _check_lengths(config, model)
    return model, summary_tokenizer(config, model, prepared)


def _check_lengths(config: Config, model: PreTrainedModel) -> None:
    """Refuse lengths that the model has no positions for."""
    limit = family_for(model.config).max_positions(model.config)
    lengths = {
        "tokenizer.encoder_max_len": config.tokenizer.encoder_max_len,
        "tokenizer.decoder_max_len": config.tokenizer.decoder_max_len,
        "generation.max_length": config.generation.max_length or 0,
    }
    problems = [
        f"{key}={length}: this model takes at most {limit} tokens"
        for key, length in lengths.items()
        if limit is not None and length > limit
    ]
    if problems:
        raise ConfigError(problems)


def summary_tokenizer(config: Config, model: PreTrainedModel, prepared: PreTrainedTokenizerFast) -> SummaryTokenizer:
    """Return the encoder and decoder of texts in the layout that the model's family wants."""
    from dlgsum.models.encoding import SummaryTokenizer

    family = family_for(model.config)
    prefix = config.model.prefix if config.model.prefix is not None else family.default_prefix(model.config)
    start = family.decoder_start_id(model, prepared, config.generation)
    return SummaryTokenizer(prepared, config.tokenizer, prefix, extra_skip={start})


def build_generator(
    config: Config, model: PreTrainedModel, tokenizer: SummaryTokenizer, plan: DevicePlan
) -> SummaryGenerator:
    """Join model, tokenizer, collator and decoding settings, all with the same decoder start."""
    from dlgsum.data.collate import SummaryCollator
    from dlgsum.models.generation import apply_generation, build_generation_config
    from dlgsum.training.inference import SummaryGenerator

    start = family_for(model.config).decoder_start_id(model, tokenizer.hf, config.generation)

    def decoding(beams: int | None) -> GenerationConfig:
        return build_generation_config(
            config.generation,
            decoder_max_len=config.tokenizer.decoder_max_len,
            decoder_start_id=start,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
            num_beams=beams,
        )

    final = decoding(None)
    apply_generation(model, final)
    collator = SummaryCollator(
        pad_id=tokenizer.pad_id,
        decoder_start_id=start,
        # Round lengths suit the matrix units of GPUs; on a CPU they are only more padding.
        pad_to_multiple_of=config.tokenizer.pad_to_multiple_of if plan.device == "cuda" else 1,
    )
    return SummaryGenerator(model, tokenizer, collator, final, decoding(config.generation.eval_num_beams), plan)


def build_suite(config: Config, tokenize: Callable[[str], list[str]] | None) -> MetricSuite:
    """Build the metrics; ``tokenize`` serves the scorer `subword`."""
    return MetricSuite(config.metrics, subword_tokenize=tokenize, other_names=NOT_SCORES)


def encode(config: Config, splits: Splits, tokenizer: SummaryTokenizer) -> dict[str, EncodedSplit]:
    """Tokenize every split, or reuse what an earlier run tokenized."""
    from dlgsum.data.encode import encode_split

    folder = cache_dir(config)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {
        name: encode_split(split, tokenizer, cache_dir=folder) for name, split in parts.items() if split is not None
    }


def build_trackers(config: Config, run: RunFolder) -> list[Tracker]:
    """Open the mirrors that the configuration names, and join a W&B run that the user has open.

    One that cannot be opened is left out, loudly.
    """
    opened = getattr(sys.modules.get("wandb"), "run", None) is not None
    if config.wandb.mode == "disabled" and not opened:
        return []
    from dlgsum.tracking.trackers.wandb import WandbTracker

    try:
        return [
            WandbTracker(
                config.wandb,
                run_id=run.id,
                default_name=config.meta.experiment_name,
                folder=run.path,
                config=dataclasses.asdict(config),
            )
        ]
    except Exception as error:  # W&B raises many kinds; none may stop a training run
        logger.warning("W&B is left out of this run (%s); the local record is complete", error)
        return []
