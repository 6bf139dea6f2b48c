"""Stop at the end of a step, with everything saved, when a signal or the time limit asks for it."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dlgsum.core.signals import StopWish

logger = logging.getLogger(__name__)

_WHOLE = 1e-6  # state.epoch is a quotient: 2.0000000001 is the end of the second epoch


class EvaluationStopped(Exception):
    """An evaluation was broken off because the run is to stop; it is done again when the run goes on."""


class Deadline:
    """When to stop so that saving is done in time.

    Args:
        seconds: from ``started`` on; None: no limit.
        started: on the clock of ``time.monotonic``; None: now.
        save_seconds: guess of what a checkpoint takes, used until one was written.
    """

    def __init__(self, seconds: float | None, *, started: float | None = None, save_seconds: float = 5.0) -> None:
        self.seconds = seconds
        self._started = time.monotonic() if started is None else started
        self.save_seconds = save_seconds
        self.step_seconds = 0.0
        self.evaluation_seconds = 0.0

    def reached(self, ahead: float = 0.0) -> bool:
        """Say whether, after ``ahead`` more seconds, there would be no time for a step and a checkpoint."""
        if self.seconds is None:
            return False
        # A slow disk or a long row must not cost the run: half as much again, and the end of the process.
        margin = 1.5 * (self.step_seconds + self.save_seconds) + 2.0
        return time.monotonic() - self._started + ahead + margin >= self.seconds


class StopCleanly(TrainerCallback):
    """Save and stop at the end of the step in which the wish came; all processes decide alike.

    An evaluation that is due then is not begun, and one that runs is broken off: it is *owed*, which the checkpoint
    says, so that the resumed run does it first and no row of the metrics is missing.

    Args:
        agree: any(flag over all processes); called by all of them at the end of each step.
        alone: whether this is the only process. Others could not know that one left an evaluation.
    """

    def __init__(self, wish: StopWish, deadline: Deadline, *, agree: Callable[[bool], bool], alone: bool) -> None:
        self.wish = wish
        self.deadline = deadline
        self.stopped: str | None = None
        self.owes_evaluation = False
        self._agree = agree
        self._alone = alone
        self._training = False
        self._mark = time.monotonic()
        self._evaluating: float | None = None

    @property
    def exit_signal(self) -> int:
        """The signal that the exit code speaks of: SIGINT, or SIGTERM for everything else that stops a run."""
        return int(signal.SIGINT if self.wish.number == signal.SIGINT else signal.SIGTERM)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin to watch."""
        self._training = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Watch no more."""
        self._training = False

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock of a step."""
        self._mark = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop here if it is wished, or if there may be no time for another step."""
        self.deadline.step_seconds = max(self.deadline.step_seconds, time.monotonic() - self._mark)
        self._decide(control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin no evaluation that a stop would break off, and none in the middle of an epoch that a stop ended."""
        complete = abs((state.epoch or 0.0) - round(state.epoch or 0.0)) < _WHOLE
        if self.stopped is not None and not complete:
            control.should_log = control.should_evaluate = control.should_save = False
            return
        self._decide(control)

    def _decide(self, control: TrainerControl) -> None:
        ahead = self.deadline.evaluation_seconds if control.should_evaluate else 0.0
        reason = None
        if self.wish.number is not None:
            reason = signal.Signals(self.wish.number).name
        elif self.deadline.reached(ahead):
            reason = "time limit"
        if self.stopped is None:
            if not self._agree(reason is not None):
                return
            self.stopped = reason or "asked for by another process"
            logger.info("stopping at the end of this step: %s", self.stopped)
        if control.should_evaluate:
            control.should_evaluate = False
            self.owes_evaluation = True
        control.should_save = True
        control.should_training_stop = True

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Break an evaluation off where it may take long and nobody else waits for this process.

        Raises:
            EvaluationStopped: the trainer takes it as a stop.
        """
        if not self._training or not self._alone:
            return
        if self._evaluating is None:
            self._evaluating = time.monotonic()
        if self.wish.number is not None or self.deadline.reached():
            self._evaluating = None
            raise EvaluationStopped

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Remember how long evaluations take; whatever was owed is paid."""
        if self._evaluating is not None:
            took = time.monotonic() - self._evaluating
            self.deadline.evaluation_seconds = max(self.deadline.evaluation_seconds, took)
        self._evaluating = None
        self.owes_evaluation = False

    def came_late(self, step: int, checkpoints: Path) -> None:
        """Grant a wish that came while the last checkpoint was written; all processes ask.

        What follows is the final scoring, which a resumed run does as well. Without a checkpoint of the last step it is
        done now, or the training would be lost.
        """
        wished = self.stopped is None and self._agree(self.wish.number is not None)
        if wished and (checkpoints / f"checkpoint-{step}").is_dir():
            number = self.wish.number
            self.stopped = "asked for by another process" if number is None else signal.Signals(number).name

    def break_off(self, control: TrainerControl) -> None:
        """Turn a broken-off evaluation into a stop with a checkpoint."""
        self.stopped = signal.Signals(self.wish.number).name if self.wish.number is not None else "time limit"
        self.owes_evaluation = True
        control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Begin the clock anew: saving is no part of a step."""
        self._mark = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Return whether an evaluation of this very step is still to be done."""
        return {"owes_evaluation": self.owes_evaluation}

    def restore(self, state: dict[str, Any]) -> None:
        """Remember what is owed."""
        self.owes_evaluation = bool(state["owes_evaluation"])
