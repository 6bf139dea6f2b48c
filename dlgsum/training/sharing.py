"""The Trainer of transformers for a model that is shared out among processes, where ``distributed.engine=fsdp``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate
from torch.nn.utils import clip_grads_with_norm_
from transformers import Seq2SeqTrainer

from dlgsum.config.schema import Config
from dlgsum.monitoring.probes.gradients import GradientNorms, GradientProbe
from dlgsum.training import fsdp
from dlgsum.training.inference import SummaryGenerator
from dlgsum.training.this_step import ThisStep

logger = logging.getLogger(__name__)


class SharingTrainer(Seq2SeqTrainer):
    """Seq2SeqTrainer that shares its model out before training, if it is asked to, and saves it whole.

    Its checkpoints have the files of a single process, so that any number of processes and either engine can go on
    from them.

    Attributes:
        shared_out: whether each process holds only a part of the weights now.
        gradient_norms: of the step at hand, before clipping.
    """

    generator: SummaryGenerator
    this_step: ThisStep
    gradient_norms: GradientNorms | None = None

    def __init__(self, *, config: Config, **named: Any) -> None:
        args = named["args"]
        self.shared_out = False
        self._to_share = config.distributed.engine == "fsdp" and args.world_size > 1
        if self._to_share:
            fsdp.check_optimizer(config.training.optim)
        elif config.distributed.engine == "fsdp":
            logger.warning("distributed.engine=fsdp: there is one process only, so that nothing is shared out")
        super().__init__(**named)

    @cached_property
    def gradients(self) -> GradientProbe:
        """What measures the gradients; made when training has begun, as sharing a model out replaces its weights."""
        return GradientProbe(self.generator.model)

    def weights(self) -> dict[str, Tensor] | None:
        """Gather the whole weights on the CPU of the first process; every process calls this.

        Returns:
            None where each process has them anyway; empty in all but the first process.
        """
        if not self.shared_out:
            return None
        model: Any = self.model
        return fsdp.whole_weights(model, device=torch.device("cpu"), keep=self.is_world_process_zero())

    def same_passes(self, inputs: dict[str, Any], parts: int) -> dict[str, Any]:
        """Return a micro-batch that every process does in the same number of passes, whatever its number of rows."""
        return fsdp.fill_up(inputs, parts) if self.shared_out else inputs

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write a model folder; every process calls this."""
        if not self.shared_out:
            super().save_model(output_dir, _internal_call)
            return
        weights = self.weights()
        if self.is_world_process_zero():
            self._save(output_dir, state_dict=weights)

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        """Move the model; not where it is to be shared out, as there may be no room for all of it."""
        if not self._to_share:
            super()._move_model_to_device(model, device)

    def _prepare_for_training(self, *arguments: Any, **named: Any) -> Any:
        """Share the model out; before the optimizer is made, which must know the parts."""
        if self._to_share and not self.shared_out:
            model = self.generator.model
            copies = fsdp.WholeCopies(model)
            dtype = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else None
            fsdp.share_out(model, self.args.device, dtype)
            self.generator = dataclasses.replace(self.generator, whole=copies.whole)
            self.shared_out = True
            # So says transformers of a model that sees to its weights and gradients itself: accelerate then adds
            # autocast and leaves the rest alone.
            self.is_distributed_loading_by_transformers = True
        return super()._prepare_for_training(*arguments, **named)  # type: ignore[no-untyped-call]

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        """Divide the gradients after each micro-batch; until a step's last one, each process would hold all of them."""
        yield

    def measure_gradients(self) -> tuple[float, float]:
        """Return the step's loss and the norm of its whole gradient, over all processes; every process calls this.

        Both are brought to the host together, as waiting for a card is what costs. The norms of the single weights
        stay on the device, in ``gradient_norms``. transformers would clip at once, and a gradient multiplied by a norm
        of NaN says no more where the NaN came from.
        """
        self.accelerator.unscale_gradients()
        self.gradient_norms = self.gradients.norms()
        loss = self.this_step.local_loss()
        if self.args.world_size > 1:
            loss = self.accelerator.reduce(loss, reduction="mean")
        both = torch.stack([loss, self.gradient_norms.total.to(loss.device, torch.float32)]).tolist()
        return both[0], both[1]

    def clip_gradients(self) -> None:
        """Scale the gradients down to ``max_grad_norm``, where their norm is above it."""
        assert self.gradient_norms is not None
        total, limit = self.gradient_norms.total, self.args.max_grad_norm
        if self.this_step.grad_norm < 0.99 * limit:
            return  # the factor would be 1
        parameters = [weight for weight in self.generator.model.parameters() if weight.grad is not None]
        if self.shared_out:
            mesh = next(weight.grad.device_mesh for weight in parameters if isinstance(weight.grad, DTensor))
            total = DTensor.from_local(total, mesh, [Replicate()], run_check=False)
        clip_grads_with_norm_(parameters, limit, total)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write ``optimizer.pt`` and ``scheduler.pt``; every process calls this."""
        if not self.shared_out:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        assert self.optimizer is not None and self.lr_scheduler is not None
        first = self.is_world_process_zero()
        state = fsdp.whole_optimizer(self.optimizer.state_dict(), keep=first)
        if first:
            torch.save(state, Path(output_dir) / "optimizer.pt")
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Read ``optimizer.pt`` and ``scheduler.pt``, of any number of processes; the whole stays on the disk."""
        if not self.shared_out or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        assert self.optimizer is not None and self.lr_scheduler is not None
        folder = Path(checkpoint)
        state = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True, mmap=True)
        self.optimizer.load_state_dict(fsdp.part_of_optimizer(state, self.optimizer))
        self.lr_scheduler.load_state_dict(torch.load(folder / "scheduler.pt", weights_only=True))
