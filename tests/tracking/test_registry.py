"""Models are registered once each, found by every name they have, and compared only where they can be."""

from __future__ import annotations

import errno
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from dlgsum.config.metric_direction import LARGER_IS_BETTER
from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.core.files import append_jsonl, read_json, write_json
from dlgsum.metrics.suite import COMBINED, ROUGE
from dlgsum.tracking.registry import ModelRegistry, model_names, register_run, resolve_reference
from dlgsum.tracking.registry.aliases import append_event, corrected
from dlgsum.tracking.registry.names import safe_name
from dlgsum.tracking.registry.reindex import reindex
from dlgsum.tracking.run import RunFolder

KIWI, CHAR = "rouge_combined_f1|scorer:kiwi|refs:mean", "rouge_combined_f1|scorer:char|refs:mean"


def make_folder(path: Path, weights: bytes = b"weights") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(weights)
    if not (path / "dead").is_symlink():
        (path / "dead").symlink_to("nowhere")  # no file, so that it is not looked for
    return path


def register(registry: ModelRegistry, name: str = "kobart", score: float | None = 0.3, **changes: Any) -> str:
    folder = make_folder(registry.output_dir / "experiments" / "run" / "models" / "best_model")
    values: dict[str, Any] = {
        "architecture": "kobart", "checkpoint": "digit82/kobart-summarization", "config": {},
        "performance": {} if score is None else {"rouge_combined_f1": score}, "training_info": {"epochs": 3},
        "file_path": folder, "signature": KIWI, "validation_fingerprint": "a" * 64, **changes,
    }  # fmt: skip
    return registry.register_model(name, **values)


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(tmp_path / "결과")


def test_the_same_name_again_is_the_next_version(registry: ModelRegistry) -> None:
    assert [register(registry), register(registry), register(registry, "다른 모델")] == [
        "kobart-v1", "kobart-v2", "다른_모델-v1",
    ]  # fmt: skip
    assert read_json(registry.folder / "kobart-v2.json")["schema_version"] == 1
    assert {path.name for path in registry.folder.glob("[!.]*")} == {f"{it.id}.json" for it in registry.models()}


