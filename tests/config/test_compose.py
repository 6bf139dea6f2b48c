"""Files, environment and overrides become one configuration, in the promised order of precedence."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlgsum.config.compose import compose, to_yaml
from dlgsum.config.groups import packaged_conf, search_path
from dlgsum.config.overrides import parse_overrides
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.errors import ConfigError

GROUP_FILES = sorted(
    (path.parent.name, path.stem) for path in packaged_conf().glob("*/*.yaml") if path.parent.name != "experiment"
)
MODELS = [name for group, name in GROUP_FILES if group == "model"]
EXPERIMENTS = sorted(path.stem for path in (packaged_conf() / "experiment").glob("*.yaml"))
NEEDED = {"data": ["data.train=train.csv", "data.validation=dev.csv"]}  # data=csv names no files itself


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder without a ./conf."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def from_values(values: dict[str, Any]) -> Config:
    return compose(Request(values=values, environ={})).config


def config(*overrides: str, file: Path | None = None, folder: Path | None = None, **environ: str) -> Config:
    return compose(Request(overrides, file, folder, environ)).config


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# --- precedence ---


def test_each_layer_wins_over_the_one_below(empty_folder: Path):
    """Schema default < conf group < experiment < --config FILE < environment < command line."""
    schema_default = Config().training.num_train_epochs
    write(empty_folder / "conf/training/mine.yaml", "num_train_epochs: 11\n")
    write(empty_folder / "conf/experiment/mine.yaml", "# @package _global_\ntraining: {num_train_epochs: 12}\n")
    file = write(empty_folder / "settings.yaml", "training: {num_train_epochs: 13}\n")
    steps: list[tuple[dict[str, Any], float]] = [
        ({}, schema_default),
        ({"groups": ["training=mine"]}, 11),
        ({"groups": ["training=mine", "experiment=mine"]}, 12),
        ({"groups": ["training=mine", "experiment=mine"], "file": file}, 13),
        ({"groups": ["training=mine", "experiment=mine"], "file": file, "environ": {"NUM_EPOCHS": "14"}}, 14),
        (
            {
                "groups": ["training=mine", "experiment=mine", "training.num_train_epochs=15"],
                "file": file,
                "environ": {"NUM_EPOCHS": "14"},
            },
            15,
        ),
    ]
    for given_, expected in steps:
        result = config(*given_.get("groups", []), file=given_.get("file"), **given_.get("environ", {}))
        assert result.training.num_train_epochs == expected


def test_the_prefixed_variable_wins_over_the_well_known_one():
    assert config(NUM_EPOCHS="4", DLGSUM__TRAINING__NUM_TRAIN_EPOCHS="5").training.num_train_epochs == 5


def test_a_later_override_wins_over_an_earlier_one():
    result = config("general.seed=1", "general.seed=2", "metrics=char", "metrics=kiwi")
    assert (result.general.seed, result.metrics.scorer) == (2, "kiwi")


def test_where_each_value_came_from(empty_folder: Path):
    """Every place that set a value, lowest first, to the line."""
    file = write(empty_folder / "settings.yaml", "# mine\ngeneral:\n  seed: 7\ntraining: {learning_rate: 1e-3}\n")
    write(empty_folder / "conf/training/mine.yaml", "weight_decay: 0.2\nlearning_rate: 1e-2\n")
    overrides = ["training.weight_decay=0.1", "training=mine", "model=kobart", "tracking.tags=[a,나]"]
    environ = {"WANDB_PROJECT": "p", "LEARNING_RATE": "1e-4"}
    history = compose(Request(overrides, file, None, environ)).history
    shown = {key: [(str(s.value), str(s.origin)) for s in settings] for key, settings in history.items()}
    assert shown["general.seed"] == [("7", "settings.yaml:3")]
    assert shown["training.weight_decay"] == [
        ("0.2", "conf/training/mine.yaml:1"),
        ("0.1", "training.weight_decay=0.1"),
    ]
    rate = shown["training.learning_rate"]
    assert [where.rpartition(":")[0] or where for _, where in rate] == [
        "dlgsum/conf/model/kobart.yaml", "conf/training/mine.yaml", "settings.yaml", "LEARNING_RATE"
    ]  # fmt: skip
    line = int(rate[0][1].rpartition(":")[2])
    assert "learning_rate" in (packaged_conf() / "model/kobart.yaml").read_text(encoding="utf-8").splitlines()[line - 1]
    assert shown["wandb.project"] == [("p", "WANDB_PROJECT")]
    assert shown["tracking.tags"] == [("['a', '나']", "tracking.tags=[a,나]")]
    assert "training.adam_beta1" not in shown


# --- shipped files ---


@pytest.mark.parametrize(("group", "name"), GROUP_FILES)
def test_every_group_file_composes(group: str, name: str):
    composition = compose(Request([f"{group}={name}", *NEEDED.get(group, [])], environ={}))
    assert composition.groups[group] == name


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("model", MODELS)
def test_every_experiment_composes_with_every_model(model: str, experiment: str):
    composition = compose(Request([f"experiment={experiment}", f"model={model}"], environ={}))
    assert (composition.groups["experiment"], composition.groups["model"]) == (experiment, model)


def test_discovery_sees_the_shipped_files():
    assert {"kobart", "kobart_mini", "auto"} <= set(MODELS) and "baseline" in EXPERIMENTS and len(GROUP_FILES) > 15


def test_a_model_file_sets_what_it_recommends_and_an_experiment_overrides_it():
    assert config("model=kobart").training.learning_rate == 3e-5
    baseline = config("experiment=baseline")
    assert (baseline.model.architecture, baseline.training.learning_rate) == ("kobart", 1e-5)


def test_a_model_file_can_stand_on_another():
    """kobart_base takes everything from kobart but the weights and the learning rate."""
    base = config("model=kobart_base")
    assert (base.model.checkpoint, base.training.learning_rate) == ("gogamza/kobart-base-v2", 5e-5)
    assert base.training.num_train_epochs == config("model=kobart").training.num_train_epochs


def test_null_takes_a_group_out():
    assert config("model=null") == config("model=auto")
    assert config("experiment=null") == config()
    composition = compose(Request(["model=null"], environ={}))
    assert "model" not in composition.groups


# --- the user's own files ---


@pytest.mark.parametrize("how", ["./conf", "--config-dir"])
def test_own_files_extend_and_replace_groups(empty_folder: Path, how: str):
    root = empty_folder / "conf" if how == "./conf" else empty_folder / "elsewhere"
    write(root / "model/mine.yaml", "architecture: bart\ncheckpoint: ./mine\n")
    write(root / "model/kobart.yaml", "architecture: bart\ncheckpoint: ./replaced\n")
    folder = None if how == "./conf" else root
    assert config("model=mine", folder=folder).model.checkpoint == "./mine"
    assert config("model=kobart", folder=folder).model.checkpoint == "./replaced"
    assert config("model=kobart_mini", folder=folder).model.architecture == "kobart_mini"


def test_config_dir_is_taken_instead_of_own_conf(empty_folder: Path):
    write(empty_folder / "conf/model/mine.yaml", "checkpoint: ./conf\n")
    write(empty_folder / "other/model/mine.yaml", "checkpoint: ./other\n")
    assert config("model=mine").model.checkpoint == "./conf"
    assert config("model=mine", folder=Path("other")).model.checkpoint == "./other"
    assert search_path(Path("other")) == [(empty_folder / "other").resolve(), packaged_conf()]


def test_own_file_standing_on_a_shipped_one(empty_folder: Path):
    write(
        empty_folder / "conf/model/mine.yaml",
        "# @package _global_\ndefaults: [kobart@_here_]\ntraining: {learning_rate: 1e-5}\n",
    )
    result = config("model=mine")
    assert (result.model.architecture, result.training.learning_rate) == ("kobart", 1e-5)
    assert result.training.num_train_epochs == 10


@pytest.mark.parametrize("name", ["내모델", "my model", "m(1)", "a-b.c"])
def test_own_files_may_have_any_name(empty_folder: Path, name: str):
    write(empty_folder / f"conf/model/{name}.yaml", "checkpoint: ./mine\n")
    assert config(f"model={name}").model.checkpoint == "./mine"


def test_own_config_yaml_changes_the_standard_choices(empty_folder: Path):
    text = (packaged_conf() / "config.yaml").read_text(encoding="utf-8")
    own = text.replace("- metrics: kiwi", "- metrics: char").replace("- experiment: null", "- experiment: baseline")
    assert own.count("char") == 1 and "- experiment: baseline" in own
    write(empty_folder / "conf/config.yaml", own + "general: {seed: 7}\n")
    result = config()
    assert (result.general.seed, result.meta.experiment_name) == (7, "baseline")
    plain = config("experiment=null")
    assert (plain.metrics.scorer, plain.meta.experiment_name) == ("char", Config().meta.experiment_name)


def test_own_env_yaml_names_further_variables(empty_folder: Path):
    write(empty_folder / "conf/env.yaml", "SEED: general.seed\n")
    assert config(SEED="9").general.seed == 9


def test_folders_of_other_tools_in_conf_are_left_alone(empty_folder: Path):
    write(empty_folder / "conf/db/postgres.yaml", "host: x\n")
    assert config() == config(folder=packaged_conf())


# --- --config FILE ---


def test_a_file_with_sections(empty_folder: Path):
    file = write(empty_folder / "a.yaml", "training:\n  weight_decay: 0.5\nmetrics: {weights: {rouge2: 3}}\n")
    result = config(file=file)
    assert (result.training.weight_decay, result.metrics.weights.rouge2, result.metrics.weights.rouge1) == (0.5, 3, 1)


def test_a_file_chooses_groups_by_name(empty_folder: Path):
    file = write(empty_folder / "a.yaml", "model: kobart\nmetrics: char\ntraining: {weight_decay: 0.5}\n")
    result = config(file=file)
    assert (result.model.architecture, result.metrics.scorer) == ("kobart", "char")
    assert (result.training.num_train_epochs, result.training.weight_decay) == (10, 0.5)
    assert config("metrics=kiwi", file=file).metrics.scorer == "kiwi"


@pytest.mark.parametrize(
    "entry", ["override /model: kobart", "model: kobart", "/model: kobart", "override model: kobart"]
)
def test_a_file_with_a_defaults_list(empty_folder: Path, entry: str):
    file = write(empty_folder / "a.yaml", f"defaults:\n  - {entry}\n  - _self_\ntraining: {{weight_decay: 0.5}}\n")
    result = config(file=file)
    assert (result.model.architecture, result.training.weight_decay) == ("kobart", 0.5)


def test_a_file_can_take_a_group_out(empty_folder: Path):
    file = write(empty_folder / "a.yaml", "defaults:\n  - model: null\n  - experiment: null\n")
    assert "model" not in compose(Request([], file, None, {})).groups


@pytest.mark.parametrize("text", ["training:\n", "training: {}\n", "model:\ntraining:\nmetrics:\n  weights: {}\n", ""])
def test_an_empty_section_in_a_file_changes_nothing(empty_folder: Path, text: str):
    file = write(empty_folder / "a.yaml", text)
    chosen = ("model=kobart", "metrics=weighted")
    assert config(*chosen, file=file) == config(*chosen)


def test_dotted_keys_in_a_file(empty_folder: Path):
    file = write(empty_folder / "a.yaml", "training.learning_rate: 1e-4\ntraining.save_total_limit: null\n")
    assert config(file=file).training.learning_rate == 1e-4
    assert config(file=file).training.save_total_limit is None


def test_a_byte_order_mark_does_no_harm(empty_folder: Path):
    file = empty_folder / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbfgeneral: {seed: 3}\n")
    assert config(file=file).general.seed == 3


# --- round trip ---


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["experiment=baseline"],
        ["model=kobart_mini", "metrics=weighted"],
        ["model=kobart", "general.model_name=x/y"],
    ],
    ids=["plain", "baseline", "mini", "alias"],
)
def test_a_saved_configuration_composes_to_itself(
    empty_folder: Path, overrides: list[str], caplog: pytest.LogCaptureFixture
):
    first = config(*overrides, "training.learning_rate=1e-5", "meta.description=설명: 'a' \"b\" # c")
    file = write(empty_folder / "saved.yaml", to_yaml(first))
    again = config(file=file)
    assert again == first
    assert to_yaml(again) == to_yaml(first)
    assert config("model=kobart_mini", file=file) == first, "the file wins over a group"
    assert "model=kobart_mini has no effect" in caplog.text


def test_a_group_named_beside_a_saved_configuration_wins_over_it(empty_folder: Path):
    """`dlgsum evaluate RUN metrics=kiwi` means kiwi, although the run's own file names another scorer."""
    saved = write(empty_folder / "saved.yaml", to_yaml(config("metrics=char", "generation.num_beams=3")))
    again = compose(Request(["metrics=kiwi", "generation.min_length=2"], environ={}, base=saved)).config
    assert (again.metrics.scorer, again.generation.num_beams, again.generation.min_length) == ("kiwi", 3, 2)
    assert compose(Request([], environ={}, base=saved)).config.metrics.scorer == "char"


