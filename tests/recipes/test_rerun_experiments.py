"""What a run would be trained again with, and what is not as it was; training itself is tests/e2e/test_rerun.py."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants
from typer.testing import CliRunner

from dlgsum.cli.app import app
from dlgsum.config.compose import compose, to_yaml
from dlgsum.config.request import Request
from dlgsum.core.errors import ConfigError, DataError, EnvironmentProblem, UsageError
from dlgsum.core.files import read_json, write_json
from dlgsum.recipes import continuing, rerun, starting_weights, wiring
from dlgsum.recipes.limits import Limits
from dlgsum.recipes.result import TrainingResult
from dlgsum.recipes.settle import settle_config
from dlgsum.tracking.environment import describe_environment
from dlgsum.tracking.run import Parent, RunFolder

SECRET = "https://hooks.slack.com/services/T00000000/B00000000/geheimgeheimgeheimgehei"
ROW = 'r_{i},"#Person1#: {i}시에 만날까요?\n#Person2#: 네.",#Person1#은 {i}시에 만납니다.,약속\n'


RESULT = TrainingResult(
    run_id="", run_dir="", model_path="", best_metrics={"loss": 1.0}, best_step=3, signature="s",
    validation_fingerprint="v", baseline_metrics={}, test_metrics={}, test_baseline_metrics={}, test_signature="",
    final_metrics={}, steps=3, epochs=1.0, seconds=1.0, stopped_early=False, choices={"device": "cpu"},
)  # fmt: skip


def rows(count: int) -> str:
    return "fname,dialogue,summary,topic\n" + "".join(ROW.format(i=i) for i in range(count))


@cache
def environment() -> dict[str, Any]:
    return describe_environment()


@pytest.fixture
def trained(tmp_path: Path) -> RunFolder:
    """Return a run as training leaves it, but for its model."""
    (tmp_path / "학습.csv").write_text(rows(6), encoding="utf-8")
    (tmp_path / "개발.csv").write_text(rows(3), encoding="utf-8")
    files = [f"data.train='{tmp_path / '학습.csv'}'", f"data.validation='{tmp_path / '개발.csv'}'", "data=csv"]
    given = [
        "model=kobart_mini", "metrics=char", "training.learning_rate=0.003", "general.seed=5",
        f"general.output_dir='{tmp_path / 'outputs'}'", f"monitoring.alerts.slack_webhook_url='{SECRET}'",
    ]  # fmt: skip
    config = settle_config(compose(Request(overrides=[*files, *given], environ={})).config).config
    run = wiring.new_run(config)
    run.status("completed")
    run.event("start", processes=1)
    write_json(run.path / "environment.json", environment())
    splits = wiring.build_splits(config)
    write_json(run.path / "data.json", {"splits": [split.describe() for split in splits.all]})
    return run


def find(run: RunFolder, *overrides: str, folder: Path | None = None, **options: Any) -> rerun.Rerun:
    request = Request(overrides=[f"general.output_dir='{folder or run.path.parent.parent}'"], environ={})
    return rerun.find(run.id if folder is None else str(run.path), overrides, request, **options)


def told(found: rerun.Rerun) -> list[str]:
    return [str(it) for it in found.changed if it.kind != "commit"]  # of the working directory, which tests change


def test_nothing_differs_from_a_moment_ago(trained: RunFolder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEARNING_RATE", "0.5")  # what is saved holds, whatever the environment says
    monkeypatch.setenv("SLACK_WEBHOOK_URL", SECRET)
    found = find(trained)
    assert told(found) == []
    config = found.settled.config
    assert (config.training.learning_rate, config.general.seed, config.metrics.scorer) == (0.003, 5, "char")
    assert config.monitoring.alerts.slack_webhook_url == SECRET, "secrets are not saved; the environment has them"
    assert SECRET not in repr(found.changed) + repr(found.notes)
    assert [len(split) for split in found.splits.all] == [6, 3]


def test_the_new_run_goes_where_the_command_looks(trained: RunFolder, tmp_path: Path):
    found = find(trained, folder=tmp_path / "다른 곳")
    assert wiring.output_dir(found.settled.config) == tmp_path / "다른 곳" and told(found) == []
    run = wiring.new_run(found.settled.config, Parent("rerun", trained.id))
    assert run.path.parent.parent == tmp_path / "다른 곳" and run.parent == Parent("rerun", trained.id)


def test_what_is_asked_to_be_another_is_told(trained: RunFolder):
    found = find(trained, "general.seed=6", "meta.experiment_name=다시", processes=2)
    assert told(found) == [
        "meta.experiment_name: dialogue_summarization → 다시", "general.seed: 5 → 6",
        "processes: 1 → 2 (a step has other rows; --nproc 1 is as it was)",
    ]  # fmt: skip
    assert [it.decides for it in found.changed] == [False, True, True]
    with pytest.raises(ConfigError, match="learning_rate"):
        find(trained, "training.learning_rat=1")


def test_other_rows_are_allowed_and_told(trained: RunFolder, tmp_path: Path):
    (tmp_path / "개발.csv").write_text(rows(2), encoding="utf-8")
    [changed] = find(trained).changed
    assert (changed.kind, changed.name, changed.decides) == ("data", "validation rows", True)
    assert changed.then.endswith("(3 rows)") and changed.now.endswith("(2 rows)")


def test_test_rows_that_come_later_decide_nothing(trained: RunFolder, tmp_path: Path):
    (tmp_path / "test.csv").write_text(rows(1), encoding="utf-8")
    found = find(trained, f"data.test='{tmp_path / 'test.csv'}'")
    [changed] = [it for it in found.changed if it.kind == "data"]
    assert (changed.name, changed.then, changed.decides) == ("test rows", "none", False)


def test_a_file_that_is_gone_is_named(trained: RunFolder, tmp_path: Path):
    (tmp_path / "학습.csv").unlink()
    with pytest.raises(DataError, match=r"학습[^ ]* does not exist") as caught:
        find(trained)
    assert "data.train=FILE" in caught.value.hint
    assert len(list(trained.path.parent.iterdir())) == 1, "no folder of a run that could not begin"


def test_another_machine_and_other_versions_are_told(trained: RunFolder):
    then = read_json(trained.path / "environment.json")
    then["packages"] = {**then["packages"], "torch": "2.1.0", "gone-package": "1.0"}
    then |= {"python": "3.10.1", "gpus": ["NVIDIA H200"], "git": {"commit": "a" * 40, "dirty": True}}
    then.pop("cpu_count")
    write_json(trained.path / "environment.json", then)
    found = find(trained)
    text = "\n".join(told(found))
    assert "python: 3.10.1 → 3." in text and "torch: 2.1.0 → 2." in text and "gone-package: 1.0 → none" in text
    assert "gpus: NVIDIA H200 → none" in text and f"commit: {'a' * 40} → " in str(found.changed[-1])
    assert "cpu count" not in text, "what was not recorded is not known to be another"
    assert any("not committed" in note for note in found.notes)


def test_a_record_that_is_lost_is_told(trained: RunFolder):
    (trained.path / "environment.json").unlink()
    (trained.path / "data.json").write_text("{", encoding="utf-8")
    (trained.path / "events.jsonl").unlink()
    found = find(trained)
    assert told(found) == []
    assert sum("cannot be read" in note for note in found.notes) == 2


def test_what_is_chosen_anew_is_told(trained: RunFolder):
    write_json(trained.results, {"choices": {"device": "cuda: one GPU; bf16"}})
    config = yaml.safe_load(trained.config.read_text(encoding="utf-8"))
    config["training"]["per_device_train_batch_size"] = "auto"
    del config["training"]["keep_best"]
    trained.write_config(yaml.safe_dump(config))
    trained.status("failed")
    notes = "\n".join(find(trained).notes)
    assert "it is failed: there is no final result" in notes
    assert "younger than the run get their defaults: training.keep_best" in notes
    assert "batch size was settled" in notes and "then: cuda: one GPU; bf16" in notes
    settled = find(trained, "general.device=cpu", "training.precision=fp32").notes
    assert not any("device" in note for note in settled)


def test_a_run_of_a_notebook_cannot_be_run_again(tmp_path: Path):
    run = RunFolder.create(tmp_path)
    run.write_config("meta: {experiment_name: 내 실험}\nlr: 0.1\n")
    with pytest.raises(UsageError, match="was not trained by dlgsum: its configuration lacks sections such as data"):
        find(run)


@pytest.mark.parametrize("given", [[], ["--store"], ["override"]])
def test_the_new_run_goes_into_the_index_that_the_command_names(
    trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str]
):
    address, real, seen = f"sqlite:///{tmp_path / '다른.db'}", rerun.find, []
    monkeypatch.setattr(rerun, "find", lambda *args, **options: seen.append(real(*args, **options)) or seen[-1])
    monkeypatch.setenv("DLGSUM_STORE", "sqlite:///elsewhere.db" if given else address)
    asked = {"--store": ["--store", address], "override": [f"tracking.store='{address}'"]}[given[0]] if given else []
    folder = str(trained.path.parent.parent)
    command = ["experiments", "rerun", trained.id, *asked, "--dry-run", "--json", "--output-dir", folder]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert seen[0].settled.config.tracking.store == address
    assert json.loads(done.stdout)["changed"] == [], "where it is indexed is no difference"


def make_base(folder: Path, weights: bytes = b"weights") -> Path:
    """Lay down files as a checkpoint has them; nothing loads them here."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "bart"}', encoding="utf-8")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def started_from(run: RunFolder, checkpoint: str, *, recorded: bool = True) -> RunFolder:
    """Make the run one that starts from a checkpoint, named in this working directory."""
    config = compose(Request(base=run.config, environ={}, overrides=[f"model.checkpoint={checkpoint}",
                                                                     "model.architecture=auto"])).config  # fmt: skip
    settled = settle_config(config)
    run.write_config(to_yaml(settled.config if recorded else config))
    if recorded:
        starting_weights.record(run, settled)
    return run


