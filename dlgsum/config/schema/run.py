"""What a run is called, where it writes, and how many processes it has."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from dlgsum.config.schema.options import RULES, option


@dataclass(frozen=True, kw_only=True, config=RULES)
class Meta:
    """Names for people."""

    experiment_name: str = option("dialogue_summarization", "Name of the experiment.", min_length=1)
    version: str = option("1.0", "Version of the experiment.")
    description: str = option("", "What this experiment is about.")


@dataclass(frozen=True, kw_only=True, config=RULES)
class General:
    """Seed, device and output folder."""

    seed: int = option(42, "Seed of everything random.", ge=0, lt=2**32)
    model_name: str | None = option(None, "The same as model.checkpoint, which wins where both are set.")
    output_dir: str = option("./outputs", "Folder of all results.", min_length=1)
    device: Literal["auto", "cuda", "mps", "cpu"] = option("auto", "Device; auto: CUDA, else Apple MPS, else CPU.")


@dataclass(frozen=True, kw_only=True, config=RULES)
class Distributed:
    """Several processes: how the model is spread, and how long a silent one is waited for."""

    engine: Literal["ddp", "fsdp"] = option(
        "ddp", "ddp: a whole model in each process; fsdp: weights, gradients and optimizer shared out among them."
    )
    timeout: int = option(1800, "Seconds that a process waits for the others before it gives up.", ge=1)
    hang_timeout: int = option(
        900, "Seconds without any progress after which `--nproc` starts all processes again; 0: never.", ge=0
    )
    max_relaunches: int = option(
        3, "How often `--nproc` starts all processes again without a new checkpoint in between.", ge=0
    )