def test_the_older_warm_up_name_wins_over_lower_layers(empty_folder: Path):
    training = config("model=kobart", "training.warmup_ratio=0.3").training
    assert (training.warmup_steps, training.warmup_ratio) == (0.3, None)
    assert config("model=kobart", "training.warmup_steps=0").training.warmup_steps == 0
    assert config("model=kobart", DLGSUM__TRAINING__WARMUP_RATIO="0.2").training.warmup_steps == 0.2
    with pytest.raises(ConfigError, match="both set"):
        config("training.warmup_ratio=0.1", "training.warmup_steps=10")


@settings(max_examples=8, deadline=None)
@given(st.text(max_size=30), st.lists(st.sampled_from(["${", "\\", "}", "a", "$", "'", ": ", "null", "1e5", "가"])))
def test_any_text_survives_saving(free: str, parts: list[str]):
    plain = config()
    first = dataclasses.replace(
        plain,
        meta=dataclasses.replace(plain.meta, description=free),
        tracking=dataclasses.replace(plain.tracking, notes="".join(parts)),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder) / "saved.yaml", to_yaml(first))
        assert config(file=file) == first


# --- the four-section files that users have ---

LEGACY = """\
meta:
  experiment_name: "dialogue_summarization"
  version: "1.0"
  description: "대화 요약 기본 실험"
general:
  seed: 42
  model_name: "digit82/kobart-summarization"
  output_dir: "./outputs"
  device: "auto"  # auto, cuda, cpu
model:
  architecture: "kobart"
  checkpoint: "digit82/kobart-summarization"
  load_pretrained: true
tokenizer:
  encoder_max_len: 512
  decoder_max_len: 128
training:
  per_device_train_batch_size: 16
  learning_rate: 5e-5
  num_train_epochs: 3
  warmup_ratio: 0.1
  fp16: true
generation:
  num_beams: 4
  length_penalty: 1.0
  no_repeat_ngram_size: 2
  max_length: 100
wandb:
  project: "nlp-dialogue-summarization"
  entity: null
  mode: "online"
"""


