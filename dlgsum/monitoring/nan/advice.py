"""What a bad step means, in sentences, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from dlgsum.monitoring.nan.culprit import Culprit
from dlgsum.monitoring.nan.examine import Examination
from dlgsum.monitoring.nan.figures import Named
from dlgsum.monitoring.nan.step import BadStep

# A gradient norm this many times the median of the steps before is out of the ordinary.
_JUMP = 10.0
_FP16_MOST = 65504


def summary(bad: BadStep, seen: Examination) -> str:
    """Return one sentence for logs and alerts; it holds no text of the rows."""
    told = [found(bad, seen)[0], *([_in_fp32(seen)] if seen.replay.fp32_finite is not None else [])]
    if _to_blame(bad, seen):
        told.append(_rows(bad, seen))
    return f"Loss {bad.loss:.4g}, gradient norm {bad.grad_norm:.4g}: {'; '.join(told)}."


def found(bad: BadStep, seen: Examination) -> list[str]:
    """Return what was found, the most telling first; never empty."""
    replay = seen.replay
    sentences = [f"the batch is at fault: {sentence}" for sentence in seen.bad_ids]
    if seen.parameters:
        sentences.append(f"the weights were not finite before this step: {_names(seen.parameters)}")
    if replay.culprit is not None:
        sentences.append(replay.culprit.what)
    elif replay.reproduced is False:
        sentences.append(
            "the same batches with the same random state and weights are finite when done again, so that neither the "
            "batches nor the model explain it"
        )
    else:
        sentences.append(f"the step was not done again: {replay.why_not}")
    if replay.fp32_finite is not None:
        sentences.append(_in_fp32(seen))
    if replay.rows is not None:
        sentences.append(_rows(bad, seen))
    if seen.gradients:
        sentences.append(f"gradients that are not finite: {_names(seen.gradients)}")
    elif replay.gradients:
        more = f" and {len(replay.gradients) - 3} more" if len(replay.gradients) > 3 else ""
        sentences.append(f"gradients that are not finite when done again: {', '.join(replay.gradients[:3])}{more}")
    if seen.empty_rows:
        sentences.append(f"rows without any source token: {', '.join(seen.empty_rows[:10])}")
    return sentences


def advice(bad: BadStep, seen: Examination) -> tuple[str, ...]:
    """Return what to do, the first thing first; never empty."""
    replay, todo = seen.replay, []
    if seen.bad_ids:
        todo.append("Tokenizer and model do not belong together: give model.checkpoint a folder that has both.")
    if seen.parameters:
        todo.append(
            "Go on from weights that are whole: where the run has a checkpoint `dlgsum resume` takes it, and dlgsum "
            "never saves one with NaN in it. If this is the run's first step, model.checkpoint itself is damaged: load "
            "it anew."
        )
    if replay.fp32_finite and bad.precision == "fp16":
        todo.append(
            f"Values left fp16's range (largest number {_FP16_MOST}): set training.precision=bf16, or fp32 where the "
            "card has no bf16."
        )
    elif replay.fp32_finite:
        todo.append(f"{bad.precision} cannot compute this batch, fp32 can: set training.precision=fp32.")
    elif bad.precision == "fp16" and replay.reproduced is not True:
        todo.append("fp16 overflows easily: set training.precision=bf16, or fp32 where the card has no bf16.")
    jump = grew(bad)
    if jump:
        todo.append(
            f"{jump}: lower training.learning_rate (to a third or a tenth), lengthen the warm-up "
            "(training.warmup_steps), or lower training.max_grad_norm."
        )
    if blamed := _to_blame(bad, seen):
        todo.append(f"Look at {', '.join(blamed[:10])} in rows.jsonl, and at `dlgsum data check`.")
    if replay.culprit is not None and not seen.parameters and not todo:
        todo.append(_last_resort(replay.culprit))
    if replay.reproduced is False:
        todo.append(
            "Resume. If it comes back at other steps, suspect the machine (`dlgsum gpu-check` computes on each "
            "device) or code that changes gradients; training.full_determinism=true makes a GPU repeat itself."
        )
    if seen.empty_rows:
        todo.append("Remove the rows without text: `dlgsum data check` lists them.")
    if replay.reproduced is None and not todo:
        todo.append("Lower training.learning_rate, and train on one process to learn more about the step.")
    return tuple(todo)


def _last_resort(culprit: Culprit) -> str:
    if culprit.overflow:
        return (
            "The weights have grown into a place where this batch cannot be computed: resume with a lower "
            "training.learning_rate, or a lower training.max_grad_norm."
        )
    return (
        f"NaN came at once, of values up to {culprit.largest:.4g}: look into the code of {culprit.module} for 0/0, "
        "inf − inf, or a root or logarithm of a negative number. A lower training.learning_rate helps only if large "
        "values lead there."
    )


def grew(bad: BadStep) -> str:
    """Say by how much loss or gradient grew over the last steps; empty where it did not, or too few are known."""
    for name, label in (("grad_norm", "The gradient norm"), ("loss", "The loss")):
        values = [row[name] for row in bad.history if math.isfinite(row.get(name, math.nan))]
        if len(values) < 4:
            continue
        usual = median(values[:-1])
        factor = _JUMP if name == "grad_norm" else 2.0
        if max(values[-3:]) > factor * usual > 0:
            return f"{label} had grown to {max(values[-3:]):.4g} just before, from {usual:.4g}"
    return ""


def _to_blame(bad: BadStep, seen: Examination) -> tuple[str, ...]:
    """Return the rows that do it alone, unless all of the batch do."""
    replay = seen.replay
    if replay.micro_batch is None or not replay.rows:
        return ()
    return replay.rows if len(replay.rows) < bad.micro_batches[replay.micro_batch].size else ()


def _rows(bad: BadStep, seen: Examination) -> str:
    blamed = _to_blame(bad, seen)
    if blamed:
        return f"rows that do it alone: {', '.join(blamed[:10])}" + (" and more" if len(blamed) > 10 else "")
    return "every row of the batch does it alone" if seen.replay.rows else "no row of the batch does it alone"


def _in_fp32(seen: Examination) -> str:
    return f"the same batch is {'finite' if seen.replay.fp32_finite else 'not finite either'} in fp32"


def _names(named: Sequence[Named]) -> str:
    shown = ", ".join(f"{one.name} ({one.figures})" for one in named[:3])
    return shown + (f" and {len(named) - 3} more" if len(named) > 3 else "")
