"""The keys of the old format whose meaning takes more than a new name."""

from __future__ import annotations

import re
from typing import Any, get_args

from dlgsum.config.legacy_draft import Draft, is_t5, number, same, shown, truth, types
from dlgsum.config.legacy_training import training_rules
from dlgsum.config.schema.model import Tokenizer

_PLACEHOLDER = re.compile(
    r"model ckt path|.*\bckp?t path|your[ _-].*|<.*>|.*path[ /_-]to\b.*|wandb[ _-]?repo|todo|fixme|"
    r"change[ _-]?me|\.{3}|(project|run|team|entity|user|experiment|model)[ _-]?name",
    re.IGNORECASE,
)
_CONTROL = re.compile(
    r"</?s>|<(usr|sys|pad|unk|mask|bos|eos|cls|sep|extra_id_\d+|unused\d+)>|\[(PAD|UNK|CLS|SEP|MASK)\]"
)


def apply_rules(draft: Draft) -> None:
    """Settle every key that has a rule of its own, and what the old program did without being told."""
    _data(draft)
    _model(draft)
    _tokens(draft)
    training_rules(draft)
    for rule in (_lengths, _beams, _batches, _texts, _wandb):
        rule(draft)


def is_placeholder(value: Any) -> bool:
    """Tell whether a value is a template's stand-in, such as `your team`."""
    return isinstance(value, str) and _PLACEHOLDER.fullmatch(value.strip()) is not None


def _filled(draft: Draft, name: str, target: str) -> bool:
    """Tell whether a key holds a text that someone chose; what is none is settled here."""
    value = draft.value(name)
    if not draft.has(name) or draft.is_done(name):
        return False
    if is_placeholder(value):
        draft.lose(name, f"a placeholder, not a value; set {target} if you need it")
    elif value is None or not isinstance(value, (str, int, float)) or isinstance(value, bool) or not str(value).strip():
        draft.lose(name, f"expected a text; set {target} if you need it")
    else:
        return True
    return False


def _data(draft: Draft) -> None:
    name = "general.data_path"
    if not _filled(draft, name, "data.train and data.validation"):
        return
    folder = str(draft.value(name)).strip()
    if re.search(r"\.(csv|tsv|jsonl?)$", folder):
        draft.lose(name, "a file, where the old format had a folder; set data.train and data.validation")
        return
    inside = folder if folder.endswith("/") else f"{folder}/"
    draft.choose(name, "data", "csv")
    draft.carry(name, "data.train", f"{inside}train.csv", "relative paths start at the working folder, as before")
    draft.imply("data.validation", f"{inside}dev.csv", "", because=name)
    draft.imply_file("data.test", f"{inside}test.csv", because=name)


def _model(draft: Draft) -> None:
    name = "general.model_name"
    if draft.has("model.checkpoint"):
        _checkpoint(draft, "model.checkpoint", draft.value("model.checkpoint"))
    if draft.has(name) and draft.value(name) is None and not draft.legacy:
        draft.cover(name, "the model is named by model.checkpoint")
    if not _filled(draft, name, "model.checkpoint"):
        return
    checkpoint = str(draft.value(name)).strip()
    if draft.legacy:
        _family(draft, name, checkpoint)
    _checkpoint(draft, name, checkpoint)


def _checkpoint(draft: Draft, name: str, checkpoint: Any) -> None:
    """Carry a model's name, even that of one which cannot be trained: another must not take its place in silence."""
    causal = draft.legacy and isinstance(checkpoint, str) and "gpt" in _families(checkpoint)
    draft.carry(name, "model.checkpoint", checkpoint, "cannot be trained here: choose another" if causal else "")
    if causal and draft.settings.get("model.checkpoint") == checkpoint:
        draft.lose(
            name,
            "a model without an encoder (GPT), which cannot be trained here; set model.checkpoint to an "
            "encoder-decoder such as digit82/kobart-summarization or paust/pko-t5-base; until then no other model "
            "takes its place, and dlgsum refuses to train",
        )


