"""A run that is complete stays complete, whatever goes wrong in what follows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dlgsum.config.schema import Config, General
from dlgsum.core.files import read_json
from dlgsum.recipes import closing
from dlgsum.recipes.observers import observers_of
from dlgsum.recipes.processes import ALONE
from dlgsum.recipes.recorded import Job
from dlgsum.recipes.result import TrainingResult
from dlgsum.recipes.wiring import new_run
from dlgsum.tracking.record import read_record
from dlgsum.tracking.run import RunFolder


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(general=General(output_dir=str(tmp_path / "결과")))


def result_of(run: RunFolder) -> TrainingResult:
    return TrainingResult(
        run_id=run.id, run_dir=str(run.path), model_path=str(run.best_model), best_metrics={"rouge_combined_f1": 0.4},
        best_step=2, signature="s", validation_fingerprint="f", baseline_metrics={}, test_metrics={},
        test_baseline_metrics={}, test_signature="", final_metrics={}, steps=4, epochs=1.0, seconds=1.0,
        stopped_early=False,
    )  # fmt: skip


def job_of(config: Config, run: RunFolder) -> Job:
    return Job(run, ALONE, config, {}, observers_of(config, run, lambda alert: None, first=True), lambda: None)


def raising(error: BaseException) -> Callable[..., None]:
    def fail(*arguments: object) -> None:
        raise error

    return fail


def test_a_run_is_known_from_its_first_second(config: Config) -> None:
    run = new_run(config)
    assert (read_record(run).status, run.state) == ("running", "running")

    def work() -> TrainingResult:
        assert read_json(run.path / "environment.json")["packages"]["torch"]
        return result_of(run)

    job_of(config, run).do(work)
    assert read_record(run).status == "completed"
    assert (Path(config.general.output_dir) / "dlgsum.db").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt(15), OSError("no space"), ImportError("x")])
@pytest.mark.parametrize("part", ["announce", "save_learning_curves", "register_run"])
def test_nothing_that_follows_makes_a_complete_run_anything_else(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str, error: BaseException
) -> None:
    places = {
        "announce": (closing.announce, "completed"),
        "save_learning_curves": ("dlgsum.reporting.charts.training", "save_learning_curves"),
        "register_run": ("dlgsum.tracking.registry.runs", "register_run"),
    }
    where, name = places[part]
    monkeypatch.setattr(f"{where}.{name}" if isinstance(where, str) else where, *(
        [raising(error)] if isinstance(where, str) else [name, raising(error)]
    ))  # fmt: skip
    run = new_run(config)
    assert job_of(config, run).do(lambda: result_of(run)).run_id == run.id
    assert run.state == "completed" and read_record(run).status == "completed"
    assert caplog.text.count(type(error).__name__) >= 1


def test_a_run_that_fails_is_recorded_so(config: Config) -> None:
    run = new_run(config)
    with pytest.raises(ValueError, match="bad"):
        job_of(config, run).do(raising(ValueError("bad")))  # type: ignore[arg-type]
    record = read_record(run)
    assert record.status == "failed" and "bad" in record.reason
