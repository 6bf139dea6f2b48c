"""Old keys of the training run whose meaning takes more than a new name."""

from __future__ import annotations

import re
from typing import Any

from dlgsum.config.legacy_draft import Draft, is_t5, number, truth

_STEPS = 500  # transformers' default for evaluations and checkpoints that are counted in steps
_METRICS = {
    "loss": "loss", "rouge1": "rouge1_f1", "rouge2": "rouge2_f1", "rougel": "rougeL_f1", "bleu": "bleu",
    "rouge": "rouge_combined_f1", "rougecombined": "rouge_combined_f1", "rougeavg": "rouge_combined_f1",
    "rougemean": "rouge_combined_f1", "avgrouge": "rouge_combined_f1", "meanrouge": "rouge_combined_f1",
}  # fmt: skip


def training_rules(draft: Draft) -> None:
    """Settle device, precision, optimizer, order of rows, evaluations, best model and early stopping."""
    for rule in (_device, _precision, _optimizer, _warmup, _order, _batch_size, _rhythm, _best, _stopping, _screen):
        rule(draft)


def _device(draft: Draft) -> None:
    for name, target in (("training.no_cuda", "cpu"), ("training.use_cpu", "cpu"), ("training.use_mps_device", "mps")):
        if draft.has(name):
            wanted = truth(draft.value(name))
            if wanted:
                draft.carry(name, "general.device", target)
            elif wanted is False or draft.value(name) is None:
                draft.cover(name, "general.device=auto takes a GPU where there is one")
            else:
                draft.lose(name, "expected true or false; set general.device=cpu or auto")
    for name in ("general.device", "training.device"):
        if not draft.has(name):
            continue
        value = draft.value(name)
        kind = re.fullmatch(r"(cuda|gpu)(:(\d+))?", str(value).strip().lower())
        card = f"card {kind[3]}: set CUDA_VISIBLE_DEVICES={kind[3]}" if kind and kind[3] else ""
        draft.carry(name, "general.device", "cuda" if kind else value, card)


def _precision(draft: Draft) -> None:
    half, brain = (truth(draft.value(f"training.{name}")) for name in ("fp16", "bf16"))
    if draft.has("training.precision"):
        return  # today's key beside the older ones: validation says whether they agree
    if brain:
        draft.carry("training.bf16", "training.precision", "bf16")
    if half and brain:
        draft.lose("training.fp16", "bf16 is true as well and is kept: it has the wider range")
    elif half and draft.legacy and draft.settings.get("general.device") == "cpu":
        draft.lose(
            "training.fp16", "needs a GPU, and the file asks for the CPU; training.precision=auto takes fp32 there"
        )
    elif half and draft.legacy and is_t5(draft):
        draft.lose("training.fp16", "T5 overflows in fp16 (NaN); training.precision=auto takes bf16 where there is one")
    elif half:
        draft.carry("training.fp16", "training.precision", "fp16", "bf16 or auto is safer where the GPU has it")
    if not draft.legacy:
        return
    for name, value in (("training.fp16", half), ("training.bf16", brain)):
        if draft.has(name) and not draft.is_done(name):
            if value is False and not half and not brain:
                draft.carry(name, "training.precision", "fp32", "full precision, as before; auto is faster on a GPU")
            elif value is False or draft.value(name) is None:
                draft.cover(name, "off")
            else:
                draft.lose(name, "expected true or false; set training.precision=fp16, bf16, fp32 or auto")


def _optimizer(draft: Draft) -> None:
    name = "training.adafactor"
    if draft.has(name):
        if truth(draft.value(name)):
            draft.carry(name, "training.optim", "adafactor")
        else:
            draft.cover(name, "off")
    name = "training.optim"
    if draft.has(name):
        old = draft.value(name) == "adamw_hf"
        why = "adamw_hf is gone from transformers; the same optimizer of torch" if old else ""
        draft.carry(name, name, "adamw_torch" if old else draft.value(name), why)