def test_a_relative_base_is_found_from_elsewhere(trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    base = make_base(tmp_path / "t5" / "mybase")
    monkeypatch.chdir(base.parent)
    started_from(trained, "mybase")
    make_base(tmp_path / "elsewhere" / "mybase", b"other weights")
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = find(trained)
    assert found.settled.config.model.checkpoint == found.settled.model.checkpoint == str(base)
    assert (told(found), found.base_unknown) == ([], "")
    assert "general.seed: 5 → 6" in told(find(trained, "general.seed=6", "training.fp16=true"))


def test_a_base_that_was_replaced_is_told(trained: RunFolder, tmp_path: Path):
    base = make_base(tmp_path / "mybase")
    started_from(trained, str(base))
    make_base(base, b"other weights")
    (base / "tokenizer.json").write_text("{}", encoding="utf-8")
    weights, tokenizer = find(trained).changed
    assert (weights.kind, weights.name, weights.decides) == ("base", f"model.safetensors of {base}", True)
    assert weights.then != weights.now and len(weights.then) == len(weights.now) == 12
    assert (tokenizer.name, tokenizer.then) == (f"tokenizer.json of {base}", "none")


def test_a_base_that_is_gone_is_named_before_training(trained: RunFolder, tmp_path: Path):
    base = make_base(tmp_path / "mybase")
    started_from(trained, str(base))
    base.rename(tmp_path / "moved")
    with pytest.raises(EnvironmentProblem, match=f"{base}' does not exist") as caught:
        find(trained)
    assert "model.checkpoint=FOLDER" in caught.value.hint
    moved = find(trained, f"model.checkpoint='{tmp_path / 'moved'}'")
    assert [it.kind for it in moved.changed] == ["setting"], "it has the same files"


def test_the_base_of_an_older_run_is_unknown(trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_base(tmp_path / "mybase")
    monkeypatch.chdir(tmp_path)
    started_from(trained, "mybase", recorded=False)
    found = find(trained)
    assert told(found) == [] and found.base_unknown in found.notes
    assert "what" in found.base_unknown and "(mybase) is unknown: it is not recorded" in found.base_unknown
    write_json(trained.path / "environment.json", {**environment(), "working_directory": str(tmp_path)})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentProblem) as caught:
        find(trained)
    assert f"model.checkpoint={tmp_path / 'mybase'}" in caught.value.hint


def test_a_hub_base_is_known_by_its_files_and_its_commit(
    trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    cache, commits = tmp_path / "hub" / "models--kim--base", ["a" * 40, "b" * 40, "c" * 40]
    (cache / "refs").mkdir(parents=True)

    def main_is(commit: str, weights: bytes) -> None:
        make_base(cache / "snapshots" / commit, weights)
        (cache / "refs" / "main").write_text(commit)

    main_is(commits[0], b"weights")
    started_from(trained, "kim/base")
    assert read_json(trained.path / "starting_weights.json")["commit"] == commits[0]
    main_is(commits[1], b"weights")
    assert told(find(trained)) == [], "another commit with the same files"
    main_is(commits[2], b"other weights")
    [changed] = find(trained).changed
    assert f"model.revision={commits[0]} has it" in changed.then
    assert "model.safetensors" not in str(told(find(trained, f"model.revision={commits[0]}")))
    (cache / "refs" / "main").unlink()
    late = find(trained)
    assert told(late) == [] and any("is found out later: it is not in the local cache" in note for note in late.notes)


def test_the_base_is_among_the_reasons_for_other_weights(
    trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    base = make_base(tmp_path / "mybase")
    started_from(trained, str(base))
    new = RunFolder.create(tmp_path / "new")
    result = dataclasses.replace(RESULT, run_dir=str(new.path))
    unchanged = find(trained)
    make_base(base, b"other weights")  # what the hub gives may be known only after it was loaded
    starting_weights.record(new, unchanged.settled)
    [reason] = rerun._reasons(unchanged, result, None)
    assert reason.startswith(f"model.safetensors of {base}: ")
    assert rerun._reasons(find(trained), result, None) == [reason], "told once"
    (trained.path / "starting_weights.json").unlink()
    [reason] = rerun._reasons(find(trained), result, None)
    assert "is unknown: it is not recorded" in reason and "nothing that is recorded" not in reason


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        ("mybase", "/x/mybase", True),
        ("/x/y/mybase", "./y/mybase", True),
        ("./mybase", "mybase", True),
        ("mybase", "/x/yourbase", False),
        ("/x/mybase", "/y/mybase", False),
        ("kim/base", "lee/base", False),
    ],
)
def test_a_base_that_is_saved_absolute_by_now_is_no_change_for_resume(
    trained: RunFolder, before: str, now: str, same: bool
):
    one, other = (
        compose(
            Request(base=trained.config, environ={}, overrides=[f"model.checkpoint={it}", "model.architecture=auto"])
        ).config
        for it in (before, now)
    )
    assert (continuing.changed_settings(one, other) == []) is same


SAME, OTHER = b"weights", b"other weights"


@pytest.mark.parametrize(
    ("then", "now", "overrides", "same", "reasons"),
    [
        (SAME, SAME, [], True, []),
        (SAME, OTHER, ["general.seed=6", "meta.experiment_name=x"], False, ["general.seed: 5 → 6"]),
        (SAME, OTHER, [], False, ["nothing that is recorded; another model of processor adds up in another order"]),
        (None, SAME, [], None, []),
    ],
)
def test_the_weights_are_compared(
    trained: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    then: bytes | None,
    now: bytes,
    overrides: Sequence[str],
    same: bool | None,
    reasons: list[str],
):
    def model(run: RunFolder, weights: bytes) -> None:
        run.best_model.mkdir(parents=True)
        (run.best_model / "model.safetensors").write_bytes(weights)

    def train(settled: Any, *, processes: int, limits: Any, parent: Parent, splits: Any) -> TrainingResult:
        run = wiring.new_run(settled.config, parent)
        model(run, now)
        return dataclasses.replace(RESULT, run_id=run.id, run_dir=str(run.path), model_path=str(run.best_model))

    write_json(trained.results, {**dataclasses.asdict(RESULT), "validation_fingerprint": "w"})
    if then is not None:
        model(trained, then)
    monkeypatch.setattr(rerun, "start", train)
    outcome = rerun.train(find(trained, *overrides), Limits())
    assert (outcome.same, outcome.reasons) == (same, reasons)
    assert outcome.metrics_then == {"loss": 1.0} and outcome.step_then == 3
    assert outcome.other_scale == "other validation rows"
    new = RunFolder(Path(outcome.result.run_dir))
    assert new.parent == Parent("rerun", trained.id) and new.path != trained.path
    assert yaml.safe_load(new.config.read_text(encoding="utf-8"))["training"]["learning_rate"] == 0.003
    assert json.dumps(dataclasses.asdict(outcome))


def test_the_saved_configuration_is_the_one_that_would_be_saved_again(trained: RunFolder):
    assert to_yaml(find(trained).settled.config) == trained.config.read_text(encoding="utf-8")
