"""Build each part of a job from the configuration; the only place where independent parts meet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.compose import to_yaml
from dlgsum.config.schema import Config
from dlgsum.core.device import DevicePlan, plan_device
from dlgsum.core.errors import ConfigError, EnvironmentProblem
from dlgsum.data.sources import Splits, load_splits, resolve_files
from dlgsum.metrics.suite import MetricSuite
from dlgsum.models.choice import ModelChoice, saved_model
from dlgsum.models.family import family_for
from dlgsum.tracking.run import Parent, RunFolder

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

    from dlgsum.data.encode import EncodedSplit
    from dlgsum.data.rows import Split
    from dlgsum.models.encoding import SummaryTokenizer
    from dlgsum.models.loading import Checkpoint
    from dlgsum.training.inference import SummaryGenerator
    from dlgsum.training.trainer import SummarizationTrainer

logger = logging.getLogger(__name__)

NOT_SCORES = ("loss",)  # metrics that may choose the best model although no scorer makes them


def output_dir(config: Config) -> Path:
    """Return the folder of all results."""
    return Path(config.general.output_dir)


def new_run(config: Config, parent: Parent | None = None) -> RunFolder:
    """Make the folder of a new run, with its configuration in it, and what it comes from.

    Raises:
        EnvironmentProblem: nothing can be written there.
    """
    folder = output_dir(config)
    try:
        run = RunFolder.create(folder)
        run.write_config(to_yaml(config))
        if parent is not None:
            run.write_parent(parent)
        run.status("running")
    except OSError as error:
        raise EnvironmentProblem(
            f"No run folder can be made in {folder}: {error.strerror}", "Choose another: general.output_dir=DIR"
        ) from error
    return run


def cache_dir(config: Config) -> Path | None:
    """Return the folder of tokenized rows; None where caching is off."""
    if not config.data.cache:
        return None
    return Path(config.data.cache_dir) if config.data.cache_dir else output_dir(config) / "cache"


def build_splits(config: Config) -> Splits:
    """Read and clean the data files."""
    folder = cache_dir(config)
    spool = None if folder is None else folder / "spool"
    return load_splits(resolve_files(config.data, folder=Path.cwd()), config.data, spool=spool)


def build_plan(config: Config, model: PreTrainedModel) -> DevicePlan:
    """Choose device and precision."""
    training = config.training
    precision = "fp16" if training.fp16 else "bf16" if training.bf16 else training.precision
    unsafe = family_for(model.config).unsafe_in_fp16(model.config)
    plan = plan_device(config.general.device, precision, unsafe_in_fp16=unsafe)
    if "FALLBACK" in plan.reason:
        logger.warning(plan.reason)
    return plan


@dataclass(frozen=True)
class Start:
    """What a run starts from before any weight is loaded: the model's configuration and the tokenizer."""

    config: PreTrainedConfig
    tokenizer: SummaryTokenizer
    checkpoint: Checkpoint | None


def seed_everything(config: Config) -> None:
    """Set every random state, and the deterministic algorithms where they were asked for."""
    from transformers import enable_full_determinism, set_seed

    if config.training.full_determinism:
        enable_full_determinism(config.general.seed)
    else:
        set_seed(config.general.seed)


class _Texts:
    """Every text of a split, one after the other and as often as wanted; never all in memory."""

    def __init__(self, split: Split) -> None:
        self._split = split

    def __iter__(self) -> Iterator[str]:
        for row in self._split.rows:
            yield row.dialogue
            yield from row.references


