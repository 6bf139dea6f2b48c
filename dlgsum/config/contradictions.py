"""What does not fit together between settings that are each valid."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dlgsum.config.schema import Config
from dlgsum.config.schema.metrics import SMALLER_IS_BETTER
from dlgsum.config.schema.model import Model
from dlgsum.config.schema.training import Training


def contradictions(config: Config) -> list[str]:
    """Return what does not fit together between settings that are each valid."""
    training, problems = config.training, []
    if training.warmup_steps is not None and training.warmup_ratio is not None:
        problems.append("training.warmup_steps and training.warmup_ratio are both set; keep one")
    asked = [name for name, on in (("fp16", training.fp16), ("bf16", training.bf16)) if on]
    if len(asked) == 2:
        problems.append("training.fp16 and training.bf16 are both true; keep one")
    if asked and training.precision not in ("auto", asked[0]):
        problems.append(f"training.{asked[0]}=true contradicts training.precision={training.precision}; keep one")
    if "fp16" in (*asked, training.precision) and config.general.device == "cpu":
        problems.append("fp16 needs a GPU, but general.device=cpu; use training.precision=fp32 (or auto)")
    if "fp16" in (*asked, training.precision) and _is_t5(config.model):
        problems.append("T5 overflows in fp16 (NaN); use training.precision=bf16 or fp32")
    problems += [*_effective_batch(training), *_auto(training), *_evaluations(training)]
    if config.metrics.best in SMALLER_IS_BETTER and config.metrics.greater_is_better:
        problems.append(f"metrics.best={config.metrics.best} with metrics.greater_is_better=true keeps the worst model")
    weights = config.metrics.weights
    if weights.rouge1 + weights.rouge2 + weights.rougeL == 0:
        problems.append("metrics.weights are all 0; at least one must be positive")
    monitoring = config.monitoring
    if monitoring.histograms_every and not (monitoring.enabled and "tensorboard" in config.tracking.trackers):
        problems.append(
            f"monitoring.histograms_every={monitoring.histograms_every} needs TensorBoard, which shows histograms; set "
            "tracking.trackers=[tensorboard] (and monitoring.enabled=true), or histograms_every=0"
        )
    generation = config.generation
    trained = config.tokenizer.decoder_max_len
    longest = generation.max_length or trained
    if longest > trained:
        problems.append(
            f"generation.max_length={longest} is above tokenizer.decoder_max_len={trained}: no summary that long is "
            f"trained on; lower the one or raise the other"
        )
    if generation.min_length > longest:
        problems.append(
            f"generation.min_length={generation.min_length} is above the longest summary ({longest} tokens)"
        )
    mini = config.model.mini
    if mini.d_model % mini.heads:
        problems.append(f"model.mini.d_model={mini.d_model} is not a multiple of model.mini.heads={mini.heads}")
    return problems


def _is_t5(model: Model) -> bool:
    # With architecture=auto only the name tells, before anything is loaded: paust/pko-t5-base, google/mt5-small.
    # Only the name itself: /home/t5/mybase may be anything.
    name = model.checkpoint.rstrip("/").rpartition("/")[2].lower()
    named = model.architecture == "auto" and re.search(r"(?<![A-Za-z0-9])m?t5(?![A-Za-z0-9])", name)
    return model.architecture in ("t5", "mt5") or bool(named)


def _effective_batch(training: Training) -> Iterator[str]:
    """Say what keeps batch size times accumulation from being the effective batch that was asked for."""
    wanted, size, steps = (
        training.effective_batch_size, training.per_device_train_batch_size, training.gradient_accumulation_steps
    )  # fmt: skip
    if wanted is None:
        return
    key = f"training.effective_batch_size={wanted}"
    if isinstance(size, str):  # what is found by trying is made to fit
        if steps != 1 and training.batching != "tokens":
            yield f"{key} with batches found by trying leaves no say to gradient_accumulation_steps={steps}; keep one"
    elif training.batching == "tokens":
        yield f"{key} counts rows, but training.batching=tokens fills by tokens; use gradient_accumulation_steps"
    elif wanted % size:
        below, above = wanted // size * size, -(-wanted // size) * size
        near = f"{below} or {above}" if below else f"{above}"
        yield f"{key} is not divisible by training.per_device_train_batch_size={size}; use {near}, or another batch"
    elif steps not in (1, wanted // size):
        yield f"{key} contradicts training.gradient_accumulation_steps={steps} (with batches of {size}); keep one"


def _auto(training: Training) -> Iterator[str]:
    """Say where the batch size that is to be found by trying is not the one that training goes by."""
    rows, tokens = "training.per_device_train_batch_size", "training.tokens_per_batch"
    if training.batching == "tokens" and training.per_device_train_batch_size == "auto":
        yield f"{rows}=auto counts rows, but training.batching=tokens fills by tokens; {tokens}=auto is meant"
    if training.batching != "tokens" and training.tokens_per_batch == "auto":
        yield (
            f"{tokens}=auto goes with training.batching=tokens, but it is {training.batching}; {rows}=auto is meant, "
            "or training.batching=tokens"
        )


def _evaluations(training: Training) -> Iterator[str]:
    """Say where evaluations, checkpoints and what depends on them do not meet."""
    evaluate, (save, kept) = training.eval_strategy, training.saving
    asked = ((evaluate, training.eval_steps, "eval"), (training.save_strategy, training.save_steps, "save"))
    lacking = [name for strategy, steps, name in asked if strategy == "steps" and steps is None]
    for name in lacking:
        yield f"training.{name}_strategy=steps needs training.{name}_steps, such as training.{name}_steps=500"
    if evaluate == "no":
        keys = {
            "early_stopping_patience": training.early_stopping_patience is not None,
            "load_best_model_at_end": training.load_best_model_at_end,
        }
        needing = " and ".join(f"training.{key}" for key, on in keys.items() if on)
        if needing:
            yield (
                f"{needing} cannot do without evaluations, but training.eval_strategy=no; set it to epoch or steps"
                + ("" if keys["early_stopping_patience"] else ", or load_best_model_at_end to false")
            )
    elif training.load_best_model_at_end and save != "no" and not lacking:
        every = training.eval_steps
        if evaluate != save or (evaluate == "steps" and every and kept and kept % every):
            yield (
                f"evaluations ({_rhythm(evaluate, every)}) and checkpoints ({_rhythm(save, kept)}) do not meet: a run "
                "resumed from a checkpoint would not know how good it was; use training.save_strategy=auto, or "
                "load_best_model_at_end=false"
            )


def _rhythm(strategy: str, steps: int | None) -> str:
    return f"every {steps} steps" if strategy == "steps" else "every epoch"