def test_the_older_base_config_is_valid_as_it_is(empty_folder: Path):
    result = config(file=write(empty_folder / "config/base_config.yaml", LEGACY))
    assert result.meta.description == "대화 요약 기본 실험"
    assert (result.model.architecture, result.model.checkpoint) == ("kobart", "digit82/kobart-summarization")
    assert (result.training.learning_rate, result.training.fp16, result.training.warmup_steps) == (5e-5, True, 0.1)
    assert (result.generation.max_length, result.wandb.mode, result.wandb.entity) == (100, "online", None)
    assert (result.tokenizer.encoder_max_len, result.tokenizer.decoder_max_len) == (512, 128)


def test_general_model_name_is_another_name_of_the_checkpoint(empty_folder: Path):
    file = write(empty_folder / "a.yaml", "general: {model_name: hub/a}\n")
    assert config(file=file).model.checkpoint == "hub/a"
    assert config("model=kobart", "general.model_name=hub/b", file=file).model.checkpoint == "hub/b"
    assert config("model.checkpoint=hub/c", file=file).model.checkpoint == "hub/c"
    assert config("general.model_name=hub/b", "model.checkpoint=hub/c").model.checkpoint == "hub/c"
    assert from_values({"general": {"model_name": "hub/d"}}).model.checkpoint == "hub/d"