def build_start(config: Config, choice: ModelChoice, train: Split, saved: Path | None = None) -> Start:
    """Load the tokenizer, with the tags of the training text as tokens of their own.

    kobart_mini's is trained on that text.

    Args:
        saved: a checkpoint of the run that goes on: tokenizer and model are then as they were, whatever the text.
    """
    if saved is not None:
        return _saved_start(config, saved)
    from dlgsum.models import loading, mini
    from dlgsum.models.tokenizer import find_tags, prepare_tokenizer

    settings, texts = config.tokenizer, _Texts(train)
    checkpoint = None if choice.kind == "mini" else loading.Checkpoint(choice, config.model)
    tags = find_tags(texts) if settings.find_tags else []
    if checkpoint is None:
        original: Any = mini.train_tokenizer(texts, vocab_size=config.model.mini.vocab_size)
        prepared = prepare_tokenizer(original, tags=tags, settings=settings)
        longest = max(settings.encoder_max_len, settings.decoder_max_len, config.generation.max_length or 0)
        of_model: Any = mini.build_mini_config(config.model.mini, prepared, max_positions=longest + 2)
    else:
        of_model = checkpoint.config
        _check_lengths(config, of_model)
        prepared = prepare_tokenizer(checkpoint.load_tokenizer(), tags=tags, settings=settings)
    return Start(of_model, summary_tokenizer(config, of_model, prepared), checkpoint)


def _saved_start(config: Config, saved: Path) -> Start:
    from dlgsum.models import loading
    from dlgsum.models.tokenizer import prepare_tokenizer

    choice, settings = saved_model(saved, config.model)
    checkpoint = loading.Checkpoint(choice, settings)
    prepared = prepare_tokenizer(checkpoint.load_tokenizer(), tags=[], settings=config.tokenizer)
    return Start(checkpoint.config, summary_tokenizer(config, checkpoint.config, prepared), checkpoint)


def build_model(config: Config, start: Start) -> PreTrainedModel:
    """Load or make the model, with an embedding for every token."""
    from dlgsum.models import loading, mini

    if start.checkpoint is None:
        of_model: Any = start.config
        model: Any = mini.build_mini_model(of_model, seed=config.general.seed)
    else:
        model = start.checkpoint.load_model()
    multiple = config.tokenizer.pad_to_multiple_of
    loading.resize_for(model, start.tokenizer.hf, multiple, seed=config.general.seed)
    return model  # type: ignore[no-any-return]


def _check_lengths(config: Config, of_model: PreTrainedConfig) -> None:
    """Refuse lengths that the model has no positions for."""
    limit = family_for(of_model).max_positions(of_model)
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


def summary_tokenizer(
    config: Config, of_model: PreTrainedConfig, prepared: PreTrainedTokenizerFast
) -> SummaryTokenizer:
    """Return the encoder and decoder of texts in the layout that the model's family wants."""
    from dlgsum.models.encoding import SummaryTokenizer

    family = family_for(of_model)
    prefix = config.model.prefix if config.model.prefix is not None else family.default_prefix(of_model)
    return SummaryTokenizer(prepared, config.tokenizer, prefix)


def build_generator(
    config: Config, model: PreTrainedModel, tokenizer: SummaryTokenizer, plan: DevicePlan
) -> SummaryGenerator:
    """Join model, tokenizer, collator and decoding settings, all with the same decoder start."""
    from dlgsum.data.collate import SummaryCollator
    from dlgsum.models.encoding import SummaryTokenizer
    from dlgsum.models.generation import apply_generation, build_generation_config
    from dlgsum.training.inference import SummaryGenerator

    start = family_for(model.config).decoder_start_id(model, tokenizer.hf, config.generation)
    # A decoder start that is not marked as a control token must not show in a summary.
    tokenizer = SummaryTokenizer(tokenizer.hf, config.tokenizer, tokenizer.prefix, extra_skip={start})

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
        name: encode_split(split, tokenizer, cache_dir=folder, processes=config.data.processes)
        for name, split in parts.items()
        if split is not None
    }


def build_trainer(
    config: Config, generator: SummaryGenerator, train: EncodedSplit, validation: EncodedSplit, checkpoints: Path
) -> SummarizationTrainer:
    """Join model, rows and metrics in the Trainer; ``checkpoints`` is the folder of the resumable ones."""
    from dlgsum.training.arguments import build_arguments
    from dlgsum.training.trainer import SummarizationTrainer

    return SummarizationTrainer(
        config=config,
        args=build_arguments(config, generator.plan, checkpoints),
        generator=generator,
        suite=build_suite(config, generator.tokenizer.hf.tokenize),
        train_dataset=train,
        eval_dataset=validation,
    )
