"""How much disk a run takes, before it starts."""

from __future__ import annotations

import shutil
from pathlib import Path

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import existing_parent

# Bytes of optimizer state for each parameter that is trained. The states are fp32 whatever the precision, as the
# weights are. The 8-bit optimizers of bitsandbytes keep embeddings and small tensors in 32 bits: a third of the
# parameters is taken for that, which is more than KoBART's fifth, and less than mT5's share. Adafactor keeps a row and
# a column of each matrix. SGD is run without momentum.
STATE_BYTES: dict[str, float] = {
    "adamw_torch": 8,
    "adamw_torch_fused": 8,
    "paged_adamw_32bit": 8,
    "adamw_bnb_8bit": 4,
    "adamw_8bit": 4,
    "paged_adamw_8bit": 4,
    "lion_32bit": 4,
    "lion_8bit": 2,
    "adagrad": 4,
    "rmsprop": 4,
    "adafactor": 0.1,
    "sgd": 0,
}


def needed_bytes(
    parameters: int,
    *,
    trainable: int,
    optimizer: str,
    keep_checkpoints: int | None,
    planned_checkpoints: int,
    keep_best: int,
    weight_bytes: int = 4,
    other_bytes: int = 0,
) -> int:
    """Estimate what a run folder takes at its largest, from sizes that are known before training.

    Args:
        parameters: of the model, shared ones once.
        trainable: how many of them the optimizer works on.
        optimizer: transformers' name; one that is not known counts as AdamW.
        keep_checkpoints: ``training.save_total_limit``.
        planned_checkpoints: how many the run will write; 0 for none.
        keep_best: best models that are kept.
        weight_bytes: of one weight on disk; mixed precision keeps 4.
        other_bytes: tokenizer and settings, which lie beside the weights in each checkpoint and each model.
    """
    model = parameters * weight_bytes + other_bytes
    return run_bytes(
        checkpoint=model + round(trainable * STATE_BYTES.get(optimizer, 8)),
        model=model,
        keep_checkpoints=keep_checkpoints,
        planned_checkpoints=planned_checkpoints,
        keep_best=keep_best,
    )


def run_bytes(
    *, checkpoint: int, model: int, keep_checkpoints: int | None, planned_checkpoints: int, keep_best: int
) -> int:
    """Return what a run folder takes at its largest, given the size of one checkpoint and of one model in bytes.

    One more of each than is kept: the new one is written before the old one goes. A checkpoint that broke and was set
    aside is not counted.
    """
    kept = planned_checkpoints if keep_checkpoints is None else min(planned_checkpoints, keep_checkpoints + 1)
    return checkpoint * kept + model * (keep_best + 1)


def check_space(folder: Path, needed: int, *, free: int | None = None) -> None:
    """Refuse to start where the disk cannot take the run; quotas are not seen.

    Args:
        folder: where the run will be; it need not exist yet.
        needed: in bytes.
        free: bytes that are free there; asked of the disk when None.

    Raises:
        EnvironmentProblem: too little is free.
    """
    if free is None:
        free = shutil.disk_usage(existing_parent(folder)).free
    if needed > free:
        raise EnvironmentProblem(
            f"A full run needs {size_in_words(needed)} in {folder}, which has {size_in_words(free)}",
            "Free some, choose another general.output_dir, or lower training.save_total_limit or training.keep_best.",
        )


def bytes_in(folder: Path) -> int:
    """Return the size of all files in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def size_in_words(size: int) -> str:
    """Return a number of bytes as people write it: ``1.4 GiB``, ``23 MiB``."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