# --- environment ---

SLACK = "https://hooks.slack.com/services/T12345678/B12345678/abcdefghijklmnopqrstuvwx"
DISCORD = "https://discord.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"
ENVIRONMENT = {
    "LEARNING_RATE": ("1e-4", "training.learning_rate", 1e-4),
    "BATCH_SIZE": ("8", "training.per_device_train_batch_size", 8),
    "NUM_EPOCHS": ("2.5", "training.num_train_epochs", 2.5),
    "MODEL_NAME": ("hub/name", "model.checkpoint", "hub/name"),
    "OUTPUT_DIR": ("내 결과/(1), 둘", "general.output_dir", "내 결과/(1), 둘"),
    "WANDB_PROJECT": ("p", "wandb.project", "p"),
    "WANDB_ENTITY": ("team", "wandb.entity", "team"),
    "WANDB_MODE": ("offline", "wandb.mode", "offline"),
    "SLACK_WEBHOOK_URL": (SLACK, "monitoring.alerts.slack_webhook_url", SLACK),
    "DISCORD_WEBHOOK_URL": (DISCORD, "monitoring.alerts.discord_webhook_url", DISCORD),
    "DLGSUM_STORE": ("postgresql://ich:geheim@db/x", "tracking.store", "postgresql://ich:geheim@db/x"),
    "DLGSUM__TRAINING__WEIGHT_DECAY": ("0.2", "training.weight_decay", 0.2),
    "DLGSUM__METRICS__WEIGHTS__ROUGEL": ("2", "metrics.weights.rougeL", 2.0),
    "DLGSUM__TRACKING__TAGS": ("[가, 나 다, '1']", "tracking.tags", ["가", "나 다", "1"]),
    "DLGSUM__TRAINING__SAVE_TOTAL_LIMIT": ("null", "training.save_total_limit", None),
    "DLGSUM__DATA__CACHE": ("false", "data.cache", False),
    "DLGSUM__META__DESCRIPTION": ("a: [b", "meta.description", "a: [b"),
}


