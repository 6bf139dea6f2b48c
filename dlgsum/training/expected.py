"""What the learning rate should be, from the settings alone: to compare with what the optimizer really uses."""

from __future__ import annotations

import warnings

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainingArguments, get_scheduler


class ExpectedLearningRate:
    """The learning rate of each update by the configured schedule.

    Built from the arguments and not from the trainer's scheduler: one that was restored wrongly, stepped twice or
    replaced by a callback must not be its own witness.

    Args:
        steps: optimizer steps of the whole run.

    Attributes:
        peak: the learning rate that the factors are of.
    """

    def __init__(self, args: TrainingArguments, steps: int) -> None:
        self.peak = args.learning_rate
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a scheduler without steps of its optimizer
            scheduler = get_scheduler(
                args.lr_scheduler_type,
                optimizer=optimizer,
                num_warmup_steps=args.get_warmup_steps(steps),
                num_training_steps=steps,
                scheduler_specific_kwargs=args.lr_scheduler_kwargs,  # type: ignore[arg-type]
            )
        self._factor = scheduler.lr_lambdas[0] if isinstance(scheduler, LambdaLR) else None

    def share(self, updates: int) -> float | None:
        """Return the factor of the peak after so many updates, as the next one uses it.

        None for a schedule that depends on the scores.
        """
        return None if self._factor is None else float(self._factor(updates))
