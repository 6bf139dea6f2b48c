"""The training run, under transformers' own current names wherever there is one."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from dlgsum.config.schema.options import RULES, option
from dlgsum.core.errors import ConfigError

Strategy = Literal["no", "epoch", "steps"]
Auto = Literal["auto"]

# transformers' own names, written out so that a typo is found before transformers is imported; a test compares them.
# Left out: reduce_lr_on_plateau and greedy, which need a metric at every step.
Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
    "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay",
]  # fmt: skip
# The optimizers that torch itself brings, and the 8-bit ones of bitsandbytes.
Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop",
    "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "lion_8bit", "lion_32bit",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, config=RULES)
class Training:
    """Optimisation, batching, evaluation and checkpoints."""

    num_train_epochs: float = option(3.0, "Passes over the training rows.", gt=0)
    max_steps: int = option(-1, "Stop after this many optimizer steps; -1: by epochs.", ge=-1)
    per_device_train_batch_size: PositiveInt | Auto = option(
        16, "Rows in a training batch of each process (batching=samples or random); auto: found by trying."
    )
    per_device_eval_batch_size: PositiveInt | Auto = option(
        32, "Rows in an evaluation or generation batch; auto: found by trying."
    )
    gradient_accumulation_steps: int = option(1, "Batches that make one optimizer step.", ge=1)
    effective_batch_size: int | None = option(
        None, "Rows in one optimizer step, reached by accumulation; null: as gradient_accumulation_steps says.", ge=1
    )
    batching: Literal["samples", "tokens", "random"] = option(
        "samples",
        "samples: rows of like length together; tokens: filled to a token budget; random: plain shuffling.",
    )
    tokens_per_batch: Annotated[int, Field(ge=64)] | Auto = option(
        8192, "Source and target tokens of a batch, padding included (batching=tokens); auto: found by trying."
    )
    batch_size_memory: float = option(
        0.95, "Share of the memory free at the start that batch sizes found by trying may take.", gt=0, le=1
    )
    learning_rate: float = option(5e-5, "Peak learning rate.", gt=0, lt=10)
    weight_decay: float = option(0.01, "Weight decay, not applied to biases and norms.", ge=0, lt=1)
    adam_beta1: float = option(0.9, "Adam beta1.", ge=0, lt=1)
    adam_beta2: float = option(0.999, "Adam beta2.", ge=0, lt=1)
    adam_epsilon: float = option(1e-8, "Adam epsilon.", gt=0)
    max_grad_norm: float = option(1.0, "Clip gradients to this norm; 0: no clipping.", ge=0)
    optim: Optimizer = option("adamw_torch", "Optimizer, by transformers' name.")
    lr_scheduler_type: Schedule = option("linear", "Learning-rate schedule, by transformers' name.")
    warmup_steps: float | None = option(None, "Warm-up: steps, or a share of all steps when below 1.", ge=0)
    warmup_ratio: float | None = option(
        None, "Warm-up as a share of all steps; the older name of warmup_steps.", ge=0, lt=1
    )
    label_smoothing_factor: float = option(0.0, "Label smoothing.", ge=0, lt=1)
    precision: Literal["auto", "bf16", "fp16", "fp32"] = option(
        "auto", "auto: bf16 where supported, else fp16 on CUDA, else fp32."
    )
    fp16: bool | None = option(None, "true: the same as precision=fp16; null: no say.")
    bf16: bool | None = option(None, "true: the same as precision=bf16; null: no say.")
    activation_checkpointing: bool = option(False, "Compute activations twice to save memory.")
    eval_strategy: Strategy = option("epoch", "When to evaluate.")
    eval_steps: int | None = option(None, "Steps between evaluations (eval_strategy=steps).", ge=1)
    save_strategy: Literal["auto", "no", "epoch", "steps"] = option(
        "auto", "When to write a resumable checkpoint; auto: at each evaluation, without any at each epoch."
    )
    save_steps: int | None = option(None, "Steps between checkpoints (save_strategy=steps).", ge=1)
    save_total_limit: int | None = option(2, "Checkpoints to keep; null: all.", ge=1)
    logging_strategy: Literal["epoch", "steps"] = option("steps", "When to record the training loss.")
    logging_steps: int = option(10, "Steps between records of the training loss.", ge=1)
    load_best_model_at_end: bool = option(True, "Finish with the best model rather than the last one.")
    keep_best: int = option(1, "How many of the best models to keep.", ge=1, le=100)
    early_stopping_patience: int | None = option(
        None, "Evaluations without improvement before stopping; null: never.", ge=1
    )
    early_stopping_threshold: float = option(0.0, "Improvement that counts as one.", ge=0)
    max_skipped_steps: int = option(
        10,
        "Steps in a row that are skipped because the gradient is NaN or infinite before the run stops; 0: stop at the "
        "first.",
        ge=0,
    )
    dataloader_num_workers: int = option(0, "Processes that prepare batches.", ge=0, le=64)
    full_determinism: bool = option(False, "Same results bit for bit on the same machine; slower on GPUs.")

    @property
    def unsettled(self) -> bool:
        """Whether a batch size is still to be found by trying."""
        return "auto" in (self.per_device_train_batch_size, self.per_device_eval_batch_size, self.tokens_per_batch)

    @property
    def train_rows(self) -> int:
        """Rows in a training batch of each process; `auto` must have been settled."""
        return _settled("per_device_train_batch_size", self.per_device_train_batch_size)

    @property
    def eval_rows(self) -> int:
        """Rows in an evaluation batch; `auto` must have been settled."""
        return _settled("per_device_eval_batch_size", self.per_device_eval_batch_size)

    @property
    def token_budget(self) -> int:
        """Tokens in a batch of ``batching=tokens``; `auto` must have been settled."""
        return _settled("tokens_per_batch", self.tokens_per_batch)

    def accumulation(self, processes: int = 1) -> int:
        """Batches of each process that make one optimizer step."""
        if self.effective_batch_size is None:
            return self.gradient_accumulation_steps
        return max(1, self.effective_batch_size // (self.train_rows * processes))

    def for_processes(self, processes: int) -> Training:
        """Return the settings of each of several processes, which share the effective batch where it is set.

        Raises:
            ConfigError: the effective batch cannot be divided among them.
        """
        wanted = self.effective_batch_size
        if processes == 1 or wanted is None:
            return self
        if wanted % processes:
            problem = f"training.effective_batch_size={wanted} cannot be divided among {processes} processes"
            raise ConfigError([f"{problem}; use {wanted // processes * processes or processes}"])
        share = wanted // processes
        rows = max(size for size in range(1, self.train_rows + 1) if share % size == 0)
        return dataclasses.replace(self, per_device_train_batch_size=rows)

    @property
    def saving(self) -> tuple[Strategy, int | None]:
        """When checkpoints are written: the strategy, and the steps between them where it counts steps."""
        if self.save_strategy != "auto":
            return self.save_strategy, self.save_steps
        return ("epoch", None) if self.eval_strategy == "no" else (self.eval_strategy, self.eval_steps)


def _settled(name: str, value: int | Auto) -> int:
    if isinstance(value, str):
        raise ValueError(f"training.{name}={value} is not settled yet; recipes/batch_size.py does it before training")
    return value