def _warmup(draft: Draft) -> None:
    ratio, steps = "training.warmup_ratio", "training.warmup_steps"
    share = number(draft.value(ratio))
    usable = share is not None and 0 <= share < 1
    if draft.has(steps) and usable and (draft.value(steps) is None or number(draft.value(steps)) == 0):
        draft.cover(steps, "training.warmup_ratio decides")
    if not draft.has(ratio):
        return
    if share == 0 and number(draft.value(steps)):
        draft.cover(ratio, "training.warmup_steps decides")
    elif usable:
        draft.carry(ratio, steps, draft.value(ratio), "a share of all steps, since it is below 1")
    elif draft.value(ratio) is None:
        draft.cover(ratio, "training.warmup_steps decides")
    else:
        draft.lose(ratio, "a share lies from 0 to below 1; set training.warmup_steps")


def _order(draft: Draft) -> None:
    plain = "rows are shuffled plainly, as before; samples, which puts like lengths together, is faster"
    name = "training.group_by_length"
    if draft.has(name):
        wanted = truth(draft.value(name))
        if wanted is not None:
            draft.carry(name, "training.batching", "samples" if wanted else "random", "" if wanted else plain)
        else:
            draft.lose(name, "expected true or false; set training.batching=samples or random")
    name = "training.train_sampling_strategy"
    if draft.has(name):
        batching = {"group_by_length": "samples", "random": "random"}.get(str(draft.value(name)))
        if batching:
            draft.carry(name, "training.batching", batching)
        else:
            draft.lose(name, "set training.batching=samples, tokens or random")
    if draft.legacy and not draft.has("training.batching"):
        draft.imply("training.batching", "random", plain)


def _batch_size(draft: Draft) -> None:
    """Let the batch size be found; transformers began with the one in the file, and went down from there."""
    name, target = "training.auto_find_batch_size", "training.per_device_train_batch_size"
    if not draft.has(name):
        return
    wanted = truth(draft.value(name))
    if wanted is None and draft.value(name) is not None:
        draft.lose(name, f"expected true or false; set {target}=auto or a number")
        return
    if not wanted:
        draft.cover(name, "off")
        return
    rows = number(draft.value(target))
    if draft.has(target):
        draft.cover(target, "found by trying, because of training.auto_find_batch_size")
    draft.carry(name, target, "auto", "the largest that fits, found by trying")
    steps = number(draft.value("training.gradient_accumulation_steps") or 1)
    if rows is not None and rows >= 1 and rows == int(rows) and steps == 1:
        reason = "what transformers began with; a smaller batch that fits is made up for by accumulation"
        draft.imply("training.effective_batch_size", int(rows), reason, because=target)


def _rhythm(draft: Draft) -> None:
    """Evaluations, checkpoints and records of the loss: strategies and steps."""
    for name, target in (
        ("training.eval_strategy", "training.eval_strategy"),
        ("training.evaluation_strategy", "training.eval_strategy"),
        ("training.save_strategy", "training.save_strategy"),
        ("training.logging_strategy", "training.logging_strategy"),
    ):
        if not draft.has(name):
            continue
        value = draft.value(name)
        value = "no" if value is False else value  # YAML reads a bare no as false
        if target == "training.logging_strategy" and value == "no":
            draft.lose(name, "the loss is always recorded, every training.logging_steps")
        elif target == "training.save_strategy" and value == "best":
            draft.carry(name, target, "no", "the best model is always kept, in models/best_model")
        else:
            draft.carry(name, target, value)
    for kind in ("eval", "save"):
        name = f"training.{kind}_steps"
        if draft.settings.get(f"training.{kind}_strategy") == "steps" and draft.value(name) is None and draft.legacy:
            if draft.has(name):
                draft.cover(name, "null: transformers' default")
            every = draft.value("training.logging_steps") if kind == "eval" else None
            draft.imply(name, every or _STEPS, "as training.logging_steps" if every else "transformers' default")
    for kind in ("eval", "save", "logging"):
        name = f"training.{kind}_steps"
        share = number(draft.value(name))
        if share is not None and 0 < share < 1:
            draft.lose(name, f"a share of all steps; set training.{kind}_steps to a number of steps")
    _meeting(draft)
    name = "training.save_total_limit"
    if number(draft.value(name)) == 0:
        draft.carry(name, name, None, "0 kept all checkpoints")