def value_of(result: Config, key: str) -> Any:
    value: Any = result
    for part in key.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_an_environment_variable_sets_its_key(variable: str):
    text, key, expected = ENVIRONMENT[variable]
    assert value_of(Config(), key) != expected
    assert value_of(config(**{variable: text}), key) == expected


def test_an_empty_variable_counts_as_unset():
    assert config(**dict.fromkeys(ENVIRONMENT, "")) == config()


def test_the_table_above_holds_every_name_of_env_yaml():
    names = {
        line.split(":")[0] for line in (packaged_conf() / "env.yaml").read_text().splitlines() if line[:1].isupper()
    }
    assert names and names <= set(ENVIRONMENT)


def test_a_mapping_in_a_variable_changes_only_what_it_names():
    weights = config("metrics=weighted", DLGSUM__METRICS__WEIGHTS="{rouge1: 2}").metrics.weights
    assert dataclasses.astuple(weights) == (2, 0.33, 0.34)


def test_other_variables_are_left_alone():
    assert config(DLGSUM_TRAINING__LEARNING_RATE="1", dlgsum__general__seed="3", PATH="/bin", SEED="1") == config()


# --- values on the command line ---


def test_one_e_minus_five_is_a_number_wherever_it_comes_from(empty_folder: Path):
    file = write(empty_folder / "a.yaml", "training: {learning_rate: 1e-5}\n")
    write(empty_folder / "conf/training/mine.yaml", "learning_rate: 1e-5\n")
    for result in (
        config("training.learning_rate=1e-5"),
        config(file=file),
        config(LEARNING_RATE="1e-5"),
        config(DLGSUM__TRAINING__LEARNING_RATE="1e-5"),
        config("training=mine"),
        from_values({"training": {"learning_rate": "1e-5"}}),
    ):
        assert result.training.learning_rate == 1e-5
        assert isinstance(result.training.learning_rate, float)


@pytest.mark.parametrize(
    "path",
    [
        "대화.csv", "내 문서/대화 (1).csv", "a b (1).csv", "가,나.csv", "C:\\data\\train.csv", "C:\\대화\\학습.csv",
        "it's.csv", "그'것.csv", "가 \"나\".csv", "가\\", "가\\'나", "a=b", "~/x", "$HOME/x", "가: 나", "a#b",
        "a;b|c*?", "%TEMP%\\x", "e\u0301.csv", "😀.csv",
    ],
)  # fmt: skip
def test_paths_need_no_quotes(path: str):
    assert parse_overrides([f"data.train={path}"], ()).values == {"data.train": path}


def test_a_path_in_korean_arrives_unchanged():
    assert config("data.train=내 문서/대화 (1).csv").data.train == "내 문서/대화 (1).csv"


