"""One try of a batch size: the real training step or the real generation, on made-up rows and random weights."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlgsum.config.schema import Config
from dlgsum.recipes import wiring
from dlgsum.recipes.probe_steps import Shape, made_up_rows, take_steps, wait

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from dlgsum.core.device import DevicePlan
    from dlgsum.models.encoding import SummaryTokenizer
    from dlgsum.training.inference import SummaryGenerator

TIMED = 2  # steps, of which the fastest counts: other work on the machine only ever slows one


@dataclass(frozen=True)
class Subject:
    """What is tried: a configuration, the model's own, and a tokenizer; no weights."""

    config: Config
    of_model: PreTrainedConfig
    tokenizer: SummaryTokenizer


@dataclass(frozen=True)
class Look:
    """Asks what the device is and has."""


@dataclass(frozen=True)
class Device:
    """What the device is and has; sizes in bytes.

    Attributes:
        kind: ``cuda``, ``mps`` or ``cpu``.
        name: the card's; the number of threads on a CPU.
        precision: in which training runs.
        parameters: the model's weights.
    """

    kind: str
    name: str
    precision: str
    free: int
    total: int
    parameters: int


@dataclass(frozen=True)
class Training:
    """Asks for optimizer steps.

    Attributes:
        shapes: batches that must fit, one step each; the optimizer's state exists before the first.
        timed: a batch to be timed; None measures no speed.
        accumulation: batches in each optimizer step of the run.
        limit: bytes that there are.
        counting: what the limit is for, see ``training.memory.Meter``; ``tensors`` plays a card on a CPU.
    """

    shapes: tuple[Shape, ...]
    timed: Shape | None
    accumulation: int
    limit: int
    counting: str = "device"


@dataclass(frozen=True)
class Generation:
    """Asks for one batch of generated summaries, beside an optimizer's state as during training.

    Attributes:
        shape: its target is the longest reference, of which the loss is computed.
        limit: bytes that there are.
        counting: as in ``Training``.
    """

    shape: Shape
    limit: int
    counting: str = "device"


Task = Look | Training | Generation


@dataclass(frozen=True)
class Outcome:
    """How a try went.

    Attributes:
        fits: False where memory ran out.
        note: the error's first line where it does not fit.
        device: the answer to ``Look``.
    """

    fits: bool
    peak: int = 0
    tokens_per_second: float = 0.0
    note: str = ""
    device: Device | None = None


def run_task(subject: Subject, task: Task) -> Outcome:
    """Do what a task asks, in this process; memory that runs out is an outcome, everything else an error."""
    from dlgsum.training.memory import is_out_of_memory, metered

    model = _random_model(subject)
    plan = wiring.build_plan(subject.config, model)
    if isinstance(task, Look):
        return Outcome(True, device=_look(model, plan))
    speed, note, peak = 0.0, "", 0
    try:
        with metered(plan.device, task.limit, simulated=task.counting == "tensors") as meter:
            try:
                meter.count(model)
                speed = _work(subject, model, plan, task)
            finally:
                peak = meter.peak
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        note = str(error).partition("\n")[0] or type(error).__name__
    if not note and peak > task.limit:
        note = "more memory than there is to take"
    return Outcome(not note, peak, 0.0 if note else speed, note)


def _random_model(subject: Subject) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    from dlgsum.models import loading

    settings = subject.config
    wiring.seed_everything(settings)
    model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(  # type: ignore[no-untyped-call]
        subject.of_model, dtype=torch.float32, trust_remote_code=settings.model.trust_remote_code
    )
    multiple = settings.tokenizer.pad_to_multiple_of
    loading.resize_for(model, subject.tokenizer.hf, multiple, seed=settings.general.seed)
    return model


def _look(model: PreTrainedModel, plan: DevicePlan) -> Device:
    import torch

    from dlgsum.training.memory import free_memory

    memory = free_memory(plan.device)
    name = f"{torch.get_num_threads()} threads" if plan.device == "cpu" else plan.device
    if plan.device == "cuda":
        name = torch.cuda.get_device_name()
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return Device(plan.device, name, plan.precision, memory.free, memory.total, size)


def _work(subject: Subject, model: PreTrainedModel, plan: DevicePlan, task: Training | Generation) -> float:
    """Do the steps, and return the tokens per second of what was timed; 0 where nothing was."""
    longest = subject.config.generation.max_length or subject.config.tokenizer.decoder_max_len
    # No summary may end early: the worst case is the longest.
    generation = dataclasses.replace(subject.config.generation, min_length=longest)
    config = dataclasses.replace(subject.config, generation=generation)
    generator = wiring.build_generator(config, model, subject.tokenizer, plan)
    with tempfile.TemporaryDirectory(prefix="dlgsum-probe-") as folder:
        if isinstance(task, Training):
            return _train(config, generator, task, Path(folder))
        few = Shape(1, min(8, task.shape.source), min(8, task.shape.target))
        take_steps(config, generator, [few], batches=1, folder=Path(folder))
    rows = made_up_rows(task.shape, len(subject.tokenizer.hf))
    beams = max(generator.generation, generator.evaluation, key=lambda decoding: decoding.num_beams or 1)
    started = time.perf_counter()
    generator.run(rows, batch_size=task.shape.rows, generation=beams, in_halves=False)
    wait(plan.device)
    return task.shape.rows * longest / (time.perf_counter() - started)


def _train(config: Config, generator: SummaryGenerator, task: Training, folder: Path) -> float:
    """Take a small step, so that the optimizer has its state, then those asked for."""
    on_card = generator.plan.device == "cuda"
    # On a card a second step costs little, finds the blocks of the first as they were left, and can be timed.
    worst = [shape for shape in task.shapes for _ in range(2 if on_card else 1)]
    if task.timed is not None:
        timed, steps = range(1, 1 + TIMED), [task.timed] * TIMED + worst
    else:
        timed, steps = range(2, 3) if on_card else range(0), worst
    small = dataclasses.replace(steps[0], rows=1)
    # The second batch of a step finds the gradients of the first, and so do all later ones.
    batches = min(task.accumulation, 2)
    took = take_steps(config, generator, [small, *steps], batches=batches, folder=folder)
    if not timed:
        return 0.0
    shape = steps[timed.start - 1]
    of_batch = min(took.batches[timed.start * batches : timed.stop * batches])
    update = max(0.0, min(took.steps[timed.start : timed.stop]) - batches * of_batch)
    tokens = shape.rows * (shape.source + shape.target) * task.accumulation
    return tokens / (of_batch * task.accumulation + update)