def _meeting(draft: Draft) -> None:
    """Where evaluations and checkpoints do not meet, the best model was only loaded when the file said so."""
    strategies = [draft.settings.get(f"training.{kind}_strategy") for kind in ("eval", "save")]
    steps = [
        number(draft.settings.get(name, draft.value(name))) for name in ("training.eval_steps", "training.save_steps")
    ]
    apart = strategies[0] != strategies[1] or (
        strategies[0] == "steps" and steps[0] and steps[1] is not None and steps[1] % steps[0]
    )
    asked = draft.value("training.load_best_model_at_end")
    if draft.legacy and None not in strategies and "no" not in strategies and apart and asked is None:
        draft.imply("training.load_best_model_at_end", False, "evaluations and checkpoints do not meet")


def _best(draft: Draft) -> None:
    loading, name = "training.load_best_model_at_end", "training.metric_for_best_model"
    if draft.legacy and draft.settings.get("training.eval_strategy") == "no":
        why = "without evaluations no model is known to be the best"
        if draft.has(loading) and truth(draft.value(loading)) is not False:
            draft.lose(loading, f"{why}; set training.eval_strategy=epoch")
        if draft.has(loading) and not draft.is_done(loading):
            draft.carry(loading, loading, False)
        draft.imply(loading, False, why)
    value = draft.value(name)
    if value is not None:
        _metric(draft, name, value)
    elif draft.has(name):
        draft.cover(name, "null: the loss decides where the best model is loaded")
    if (
        draft.legacy
        and truth(draft.settings.get(loading, draft.value(loading)))
        and value is None
        and not draft.has("metrics.best")
    ):
        draft.imply("metrics.best", "loss", "the old program kept the model with the lowest validation loss")
    name = "training.greater_is_better"
    wanted = truth(draft.value(name))
    if draft.has(name) and (draft.value(name) is None or wanted == (draft.settings.get("metrics.best") != "loss")):
        draft.cover(name, "dlgsum knows this of its metrics")
    elif draft.has(name):
        draft.carry(name, "metrics.greater_is_better", draft.value(name))


def _metric(draft: Draft, name: str, value: Any) -> None:
    plain = re.sub(r"[^a-z0-9]", "", re.sub(r"^(eval|best|test)[_/]", "", str(value).lower()))
    key = re.sub(r"(sum|score)?(fmeasure|f1score|f1|f|sum|score)?$", "", plain)
    if key not in _METRICS:
        names = ", ".join(dict.fromkeys(_METRICS.values()))
        draft.lose(name, f"dlgsum has no such score; set metrics.best to one of {names}")
        return
    draft.carry(name, "metrics.best", _METRICS[key])
    if key == "bleu":
        draft.imply("metrics.bleu", True, "it chooses the best model", because=name)


def _stopping(draft: Draft) -> None:
    patience, target = "training.early_stopping_patience", "training.early_stopping_patience"
    switches = [name for name in ("training.use_early_stopping", "training.early_stopping") if draft.has(name)]
    off = any(truth(draft.value(name)) is False for name in switches)
    on = any(truth(draft.value(name)) for name in switches) and not off
    if draft.has(patience) and off:
        draft.cover(patience, f"not used, since {draft.found[switches[0]][0]} turns early stopping off")
    elif draft.has(patience) and on and draft.value(patience) is None:
        draft.cover(patience, "null: the baseline's patience")
    for name in switches:
        wanted = truth(draft.value(name))
        if wanted is None:
            draft.lose(name, "expected true or false; set training.early_stopping_patience, or null for none")
        elif off:
            draft.carry(name, target, None, "no early stopping")
        elif draft.value(patience) is None:
            draft.carry(name, target, 3, "the baseline's patience")
        else:
            draft.cover(name, "training.early_stopping_patience turns it on")
    waited = number(draft.value(patience))
    if off:
        return
    if draft.legacy and draft.settings.get("training.eval_strategy") == "no":
        if draft.value(patience) is not None:
            draft.lose(patience, "without evaluations nothing can be waited for; set training.eval_strategy=epoch")
        draft.imply(target, None, "there are no evaluations")
    elif draft.legacy and waited is not None and waited <= 0:
        draft.carry(patience, target, None, "no early stopping")


def _screen(draft: Draft) -> None:
    name = "training.disable_tqdm"
    if draft.has(name):
        if truth(draft.value(name)):
            draft.carry(name, "monitoring.progress", "lines")
        else:
            draft.cover(name, "bars are shown on a terminal")