@pytest.mark.parametrize("text", ["'가, 나'", '"가, 나"'])
def test_quotes_are_taken_off(text: str):
    assert config(f"meta.description={text}").meta.description == "가, 나"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[요약2,요약3]", ["요약2", "요약3"]),
        ("[요약 2, 요약 (3)]", ["요약 2", "요약 (3)"]),
        ("['요약,2',요약3]", ["요약,2", "요약3"]),
        ("[a,b]", ["a", "b"]),
        ("[a(b), it's]", ["a(b)", "it's"]),
        ("[C:\\가,b]", ["C:\\가", "b"]),
        ("[]", []),
        ("[${meta.version}-가]", ["${meta.version}-가"]),
    ],
)
def test_lists(text: str, expected: list[str]):
    parsed = parse_overrides([f"data.columns.extra_summaries={text}"], ())
    assert (parsed.values, parsed.problems) == ({"data.columns.extra_summaries": expected}, [])


def test_null_on_the_command_line():
    assert config().training.save_total_limit == 2
    assert config("training.save_total_limit=null").training.save_total_limit is None


def test_an_unquoted_comma_says_how_to_quote():
    with pytest.raises(ConfigError) as raised:
        config("data.train=a,b.csv")
    assert "several values" in str(raised.value) and "quote" in str(raised.value)
    hint = "data.train='\"a,b\"'"
    assert hint in str(raised.value)
    assert config(hint.replace("'", "")).data.train == "a,b", "what the hint says works after the shell took its quotes"


@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_plus_signs_of_hydra_are_accepted(sign: str):
    assert config(f"{sign}training.learning_rate=1e-4").training.learning_rate == 1e-4


def test_a_mapping_on_the_command_line():
    assert config("metrics=weighted", "metrics.weights={rouge1: 2}").metrics.weights.rouge2 == 0.33


def test_numbers_may_stand_for_text():
    assert config("meta.version=2.1", "wandb.name=7").wandb.name == "7"


# --- interpolation, frozen ---


def test_interpolation_sees_defaults_and_every_layer(empty_folder: Path):
    file = write(empty_folder / "a.yaml", "meta: {description: 'seed ${general.seed}, ${training.optim}'}\n")
    assert config(file=file).meta.description == "seed 42, adamw_torch"
    assert config("general.seed=7", file=file).meta.description == "seed 7, adamw_torch"
    assert config("general.output_dir=out/${meta.experiment_name}").general.output_dir == "out/dialogue_summarization"


def test_an_escaped_dollar_is_text(empty_folder: Path):
    file = write(empty_folder / "a.yaml", "meta: {description: '\\${general.seed}'}\n")
    first = config(file=file)
    assert first.meta.description == "${general.seed}"
    assert config(file=write(empty_folder / "b.yaml", to_yaml(first))) == first


@pytest.mark.parametrize("text", ["${general.sed}", "${nosuch:1}", "${meta.description}"])
def test_a_broken_interpolation_is_a_configuration_error(text: str):
    with pytest.raises(ConfigError, match="interpolation"):
        config(f"meta.description='{text}'")


def test_a_configuration_cannot_be_changed():
    result = config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.general = result.general  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.training.learning_rate = 1.0  # type: ignore[misc]


def test_lists_are_not_shared_between_configurations():
    config().data.cleaning.append("nfc")
    assert config().data.cleaning == ["nfc", "newlines", "tags", "blanks"]


@pytest.mark.parametrize("text", ["x\x85", "\x85", "가\x85 b", "a\u2028b", "1e5", "${x", "#", " "])
def test_every_text_is_read_back_as_it_was(text: str) -> None:
    import yaml

    from dlgsum.config.dump import dumped

    assert yaml.safe_load(dumped({"a": {"b": text.replace("${", "x")}}))["a"]["b"] == text.replace("${", "x")


def test_a_configuration_that_an_earlier_version_saved_still_loads(tmp_path: Path) -> None:
    saved = tmp_path / "config.yaml"
    saved.write_text("monitoring:\n  non_finite: stop\n  samples: 3\n", encoding="utf-8")
    assert compose(Request(base=saved, environ={})).config.monitoring.samples == 3
    with pytest.raises(
        ConfigError, match=r"monitoring.non_finite: there is no such setting any more.*max_skipped_steps"
    ):
        compose(Request(file=saved, environ={}))
