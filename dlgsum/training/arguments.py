"""From the typed configuration to transformers' arguments, through one visible table."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from transformers import Seq2SeqTrainingArguments

from dlgsum.config.schema import Config
from dlgsum.core.device import DevicePlan
from dlgsum.training import parallel

logger = logging.getLogger(__name__)

# Settings of `training` that transformers knows under the same name, with the same meaning.
SAME_NAME = (
    "num_train_epochs", "max_steps", "per_device_train_batch_size", "per_device_eval_batch_size",
    "learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon",
    "optim", "lr_scheduler_type", "activation_checkpointing", "eval_strategy", "eval_steps",
    "save_total_limit", "logging_strategy", "logging_steps", "dataloader_num_workers",
    "full_determinism",
)  # fmt: skip

# Settings of `training` that other parts of dlgsum act on.
OURS = {
    "gradient_accumulation_steps": "gradient_accumulation_steps below",
    "effective_batch_size": "gradient_accumulation_steps below",
    "batching": "data.batching, through the Trainer's train loader",
    "tokens_per_batch": "data.batching, through the Trainer's train loader",
    "label_smoothing_factor": "training.loss",
    "precision": "core.device, then fp16/bf16 below",
    "fp16": "core.device, then fp16/bf16 below",
    "bf16": "core.device, then fp16/bf16 below",
    "warmup_steps": "warmup_steps below",
    "warmup_ratio": "warmup_steps below",
    "save_strategy": "save_strategy below",
    "save_steps": "save_steps below",
    "max_grad_norm": "max_grad_norm below",
    "load_best_model_at_end": "training.best",
    "keep_best": "training.best",
    "early_stopping_patience": "training.best",
    "early_stopping_threshold": "training.best",
    "batch_size_memory": "recipes.batch_size",
    "max_skipped_steps": "training.trainer",
}


def build_arguments(config: Config, plan: DevicePlan, output_dir: Path) -> Seq2SeqTrainingArguments:
    """Return the Trainer's arguments.

    Args:
        output_dir: folder of the resumable checkpoints.
    """
    training = config.training
    save_strategy, save_steps = training.saving
    values: dict[str, Any] = {name: getattr(training, name) for name in SAME_NAME}
    values |= {
        "output_dir": str(output_dir),
        "gradient_accumulation_steps": training.accumulation(parallel.size()),
        # transformers 5 reads a float below 1 as a share of all steps.
        "warmup_steps": training.warmup_steps or training.warmup_ratio or 0,
        # Without clipping transformers would not measure the norm, and nobody would see a NaN in it.
        "max_grad_norm": training.max_grad_norm or float("inf"),
        "save_strategy": save_strategy,
        "save_steps": save_steps or 500,
        "seed": config.general.seed,
        "fp16": plan.precision == "fp16",
        "bf16": plan.precision == "bf16",
        "use_cpu": plan.device == "cpu",
        # One stream of metrics, ours: a second logger beside it loses rows.
        "report_to": "none",
        "disable_tqdm": True,
        # The default hides NaN behind a loss of 0.
        "logging_nan_inf_filter": False,
        # Best model and early stopping are ours (training/best.py): they state what NaN and ties mean.
        "load_best_model_at_end": False,
        "remove_unused_columns": False,
        # Pinning needs a GPU; without one torch warns at every loader.
        "dataloader_pin_memory": plan.device == "cuda",
        "label_names": ["labels"],
        # Every weight takes part in every step; looking for those that do not costs a pass over the graph each time.
        "ddp_find_unused_parameters": False,
        # Not `fsdp`, also where distributed.engine says so: see training/fsdp.py.
    }
    arguments = Seq2SeqTrainingArguments(**values)
    if arguments.n_gpu > 1:
        # Left alone, transformers would spread each batch over all cards in one process (DataParallel), which
        # neither our loss nor our batches are made for.
        logger.warning("%d GPUs are visible; this version trains on one of them, cuda:0", arguments.n_gpu)
        arguments._n_gpu = 1
    return arguments
