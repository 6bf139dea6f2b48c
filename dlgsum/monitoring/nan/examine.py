"""Look at everything that a bad step left: weights, gradients, inputs, and the same passes once more."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import nn

from dlgsum.monitoring.nan.culprit import Culprit, find_culprit
from dlgsum.monitoring.nan.figures import Named, not_finite
from dlgsum.monitoring.nan.folder import in_words
from dlgsum.monitoring.nan.step import IGNORED, BadStep, Loss, MicroBatch
from dlgsum.monitoring.nan.tracing import Trace, trace

# Each row costs a pass of its own.
_MOST_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What came of doing the micro-batches again.

    Attributes:
        reproduced: whether one of them was not finite again; None where it could not be tried.
        why_not: why it could not be tried.
        micro_batch: which one was not finite, from 0; None: none.
        culprit: where it began.
        trace: the pass of that micro-batch; of the last one where all were finite.
        gradients: names of the weights whose gradients were not finite in that pass.
        fp32_finite: whether the same micro-batch is finite in fp32; None where that was not tried.
        rows: names of the rows that are not finite alone; None where that was not tried.
    """

    reproduced: bool | None
    why_not: str = ""
    micro_batch: int | None = None
    culprit: Culprit | None = None
    trace: Trace | None = None
    gradients: tuple[str, ...] = ()
    fp32_finite: bool | None = None
    rows: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Examination:
    """All that was found.

    Attributes:
        parameters: weights that are not finite; the optimizer has not touched them in this step.
        gradients: gradients that are not finite, summed over the step's micro-batches.
        bad_ids: sentences about token ids that the model does not have.
        empty_rows: names of rows whose source is all padding.
    """

    parameters: list[Named] = field(default_factory=list)
    gradients: list[Named] = field(default_factory=list)
    bad_ids: list[str] = field(default_factory=list)
    empty_rows: list[str] = field(default_factory=list)
    replay: Replay

    @property
    def culprit(self) -> str:
        """The first module whose computation was not finite, else the owner of the first bad weight, else empty."""
        if self.replay.culprit is not None:
            return self.replay.culprit.module
        return self.parameters[0].name.rpartition(".")[0] if self.parameters else ""


def examine(model: nn.Module, bad: BadStep, loss: Loss, *, rerun: bool) -> Examination:
    """Examine a model whose gradients are those of a bad step; it is left as it was.

    Args:
        loss: as in training.
        rerun: whether the micro-batches are done again.
    """
    parameters = not_finite(model.named_parameters())
    bad_ids = _bad_ids(model, bad)
    if not rerun:
        replay = Replay(reproduced=None, why_not="several processes trained together; one alone cannot do its part")
    elif not bad.micro_batches:
        replay = Replay(reproduced=None, why_not="its batches are not known")
    elif bad_ids:
        # On a GPU such an id ends in an assertion, after which the process cannot use the GPU any more.
        replay = Replay(reproduced=None, why_not="the batch has token ids that the model does not have")
    else:
        replay = _replay(model, bad, loss, damaged=bool(parameters))
    return Examination(
        parameters=parameters,
        gradients=not_finite((name, weight.grad) for name, weight in model.named_parameters()),
        bad_ids=bad_ids,
        empty_rows=_empty_rows(bad),
        replay=replay,
    )


def _replay(model: nn.Module, bad: BadStep, loss: Loss, *, damaged: bool) -> Replay:
    try:
        return _try(model, bad, loss, damaged=damaged)
    except Exception as error:
        why = in_words(error)
    return Replay(reproduced=None, why_not=why)


def _try(model: nn.Module, bad: BadStep, loss: Loss, *, damaged: bool) -> Replay:
    found: Trace | None = None
    for number, batch in enumerate(bad.micro_batches):
        found = trace(model, batch, bad, loss, bad.precision)
        if found.finite:
            continue
        fp32 = None
        if bad.precision != "fp32":
            fp32 = trace(model, batch, bad, loss, "fp32", modules=False).finite
        return Replay(
            reproduced=True,
            micro_batch=number,
            culprit=find_culprit(model, found),
            trace=found,
            gradients=tuple(event.weight for event in found.gradients),
            fp32_finite=fp32,
            rows=None if damaged else _rows_alone(model, batch, bad, loss),
        )
    return Replay(reproduced=False, trace=found)


def _rows_alone(model: nn.Module, batch: MicroBatch, bad: BadStep, loss: Loss) -> tuple[str, ...] | None:
    if not 1 < batch.size <= _MOST_ROWS:
        return None
    passes = (trace(model, batch.only(row), bad, loss, bad.precision, modules=False) for row in range(batch.size))
    return tuple(batch.name(row) for row, one in enumerate(passes) if not one.finite)


def _bad_ids(model: nn.Module, bad: BadStep) -> list[str]:
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    size = getattr(embedding, "num_embeddings", math.inf)
    found = []
    for number, batch in enumerate(bad.micro_batches):
        for name in ("input_ids", "decoder_input_ids", "labels"):
            ids = batch.inputs.get(name)
            if ids is None:
                continue
            wrong = (ids < 0) | (ids >= size)
            if name == "labels":
                wrong &= ids != IGNORED
            rows = torch.nonzero(wrong.any(dim=1)).flatten().tolist()
            if rows:
                worst = ids[wrong].abs().max().item()
                found.append(
                    f"{name} of {', '.join(batch.name(row) for row in rows[:5])} (micro-batch {number + 1}) hold token "
                    f"ids outside of 0 to {size - 1}, such as {worst}"
                )
    return found


def _empty_rows(bad: BadStep) -> list[str]:
    found = []
    for batch in bad.micro_batches:
        mask = batch.inputs.get("attention_mask")
        if mask is not None:
            rows = torch.nonzero(~mask.bool().any(dim=1)).flatten().tolist()
            found += [batch.name(row) for row in rows]
    return found
