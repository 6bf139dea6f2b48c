"""What is wrong is said at once, all of it, with the nearest right name; nothing in a file can run code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.config.schema import key_names
from dlgsum.config.validate import GONE, RENAMED, unknown_key
from dlgsum.core.errors import ConfigError


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def problems(*overrides: str, file: Path | None = None, folder: Path | None = None, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        compose(Request(overrides, file, folder, environ))
    assert raised.value.exit_code == 2
    return raised.value.problems


def problems_of(values: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        compose(Request(values=values, environ={}))
    return raised.value.problems


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_every_problem_is_reported_at_once(empty_folder: Path):
    file = write(empty_folder / "a.yaml", "training: {weight_decay: x, nosuch: 1}\nmeta: 5\n")
    found = problems(
        "training.learning_rat=1", "modle=kobart", "metrics=kiwj", "general.seed=-1", "nonsense", "data.test=a,b",
        "training.fp16=true", "training.bf16=true",
        file=file, BATCH_SIZE="many", DLGSUM__GENERAL__SED="1",
    )  # fmt: skip
    text = "\n".join(found)
    for part in (
        "training.learning_rat", "modle", "metrics=kiwj", "general.seed=-1", "'nonsense'", "data.test=a,b",
        "training.weight_decay=x", "training.nosuch", "meta is a section", "BATCH_SIZE", "DLGSUM__GENERAL__SED",
        "fp16 and training.bf16",
    ):  # fmt: skip
        assert part in text
    assert len(found) == 12 == len(set(found))


def test_the_error_counts_and_lists_its_problems():
    with pytest.raises(ConfigError) as raised:
        compose(Request(["a.b=1", "c=2"], environ={}))
    assert str(raised.value).splitlines()[0] == "2 problems in the configuration:"
    assert sum(line.startswith("  • ") for line in str(raised.value).splitlines()) == 2


# --- nearest names ---


@pytest.mark.parametrize(
    ("override", "guess"),
    [
        ("training.learning_rat=1", "did you mean training.learning_rate?"),
        ("trainig.learning_rate=1", "did you mean training.learning_rate?"),
        ("learning_rate=1", "did you mean training.learning_rate?"),
        ("metrics.weights.rougel=1", "did you mean metrics.weights.rougeL?"),
        ("modle=kobart", "did you mean model?"),
        ("model=kobrat", "did you mean model=kobart?"),
        ("experiment=basline", "did you mean experiment=baseline?"),
        ("training.lr_scheduler_type=cosin", "did you mean cosine?"),
        ("training.optim=adamw_troch", "did you mean adamw_torch?"),
        ("general.device=cud", "did you mean cuda?"),
    ],
)
def test_a_typo_names_the_nearest(override: str, guess: str):
    (problem,) = problems(override)
    assert guess in problem


def test_a_misspelt_section_or_option_in_a_file(empty_folder: Path):
    (section,) = problems(file=write(empty_folder / "a.yaml", "trainig: {learning_rate: 1e-5}\n"))
    assert "did you mean training?" in section and "a.yaml" in section
    (empty,) = problems(file=write(empty_folder / "b.yaml", "trainig:\n"))
    assert "did you mean training?" in empty
    (option,) = problems(file=write(empty_folder / "c.yaml", "model: kobrat\n"))
    assert "did you mean model=kobart?" in option
    (group,) = problems(file=write(empty_folder / "d.yaml", "defaults: [{override /modle: kobart}]\n"))
    assert "did you mean model?" in group


@pytest.mark.parametrize(
    ("variable", "guess"),
    [
        ("DLGSUM__TRAINING__LEARNIN_RATE", "did you mean DLGSUM__TRAINING__LEARNING_RATE?"),
        ("DLGSUM__TRAINING_LEARNING_RATE", "did you mean DLGSUM__TRAINING__LEARNING_RATE?"),
        ("DLGSUM__SEED", "did you mean DLGSUM__GENERAL__SEED?"),
        ("DLGSUM__METRICS__WEIGHTS__ROUGE_L", "did you mean DLGSUM__METRICS__WEIGHTS__ROUGEL?"),
    ],
)
def test_an_unknown_variable_names_the_nearest(variable: str, guess: str):
    (problem,) = problems(**{variable: "1"})
    assert variable in problem and guess in problem


def test_a_group_in_a_variable_says_where_groups_are_chosen():
    (problem,) = problems(DLGSUM__MODEL="kobart")
    assert "model is a section" in problem and "model=kobart on the command line" in problem


@pytest.mark.parametrize("name", sorted(RENAMED))
def test_a_renamed_setting_names_its_successor(name: str):
    successor = RENAMED[name]
    assert successor.partition("=")[0] in set(key_names())
    key = f"training.{name}"
    assert f"did you mean {successor}?" in unknown_key(key)
    assert any(
        problem.startswith(f"{key}:") and successor in problem for problem in problems_of({"training": {name: 1}})
    )


def test_a_renamed_setting_never_hides_one_that_exists():
    training = {key.removeprefix("training.") for key in key_names() if key.startswith("training.")}
    assert not training & (set(RENAMED) | GONE)


@pytest.mark.parametrize("name", sorted(GONE))
def test_a_setting_that_is_gone_says_so(name: str):
    (problem,) = problems_of({"training": {name: True}})
    assert problem == f"training.{name}: there is no such setting any more; remove it"


# --- types and ranges ---


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training.learning_rate", 0, "training.learning_rate=0: must be greater than 0"),
        ("training.learning_rate", 10, "training.learning_rate=10: must be less than 10"),
        ("general.seed", -1, "general.seed=-1: must be at least 0"),
        ("monitoring.samples", 51, "monitoring.samples=51: must be at most 50"),
        ("general.device", "gpu", "general.device=gpu: must be 'auto', 'cuda', 'mps' or 'cpu'"),
        ("training.learning_rate", "fast", "training.learning_rate=fast: must be a number"),
        ("training.learning_rate", [1], "training.learning_rate=[1]: must be a number"),
        ("training.learning_rate", None, "training.learning_rate=null: must be a number"),
        ("training.learning_rate", True, "training.learning_rate=true: must be a number"),
        ("training.learning_rate", float("nan"), "training.learning_rate=nan: must be a finite number"),
        ("generation.length_penalty", "inf", "generation.length_penalty=inf: must be a finite number"),
        ("general.seed", 1.5, "general.seed=1.5: must be a whole number"),
        ("general.seed", "x", "general.seed=x: must be a whole number"),
        ("general.seed", None, "general.seed=null: must be a whole number"),
        ("training.eval_steps", True, "training.eval_steps=true: must be a number"),
        ("metrics.weights.rouge1", False, "metrics.weights.rouge1=false: must be a number"),
        ("data.cache", "perhaps", "data.cache=perhaps: must be true or false"),
        ("data.cache", 2, "data.cache=2: must be true or false"),
        ("meta.description", True, "meta.description=true: must be text"),
        ("meta.description", ["a"], "meta.description=['a']: must be text"),
        ("general.output_dir", "", "general.output_dir=: must not be empty"),
        ("tracking.tags", "a", "tracking.tags=a: must be a list, such as [a,b]"),
        ("data.cleaning", ["nfc", "tag"], "data.cleaning.1=tag: must be 'newlines', 'tags', 'blanks' or 'nfc'"),
        ("metrics.weights", 3, "metrics.weights is a section, not a value; got 3"),
        ("model.mini", None, "model.mini is a section, not a value; got null"),
    ],
)
def test_the_message_for_a_wrong_value(key: str, value: object, message: str):
    (problem,) = problems_of({key: value})
    assert problem.partition("; did you mean")[0] == message


@pytest.mark.parametrize("key", ["general", "tokenizer", "meta"])
def test_a_value_where_a_section_is_wanted(key: str):
    (problem,) = problems_of({key: "hello"})
    assert problem == f"{key} is a section, not a value; got hello"


def test_a_setting_below_a_value():
    found = problems_of({"training": 5, "training.learning_rate": 1})
    assert any("'training' was given a value, so it has no settings of its own" in problem for problem in found)


def test_the_origin_of_a_problem_is_named(empty_folder: Path):
    file = write(empty_folder / "a.yaml", "training: {weight_decay: 7}\nstrange: {a: {b: 1}}\n")
    found = problems("general.seed=x", file=file, LEARNING_RATE="x")
    assert sum("from the command line" in problem for problem in found) == 1
    assert sum("from environment variable LEARNING_RATE" in problem for problem in found) == 1
    assert sum("from a.yaml:1" in problem for problem in found) == 1
    assert sum("from a.yaml:2" in problem for problem in found) == 1


# --- contradictions ---


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"training.warmup_steps": 5, "training.warmup_ratio": 0.1}, "warmup_steps and training.warmup_ratio"),
        ({"training.fp16": True, "training.bf16": True}, "training.fp16 and training.bf16 are both true"),
        ({"training.bf16": True, "training.precision": "fp32"}, "training.bf16=true contradicts"),
        ({"training.precision": "fp16", "general.device": "cpu"}, "fp16 needs a GPU"),
        ({"training.fp16": True, "general.device": "cpu"}, "fp16 needs a GPU"),
        ({"training.fp16": True, "model.architecture": "t5", "model.checkpoint": "x"}, "T5 overflows in fp16"),
        ({"training.fp16": True, "model.architecture": "mt5", "model.checkpoint": "x"}, "T5 overflows in fp16"),
        ({"training.eval_strategy": "steps"}, "needs training.eval_steps"),
        ({"training.save_strategy": "steps"}, "needs training.save_steps"),
        ({"training.early_stopping_patience": 2, "training.eval_strategy": "no"}, "cannot do without evaluations"),
        ({"training.eval_strategy": "no"}, "load_best_model_at_end cannot do without evaluations"),
        ({"training.save_strategy": "steps", "training.save_steps": 9}, "do not meet"),
        (
            {
                "training.eval_strategy": "steps",
                "training.eval_steps": 20,
                "training.save_strategy": "steps",
                "training.save_steps": 50,
            },
            "evaluations (every 20 steps) and checkpoints (every 50 steps) do not meet",
        ),
        (
            {"training.effective_batch_size": 50, "training.per_device_train_batch_size": 16},
            "not divisible by training.per_device_train_batch_size=16; use 48 or 64",
        ),
        (
            {"training.effective_batch_size": 8, "training.per_device_train_batch_size": 16},
            "not divisible by training.per_device_train_batch_size=16; use 16,",
        ),
        (
            {"training.effective_batch_size": 64, "training.gradient_accumulation_steps": 3},
            "contradicts training.gradient_accumulation_steps=3",
        ),
        ({"training.effective_batch_size": 64, "training.batching": "tokens"}, "counts rows"),
        ({"training.precision": "fp16", "model.architecture": "t5", "model.checkpoint": "x"}, "T5 overflows in fp16"),
        ({"training.fp16": True, "model.checkpoint": "paust/pko-t5-base"}, "T5 overflows in fp16"),
        ({"generation.max_length": 129}, "above tokenizer.decoder_max_len=128"),
        ({f"metrics.weights.{name}": 0 for name in ("rouge1", "rouge2", "rougeL")}, "metrics.weights are all 0"),
        ({"generation.min_length": 129}, "above the longest summary (128 tokens)"),
        ({"generation.min_length": 20, "generation.max_length": 10}, "above the longest summary (10 tokens)"),
        ({"model.mini.d_model": 100, "model.mini.heads": 3}, "not a multiple of model.mini.heads=3"),
    ],
)
def test_each_contradiction(values: dict[str, Any], part: str):
    (problem,) = problems_of(values)
    assert part in problem


@pytest.mark.parametrize(
    "values",
    [
        {"eval_strategy": "steps", "eval_steps": 20},
        {"eval_strategy": "steps", "eval_steps": 20, "save_strategy": "steps", "save_steps": 60},
        {"eval_strategy": "steps", "eval_steps": 20, "save_strategy": "epoch", "load_best_model_at_end": False},
        {"eval_strategy": "no", "load_best_model_at_end": False},
        {"save_strategy": "no"},
        {"effective_batch_size": 64, "gradient_accumulation_steps": 4},
    ],
)
def test_what_fits_together_is_no_contradiction(values: dict[str, Any]):
    compose(Request(values={"training": values}, environ={}))


def test_a_contradiction_is_reported_beside_a_wrong_value():
    found = problems_of({"training": {"fp16": True, "bf16": True, "learning_rate": "x"}, "general": {"nosuch": 1}})
    assert len(found) == 3


# --- files that cannot be used ---


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("training:\n  learning_rate: [1\nmeta: 2\n", ["cannot be read", "line 3"]),
        ("a:\n\tb: 1\n", ["cannot be read", "line 2"]),
        ("general: {seed: 1, seed: 2}\n", ["cannot be read", "duplicate key seed"]),
        ("general: {seed: 1}\n---\ngeneral: {seed: 2}\n", ["cannot be read", "single document"]),
        ("meta: {description: 가나}\n".encode("cp949"), ["is not UTF-8", "at byte 20"]),
        ("general: {seed: 1}\n".encode("utf-16"), ["is not UTF-8"]),
        ("- a\n- b\n", ["expected sections", "found a list"]),
        (b"\x00\x01\x02", ["cannot be read"]),
        ("meta: {description: '${x'}\n", ["cannot be read"]),
        ("hello\n", ["hello: there is no such setting"]),
        ("defaults: 5\n", ["`defaults` lists group choices", "5"]),
        ("defaults: kobart\n", ["`defaults` lists group choices"]),
        ("defaults: [kobart]\n", ["`defaults` lists group choices"]),
        ("defaults: [{model: [kobart]}]\n", ["there is no such file in the group"]),
    ],
)
def test_an_unusable_file(empty_folder: Path, content: str | bytes, parts: list[str]):
    file = write(empty_folder / "설정.yaml", content)
    (problem,) = problems(file=file)
    assert all(part in problem for part in parts), problem
    if "group" not in problem:
        assert "설정.yaml" in problem


def test_a_missing_file_and_a_folder(empty_folder: Path):
    assert problems(file=Path("none.yaml")) == ["none.yaml: there is no such file"]
    (problem,) = problems(file=empty_folder)
    assert "is a folder" in problem and "--config-dir" in problem


def test_a_missing_config_dir():
    assert problems(folder=Path("none")) == ["--config-dir none: there is no such folder"]


# --- files of a user's own ./conf ---

GLOBAL = "# @package _global_\n"


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({"model/a.yaml": "defaults: [b@_here_]\n", "model/b.yaml": "defaults: [a@_here_]\n"}, "name each other"),
        ({"model/a.yaml": "defaults: [a@_here_]\n"}, "name each other"),
        ({"model/a.yaml": "defaults: [/nosuch: x]\n"}, "nosuch/x"),
        ({"model/a.yaml": "defaults: [nosuch@_here_]\n"}, "model/nosuch"),
        ({"model/a.yaml": GLOBAL + "defaults: [{override /modle: kobart}]\n"}, "modle"),
        ({"model/a.yaml": "defaults: 5\n"}, "defaults must be a list"),
        ({"model/a.yaml": "defaults: [1]\n"}, "Unsupported type in defaults"),
        ({"model/a.yaml": "defaults: [null]\n"}, "Unsupported type in defaults"),
        ({"model/a.yaml": "- 1\n"}, "expected sections"),
        ({"model/a.yaml": "hello\n"}, "model.hello"),
        ({"model/a.yaml": "# 가나\n".encode("cp949")}, "a.yaml is not UTF-8"),
        ({"model/a.yaml": b"\x00\x01"}, "a.yaml"),
        ({"model/a.yaml": "checkpoint: [1\n"}, "line 2"),
        ({"model/a.yaml": "checkpoint: ${x\n"}, "${x"),
        ({"model/a.yaml": "# @package\nx: 1\n"}, "header"),
        ({"model/a.yaml": "# @package a.b.c\nx: 1\n"}, "a: there is no such setting"),
        ({"model/a.yaml": "architectur: bart\n"}, "did you mean model.architecture?"),
        ({"model/a.yaml": "", "config.yaml": "- 1\n"}, "config"),
    ],
)
def test_a_faulty_file_of_the_user_is_a_configuration_error(
    empty_folder: Path, files: dict[str, str | bytes], part: str
):
    for name, content in files.items():
        write(empty_folder / "conf" / name, content)
    (problem,) = problems("model=a")
    assert part in problem, problem
    assert "conf" in problem


def test_a_faulty_env_yaml(empty_folder: Path):
    write(empty_folder / "conf/env.yaml", "SEED: general.sed\nOTHER: {a: 1}\nTHIRD:\n")
    found = problems(SEED="1", OTHER="1", THIRD="1")
    assert len(found) == 3
    assert "did you mean general.seed?" in found[2]
    assert "OTHER must name a setting" in found[0] and "THIRD must name a setting" in found[1]


# --- the command line ---


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("nonsense", "expected key=value"),
        ("", "expected key=value"),
        ("=1", "expected key=value"),
        ("훈련.학습률=1", "expected key=value"),
        ("~training.learning_rate", "cannot be deleted"),
        ("training.batching=samples,tokens", "several values"),
        ("training.learning_rate=choice(1,2)", "several values"),
        ("data=glob(*)", "several values"),
        ("model@here=kobart", "write model="),
        ("model=", "there are: auto, kobart"),
        ("model=5", "model is a section"),
        ("data.columns.extra_summaries=[가, 나", "cannot be read"),
        ("data.train={가}", "in quotes"),
        ("hydra.run.dir=x", "hydra.run.dir: there is no such setting"),
        ("general.seed.x=1", "did you mean general.seed?"),
    ],
)
def test_an_override_that_cannot_be(override: str, part: str):
    (problem,) = problems(override)
    assert part in problem, problem


def test_the_hint_of_hydra_that_hides_typos_is_gone():
    text = "\n".join(problems("training.learning_rat=1", "model.nosuch=1"))
    assert "+" not in text and "append" not in text


# --- a configuration runs no code ---

RUNS_CODE = (
    "!!python/object/apply:os.system ['touch {}']",
    "!!python/object/apply:subprocess.check_call [['touch', '{}']]",
    "!!python/object/new:os.system ['touch {}']",
    "!!python/name:os.system",
    "!!python/module:os",
)


@pytest.mark.parametrize("tag", RUNS_CODE)
@pytest.mark.parametrize("where", ["--config", "group", "environment"])
def test_malicious_tags_do_not_run(empty_folder: Path, tag: str, where: str):
    mark = empty_folder / "ran"
    text = tag.format(mark)
    if where == "--config":
        found = problems(file=write(empty_folder / "a.yaml", f"meta:\n  description: {text}\n"))
        assert "could not determine a constructor" in found[0]
    elif where == "group":
        write(empty_folder / "conf/model/a.yaml", f"checkpoint: {text}\n")
        found = problems("model=a")
        assert "could not determine a constructor" in found[0]
    else:
        problems(DLGSUM__TRACKING__TAGS=f"[{text}]")
    assert not mark.exists()


def test_a_target_is_just_an_unknown_key(empty_folder: Path):
    mark = empty_folder / "ran"
    text = f"model:\n  _target_: os.system\n  _args_: ['touch {mark}']\n_target_: os.getcwd\n"
    found = problems(file=write(empty_folder / "a.yaml", text))
    assert len(found) == 3 and all("there is no such setting" in problem for problem in found)
    assert not mark.exists()