def test_a_version_is_never_given_twice(registry: ModelRegistry) -> None:
    register(registry)
    registry.promote("kobart")
    (registry.folder / "kobart-v1.json").unlink()
    (registry.output_dir / "dlgsum.db").unlink()  # the alias still remembers it
    assert register(registry) == "kobart-v2"
    with pytest.raises(UsageError, match="'champion' means kobart-v1, whose registration is gone"):
        registry.resolve("champion")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("kobart_base_v1", "kobart_base_v1"), ("../../etc/passwd", "etc_passwd"), ("a@3", "a_3"),
        ("models:x", "models_x"), ("kobart-v2", "kobart_v2"),
        ("한국어 요약", "한국어_요약"), ("///", "model"), ("가" * 300, "가" * 60),
    ],
)  # fmt: skip
def test_names_are_safe_for_files(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_model_is_found_by_all_its_names(registry: ModelRegistry) -> None:
    register(registry)
    register(registry)
    register(registry, "실험 하나")
    registry.promote("kobart@1")
    named = {
        "kobart": "kobart-v2", "kobart@1": "kobart-v1", "kobart-v1": "kobart-v1", "champion": "kobart-v1",
        "실험 하나": "실험_하나-v1", "실험_하나@1": "실험_하나-v1",
    }  # fmt: skip
    for name, identity in named.items():
        assert registry.resolve(name).id == registry.resolve(f"models:{name}").id == identity


@pytest.mark.parametrize(
    ("name", "words"),
    [("kobrt", "Did you mean kobart?"), ("kobart@3", "It has @1."), ("kobart@x", "It has @1."), ("", "The newest")],
)
def test_an_unknown_name_gets_a_hint(registry: ModelRegistry, name: str, words: str) -> None:
    register(registry)
    with pytest.raises(UsageError, match=words):
        registry.resolve(name)


def test_a_model_holds_what_it_was_given_without_secrets(registry: ModelRegistry) -> None:
    config = {
        "monitoring": {"alerts": {"urls": ["slack://geheim/bbbb/cccc"]}}, "training": {"learning_rate": 1e-4},
        "tokenizer": {"bos_token": "<s>"}, "my": {"api_key": "sk-123"},
    }  # fmt: skip
    info = {"epochs": 2, "command": "dlgsum train --api-key sk-456"}
    identity = register(registry, config=config, training_info=info, performance={"loss": math.nan, "bleu": 3})
    saved = (registry.folder / f"{identity}.json").read_text(encoding="utf-8")
    assert not any(secret in saved for secret in ("geheim", "sk-123", "sk-456"))
    found = registry.get_model_info(identity)
    assert found["config"]["training"] == {"learning_rate": 1e-4}
    assert found["config"]["tokenizer"] == {"bos_token": "<s>"}
    assert math.isnan(found["performance"]["loss"])
    assert found["performance"]["bleu"] == 3
    assert found["size"] == 9
    assert found["files"]["model.safetensors"]["size"] == 7


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"performance": {"loss": "good"}}, "loss is 'good', not a number"),
        ({"performance": {"loss": None}}, "not a number"), ({"file_path": "/nowhere/at/all"}, "does not exist"),
    ],
)  # fmt: skip
def test_what_cannot_be_registered_is_refused(registry: ModelRegistry, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        register(registry, **changes)
    assert registry.models() == []


def test_the_best_come_first_and_bad_scores_never_win(
    registry: ModelRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    scores = {"older": 0.4, "newer": 0.4, "best": 0.5, "bad": math.nan, "odd": math.inf, "none": None}
    for name, score in scores.items():
        register(registry, name, score)
    assert [it["name"] for it in registry.get_best_models()] == ["best", "older", "newer"]
    assert [it["name"] for it in registry.get_best_models(limit=1)] == ["best"]
    assert "without rouge_combined_f1: none-v1" in caplog.text
    assert "bad-v1 (nan), odd-v1 (inf)" in caplog.text


def test_of_losses_the_smallest_is_the_best(registry: ModelRegistry) -> None:
    for name, loss in (("high", 2.0), ("low", 1.0)):
        register(registry, name, performance={"loss": loss, "test_loss": -loss})
    assert [it["name"] for it in registry.get_best_models("loss")] == ["low", "high"]
    assert [it["name"] for it in registry.get_best_models("test_loss")] == ["high", "low"]
    with pytest.raises(UsageError, match="Did you mean test_loss"):
        registry.get_best_models("tst_loss")


@pytest.mark.parametrize(("larger", "order"), [(False, ["low", "high"]), (None, ["high", "low"])])
def test_an_extra_metric_is_ranked_as_the_training_did(
    registry: ModelRegistry, larger: bool | None, order: list[str]
) -> None:
    config = {"metrics": {"best": "wer", "greater_is_better": larger}}
    for name, value in (("high", 2.0), ("low", 1.0)):
        register(registry, name, performance={"wer": value, "test_wer": value}, config=config)
    assert [it["name"] for it in registry.get_best_models("wer")] == order
    assert [it["name"] for it in registry.get_best_models("test_wer")] == order


@pytest.mark.parametrize("metric", ["runtime", "pred_chars", "test_runtime", "wer"])
def test_what_has_no_known_better_is_not_ranked(registry: ModelRegistry, metric: str) -> None:
    for name, larger in (("a", True), ("b", False)):
        config = {"metrics": {"best": "wer", "greater_is_better": larger}}  # one says so, one the other
        register(registry, name, performance={metric: 1.0}, config=config)
    with pytest.raises(UsageError, match="not known whether larger or smaller"):
        registry.get_best_models(metric)


def test_the_metrics_with_a_known_direction_are_those_that_are_computed() -> None:
    assert set(LARGER_IS_BETTER) == {*ROUGE, COMBINED, "bleu", "distinct_share"}


def test_losses_of_other_tokens_or_smoothing_are_not_ranked_together(
    registry: ModelRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    def one(name: str, loss: float, smoothing: float, **changes: Any) -> None:
        config = {"training": {"label_smoothing_factor": smoothing, "learning_rate": loss}}
        register(registry, name, performance={"loss": loss, "test_loss": loss, "bleu": 1}, config=config, **changes)

    one("a", 1.0, 0.0)
    one("b", 0.5, 0.0)
    assert [it["name"] for it in registry.get_best_models("loss")] == ["b", "a"]
    one("smoothed", 0.1, 0.1)
    for metric in ("loss", "test_loss"):
        with pytest.raises(UsageError, match=r"on 2 scales") as refused:
            registry.get_best_models(metric)
    assert "training.label_smoothing_factor=0.1 (1 model)" in str(refused.value)
    assert len(registry.get_best_models("bleu")) == 3
    chosen = next(it.split()[0] for it in str(refused.value).splitlines() if "factor=0.0" in it)
    assert [it["name"] for it in registry.get_best_models("test_loss", signature=chosen)] == ["b", "a"]
    registry.compare_models(["a", "smoothed"])
    assert "loss, test_loss of a, smoothed do not compare" in caplog.text
    one("other start", 0.1, 0.0, checkpoint="gogamza/kobart-base-v2")
    with pytest.raises(UsageError, match=r"model\.checkpoint=gogamza/kobart-base-v2"):
        registry.get_best_models("loss")


def test_the_tokens_of_kobart_mini_come_from_its_training_rows(registry: ModelRegistry) -> None:
    for name, rows in (("a", "1" * 64), ("b", "2" * 64)):
        info = {"data": {"train": rows}}
        register(
            registry, name, performance={"loss": 1.0}, training_info=info, checkpoint="kobart_mini",
            config={"model": {"checkpoint": "kobart_mini"}},
        )  # fmt: skip
    with pytest.raises(UsageError, match="training rows=222222222222"):
        registry.get_best_models("loss")


def test_other_files_in_the_folder_are_left_alone(registry: ModelRegistry, caplog: pytest.LogCaptureFixture) -> None:
    register(registry)
    (registry.folder / "notes.json").write_text("{")
    write_json(registry.folder / "backup of kobart.json", {"id": "kobart-v1"})
    assert [it.id for it in registry.models()] == ["kobart-v1"]
    assert not caplog.text


def test_a_folder_that_was_trained_from_is_recorded_absolute(
    registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = make_folder(tmp_path / "weights" / "start")
    run = make_run(registry.output_dir)
    write_json(run.path / "environment.json", {"working_directory": str(tmp_path)})
    run.config.write_text("meta: {experiment_name: x}\nmodel: {architecture: bart, checkpoint: weights/start}\n")
    assert registry.get_model_info(register_run(registry, run, run.read_results()))["checkpoint"] == str(start)
    monkeypatch.chdir(tmp_path)
    assert registry.get_model_info(register(registry, checkpoint="weights/start"))["checkpoint"] == str(start)


def test_a_corrected_event_keeps_its_place(registry: ModelRegistry) -> None:
    register(registry)
    register(registry)
    registry.promote("kobart@1")
    registry.promote("kobart@2")
    append_event(registry.folder, corrected(registry.history()[0], "kobart-v9"))
    assert [it.model_id for it in registry.history()] == ["kobart-v9", "kobart-v2"]
    assert model_names(registry.output_dir)[0] == ("champion", "means kobart-v2")


def test_only_scores_of_one_scale_are_ranked(registry: ModelRegistry) -> None:
    register(registry, "one", 0.3)
    register(registry, "two", 0.9, signature=CHAR)
    with pytest.raises(UsageError, match="it is on 2 scales") as refused:
        registry.get_best_models()
    assert KIWI in str(refused.value)
    assert [it["name"] for it in registry.get_best_models(signature=CHAR)] == ["two"]
    assert [it["name"] for it in registry.get_best_models(signature="scorer:kiwi")] == ["one"]
    register(registry, "three", 0.1, validation_fingerprint="b" * 64)
    with pytest.raises(UsageError, match="on rows bbbbbbbbbbbb") as refused:
        registry.get_best_models(signature=KIWI)
    of_three = next(line.split()[0] for line in str(refused.value).splitlines() if "bbbb" in line)
    assert [it["name"] for it in registry.get_best_models(signature=of_three)] == ["three"]
    with pytest.raises(UsageError, match="of the signature 'mecab'"):
        registry.get_best_models(signature="mecab")


def test_search_and_comparison(registry: ModelRegistry, caplog: pytest.LogCaptureFixture) -> None:
    register(registry, "one", 0.3, architecture="t5", experiment_id="run_1")
    register(registry, "two", 0.4)
    register(registry, "three", math.nan)
    registry.promote("one")

    def names(**wanted: Any) -> list[str]:
        return [it["name"] for it in registry.search_models(**wanted)]

    assert names() == ["one", "two", "three"]
    assert names(architecture="t5") == names(alias="champion") == names(experiment_id="run_1") == ["one"]
    assert names(min_performance={"rouge_combined_f1": 0.4}) == names(name="two") == ["two"]
    assert names(alias="nobody") == names(min_performance={"bleu": 0}) == []
    table = registry.compare_models(["two", "one"])
    assert table == {"rouge_combined_f1": [0.4, 0.3]}
    assert not caplog.text
    register(registry, "four", performance={"bleu": 5.0}, signature=CHAR)
    table = registry.compare_models(["two", "four"])
    assert math.isnan(table["rouge_combined_f1"][1])
    assert math.isnan(table["bleu"][0])
    assert "do not compare" in caplog.text


def test_an_alias_has_a_history(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    register(registry)
    register(registry)
    assert registry.promote("kobart@1", note="first") is None
    assert registry.promote("kobart@2") == "kobart-v1"
    assert registry.promote("champion", "challenger") is None  # an alias of an alias is one of its model
    assert registry.promote("kobart@2") == "kobart-v2"  # nothing changed: no event
    assert registry.aliases() == {"challenger": "kobart-v2", "champion": "kobart-v2"}
    assert registry.demote("champion") == "kobart-v2"
    assert [(it.model_id, it.note) for it in registry.history("champion")] == [
        ("kobart-v1", "first"), ("kobart-v2", ""), (None, ""),
    ]  # fmt: skip
    assert all("@" in it.by for it in registry.history())
    with pytest.raises(UsageError, match="There are: challenger"):
        registry.demote("champion")


def test_a_clock_that_was_set_back_does_not_undo_an_alias(registry: ModelRegistry) -> None:
    register(registry)
    register(registry)
    future = {"id": "f" * 32, "alias": "champion", "model_id": "kobart-v1", "time": "2999-01-01T00:00:00+00:00"}
    append_jsonl(registry.folder / "aliases.jsonl", future)
    registry.promote("kobart@2")
    assert registry.aliases() == {"champion": "kobart-v2"}


@pytest.mark.parametrize("alias", ["kobart", "a@b", "a:b", "a/b", "", "latest", "kobart-v7", "x" * 101, "-x"])
def test_an_alias_that_would_mean_something_else_is_refused(registry: ModelRegistry, alias: str) -> None:
    register(registry)
    with pytest.raises(UsageError, match="cannot be an alias"):
        registry.promote("kobart", alias)


def test_files_that_change_or_go_are_noticed_and_moved_folders_followed(registry: ModelRegistry) -> None:
    register(registry)
    assert registry.get_model_info("kobart")["files_state"] == "there"
    moved = registry.output_dir.parent / "moved"
    shutil.move(registry.output_dir, moved)
    there = ModelRegistry(moved)
    assert there.get_model_info("kobart")["path"] == str(moved / "experiments/run/models/best_model")
    found = resolve_reference("models:kobart", output_dir=moved)
    assert (found.folder.is_dir(), found.id) == (True, "kobart-v1")
    (found.folder / "model.safetensors").write_bytes(b"longer weights")
    assert there.get_model_info("kobart")["files_words"] == "1 file changed"
    (found.folder / "model.safetensors").unlink()
    assert there.get_model_info("kobart")["files_words"] == "1 file of 2 gone"
    shutil.rmtree(found.folder)
    assert not there.get_model_info("kobart")["exists"]
    with pytest.raises(UsageError, match="files of the model kobart-v1 are gone"):
        resolve_reference("models:kobart", output_dir=moved)


def test_a_damaged_file_is_warned_about_and_stops_nothing(
    registry: ModelRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    register(registry)
    good = read_json(registry.folder / "kobart-v1.json")
    (registry.folder / "kobart-v2.json").write_text('{"id": "kob')
    write_json(registry.folder / "kobart-v3.json", good)  # a copy of another
    write_json(registry.folder / "kobart-v4.json", {**good, "id": "kobart-v4", "version": 4, "files": [1]})
    (registry.folder / "aliases.jsonl").write_text('{"alias": 3}\nnonsense\n[]\n')
    assert [it.id for it in registry.models()] == ["kobart-v1"]
    assert len(caplog.records) == 3
    assert "registration of kobart-v1, under another name" in caplog.text
    assert registry.aliases() == {}
    assert register(registry) == "kobart-v5"
    registry.promote("kobart@5")
    assert len(caplog.records) == 3  # said once


def test_a_broken_database_loses_nothing(registry: ModelRegistry, caplog: pytest.LogCaptureFixture) -> None:
    registry.output_dir.mkdir()
    (registry.output_dir / "dlgsum.db").write_text("this is no database, and never was one " * 100)
    register(registry)
    registry.promote("kobart")
    assert [len(registry.models()), registry.aliases()] == [1, {"champion": "kobart-v1"}]
    assert caplog.text.count("the database of models cannot be used") == 1


def test_what_cannot_be_read_as_aliases_stops_no_list(
    registry: ModelRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    register(registry)
    (registry.folder / "aliases.jsonl").mkdir()
    assert [it["aliases"] for it in registry.search_models()] == [[]]
    assert caplog.text.count("cannot be read") == 1
    with pytest.raises(EnvironmentProblem):
        registry.promote("kobart")


def test_a_full_disk_leaves_no_row_without_a_file(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dlgsum.tracking.registry.registry.write_model", full)
        with pytest.raises(EnvironmentProblem, match="No space left"):
            register(registry)
    assert register(registry) == "kobart-v1"


def make_run(outputs: Path, name: str = "실험", identity: str = "20260101_000000_aaaa") -> RunFolder:
    run = RunFolder(outputs / "experiments" / identity)
    make_folder(run.best_model, identity.encode())
    model = "model: {architecture: kobart, checkpoint: digit82/kobart-summarization}"
    training = "training: {learning_rate: 0.001, per_device_train_batch_size: 8}"
    run.config.write_text(f"meta: {{experiment_name: {name}}}\n{model}\n{training}\ngeneral: {{seed: 7}}\n")
    splits = [{"name": "validation", "fingerprint": "c" * 64, "rows": 5}, {"name": "test", "fingerprint": "d" * 64}]
    write_json(run.path / "data.json", {"splits": splits})
    result = {
        "best_metrics": {"rouge_combined_f1": 0.5, "loss": "NaN"}, "test_metrics": {"rouge_combined_f1": 0.4},
        "signature": KIWI, "test_signature": CHAR, "validation_fingerprint": "c" * 64, "epochs": 2.0, "steps": 9,
        "seconds": 1.5, "best_step": 8,
    }  # fmt: skip
    write_json(run.results, result)
    run.status("completed")
    return run


def test_a_run_is_registered_once_and_again_when_its_weights_change(registry: ModelRegistry) -> None:
    run = make_run(registry.output_dir)
    result = run.read_results()
    assert [register_run(registry, run, result) for _ in range(2)] == ["실험-v1", "실험-v1"]
    (run.best_model / "README.md").write_text("words")
    assert register_run(registry, run, result) == "실험-v1"
    (run.best_model / "model.safetensors").write_bytes(b"resumed")
    assert register_run(registry, run, result) == "실험-v2"
    assert registry.get_model_info("실험@1")["files_state"] == "changed"
    model = registry.resolve("실험")
    assert model.performance["test_rouge_combined_f1"] == 0.4
    assert math.isnan(model.performance["loss"])
    assert (model.checkpoint, model.experiment_id) == ("digit82/kobart-summarization", run.id)
    assert {"batch_size": 8, "learning_rate": 0.001, "seed": 7, "epochs": 2.0}.items() <= model.training_info.items()
    assert [it["name"] for it in registry.get_best_models("test_rouge_combined_f1", signature=CHAR)] == ["실험"] * 2


def test_reindex_makes_the_tables_anew_and_registers_what_is_missing(registry: ModelRegistry) -> None:
    from sqlalchemy import text

    from dlgsum.tracking.store.store import Store

    make_run(registry.output_dir)
    make_run(registry.output_dir, "broken", "20260102_000000_bbbb").results.write_text("{")
    register(registry)
    registry.promote("kobart")
    (registry.output_dir / "dlgsum.db").unlink()
    (registry.folder / "damaged-v1.json").write_text("")
    done = reindex(ModelRegistry(registry.output_dir))
    assert (done.models, done.registered) == (["kobart-v1", "실험-v1"], ["실험-v1"])
    assert len(done.notes) == 2
    (registry.folder / "kobart-v1.json").unlink()
    assert reindex(ModelRegistry(registry.output_dir)).models == ["실험-v1"]
    store = Store.open(None, registry.output_dir)
    with store.session() as session:
        rows = list(session.execute(text("SELECT id, name, version, files FROM models")))
        events = list(session.execute(text("SELECT alias, model_id FROM alias_events")))
    store.close()
    assert [(it.id, it.name, it.version) for it in rows] == [("실험-v1", "실험", 1)]
    assert json.loads(rows[0].files).keys() == {"config.json", "model.safetensors"}
    assert [tuple(it) for it in events] == [("champion", "kobart-v1")]


def test_names_for_completion_come_from_the_files_alone(registry: ModelRegistry) -> None:
    assert model_names(registry.output_dir) == []
    register(registry)
    register(registry)
    register(registry, "한글")
    registry.promote("한글")
    registry.promote("kobart", "old")
    registry.demote("old")
    assert model_names(registry.output_dir) == [
        ("champion", "means 한글-v1"), ("kobart", "model, newest version 2"), ("한글", "model, version 1"),
    ]  # fmt: skip