def _families(checkpoint: str) -> list[str]:
    """Return the kinds of model that a checkpoint's name tells; of a path, the last part that tells any."""
    for part in reversed(checkpoint.lower().split("/")):
        words = re.split(r"[^a-z0-9]+", part)
        kinds = [kind for kind in ("kobart", "gpt", "mt5", "t5", "bart") if _tells(words, kind)]
        if kinds:
            return kinds
    return []


def _tells(words: list[str], kind: str) -> bool:
    if kind == "gpt":
        return any("gpt" in word for word in words)
    if kind == "kobart":
        return any(word.startswith(kind) for word in words)
    return kind in words and "long" not in words  # LongT5 is no T5


def _family(draft: Draft, name: str, checkpoint: str) -> None:
    """Choose the model's group and architecture by what its name tells."""
    kinds = _families(checkpoint)
    if "kobart" in kinds:
        base = checkpoint == "gogamza/kobart-base-v2"
        draft.choose(name, "model", "kobart_base" if base else "kobart", "with its recommendations for what is not set")
        return
    draft.choose(name, "model", "auto", "no recommendations of another model")
    known = get_args(types()["model.architecture"])
    named = [kind for kind in kinds if kind in known]
    if named and not draft.has("model.architecture"):
        draft.imply("model.architecture", named[0], "by the checkpoint's name", because=name)


def _tokens(draft: Draft) -> None:
    bos = "tokenizer.bos_token"
    if draft.legacy and draft.has(bos) and draft.value(bos) is not None:
        if is_t5(draft):
            draft.lose(bos, "T5 has no begin mark, and none is needed: generation.decoder_start names the first token")
        else:
            why = "no longer starts the decoder in training: generation.decoder_start does, there as in generation"
            draft.carry(bos, bos, draft.value(bos), why)
    for name in (
        "tokenizer.special_tokens",
        "tokenizer.additional_special_tokens",
        "tokenizer.special_tokens.additional_special_tokens",
    ):
        if draft.has(name) and not draft.is_done(name):
            _special_tokens(draft, name)


def _special_tokens(draft: Draft, name: str) -> None:
    value = draft.value(name)
    tokens = [value] if isinstance(value, str) and value else value
    if tokens is None or tokens == []:
        draft.cover(name, "tags are found in the training text")
        return
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        draft.lose(name, "expected a list of tokens, such as ['#Person1#']; tags in the training text are found anyway")
        return
    own = [token for token in tokens if not _CONTROL.fullmatch(token)]
    dropped = [token for token in tokens if token not in own]
    if not own:
        draft.cover(name, "control tokens of the tokenizer, which are special already")
        return
    left = f"; control tokens are left out: {' '.join(dropped)}" if dropped else ""
    draft.carry(name, "tokenizer.special_tokens", own, f"tags in the training text are found anyway{left}")


def _lengths(draft: Draft) -> None:
    """The longest summary: what generation used for the test rows decides."""
    names = ("generation.max_length", "inference.max_new_tokens", "inference.generate_max_length",
             "inference.max_length", "training.generation_max_length")  # fmt: skip
    note = "dlgsum counts generated tokens only, without the start token"
    target, trained = names[0], "tokenizer.decoder_max_len"
    limit = number(draft.value(trained)) or Tokenizer().decoder_max_len
    for name in names:
        if not draft.has(name):
            continue
        length = number(draft.value(name))
        if draft.legacy and length is not None and length > limit and target not in draft.settings:
            draft.lose(name, f"longer than any summary that is trained on ({trained}={limit:g}); raise both")
            draft.imply(target, int(limit), "the longest summary that is trained on", because=name)
        else:
            draft.carry(name, target, draft.value(name), note if name == "inference.max_new_tokens" else "")


def _beams(draft: Draft) -> None:
    name = "inference.early_stopping"
    if draft.has(name):
        if truth(draft.value(name)) is None:
            draft.lose(name, "expected true or false; set generation.early_stopping")
        else:
            draft.carry(name, "generation.early_stopping", truth(draft.value(name)))
    beams = number(draft.value("inference.num_beams"))
    if (
        draft.legacy
        and beams != 1
        and not draft.has("training.generation_num_beams")
        and not draft.has("generation.eval_num_beams")
    ):
        draft.imply("generation.eval_num_beams", 1, "evaluations were greedy; beams only for the test rows")


def _batches(draft: Draft) -> None:
    name, target = "inference.batch_size", "training.per_device_eval_batch_size"
    if not draft.has(name):
        return
    evaluation = next((draft.value(k) for k in (target, "training.per_gpu_eval_batch_size") if draft.has(k)), None)
    if evaluation is None:
        draft.carry(name, target, draft.value(name), "one size for evaluation and prediction")
    elif same(evaluation, draft.value(name)):
        draft.cover(name, f"the same as {target}, which holds for predictions too")
    else:
        draft.lose(
            name, f"{target}={shown(evaluation)} holds for predictions too; `dlgsum predict --batch-size N` changes it"
        )


def _texts(draft: Draft) -> None:
    """What the old program read and wrote when it predicted."""
    for name in ("inference.ckt_path", "inference.ckpt_path"):
        if draft.has(name):
            value = draft.value(name)
            if is_placeholder(value) or not isinstance(value, str) or not value.strip():
                draft.cover(name, "a placeholder; dlgsum predict is told its run or model")
            else:
                draft.lose(name, f"named when it is used: dlgsum predict {shown(value)} test.csv -o submission.csv")
    name = "inference.result_path"
    if draft.value(name) is None and draft.has(name):
        draft.cover(name, "null: nothing to carry")
    if _filled(draft, name, "the file after -o"):
        folder = str(draft.value(name)).strip().rstrip("/")
        draft.lose(name, f"named when it is used: dlgsum predict latest test.csv -o {folder}/output.csv")
    name = "inference.remove_tokens"
    if not draft.has(name):
        return
    value = draft.value(name)
    tokens = value if isinstance(value, list) else [] if value is None else [value]
    others = [str(token) for token in tokens if not _CONTROL.fullmatch(str(token))]
    if others:
        draft.lose(name, f"only control tokens are dropped from summaries, not {shown(' '.join(others))}; "
                   "clean the file that dlgsum predict writes")  # fmt: skip
    else:
        draft.cover(name, "control tokens are always dropped from summaries")


def _wandb(draft: Draft) -> None:
    for key in ("mode", "entity", "project", "name"):
        name = f"wandb.{key}"
        if (
            draft.has(name)
            and (draft.value(name) is not None or key == "project")
            and (key == "mode" or not draft.legacy or _filled(draft, name, name))
        ):
            draft.carry(name, name, draft.value(name))
    name = "training.report_to"
    if not draft.has(name):
        return
    value = draft.value(name)
    tools = [str(item).lower() for item in (value if isinstance(value, list) else [] if value is None else [value])]
    others = [tool for tool in tools if tool not in ("wandb", "all", "none", "false", "")]
    if others and "wandb" not in tools and "all" not in tools:
        draft.lose(name, "metrics go to metrics.jsonl of the run folder, and to W&B with wandb.mode=online")
    elif others:
        draft.carry(name, "wandb.mode", "online", f"W&B only, not {shown(' '.join(others))}; see also metrics.jsonl")
        draft.lose(name, f"only W&B is carried, not {shown(' '.join(others))}: see metrics.jsonl of the run folder")
    elif tools and tools[0] in ("wandb", "all"):
        draft.carry(name, "wandb.mode", "online", "needs `wandb login`; without a network: offline")
    else:
        draft.carry(name, "wandb.mode", "disabled")
