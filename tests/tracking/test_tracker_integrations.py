"""Trackers that transformers integrates are driven by our stream."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import integration_utils

from dlgsum.config.schema import Config
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.tracking.choice import INTEGRATIONS, tracker_class
from dlgsum.tracking.integrations import Integration, integration
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.tracker import Opening

SECRET = "geheim123"


def config() -> Config:
    plain = Config()
    return dataclasses.replace(
        plain,
        training=dataclasses.replace(plain.training, learning_rate=1.5e-4),
        tracking=dataclasses.replace(plain.tracking, store=f"postgresql://a:{SECRET}@db/x"),
        meta=dataclasses.replace(plain.meta, experiment_name="실험 하나"),
    )


def opening(tmp_path: Path, resumed_at: int | None = None) -> Opening:
    return Opening(RunFolder.create(tmp_path), config(), resumed_at)


def test_the_names_are_those_that_transformers_has() -> None:
    assert set(INTEGRATIONS) == set(integration_utils.INTEGRATION_TO_CALLBACK)


def test_metrics_arrive_under_our_names(tmp_path: Path) -> None:
    """Through transformers' own callback for TensorBoard, read back with TensorBoard's own reader."""
    start = opening(tmp_path)
    tracker = integration("tensorboard").open(start)
    metrics = {"train/loss": 1.0, "eval/한글": 0.5, "test/loss": 2.0, "monitor/grad_norm": 3.0, "lr": math.nan}
    tracker.log(7, metrics)
    tracker.log(7, {"eval/loss": 4.0})
    tracker.finish({"best": 1}, failed=False)
    (folder,) = (start.run.path / "tensorboard" / "runs").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {*metrics, "eval/loss"}
    assert [(event.step, event.value) for event in events.Scalars("monitor/grad_norm")] == [(7, 3.0)]
    (text,) = events.Tensors("args/text_summary")
    written = text.tensor_proto.string_val[0].decode()
    assert '"training.learning_rate": 0.00015' in written, "our configuration, not transformers' defaults"
    assert SECRET not in b"".join(path.read_bytes() for path in folder.iterdir()).decode("latin-1")


class Other(TrainerCallback):
    """A callback of somebody else's."""

    seen: ClassVar[list[tuple[str, TrainingArguments, TrainerState, dict[str, Any]]]] = []

    def _see(self, event: str, args: Any, state: Any, control: Any, details: dict[str, Any]) -> None:
        assert isinstance(args, TrainingArguments) and isinstance(state, TrainerState)
        assert isinstance(control, TrainerControl) and state.is_world_process_zero and state.is_local_process_zero
        Other.seen.append((event, args, dataclasses.replace(state), details))

    def on_init_end(self, args: Any, state: Any, control: Any, **details: Any) -> None:
        self._see("init", args, state, control, details)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **details: Any) -> None:
        self._see("begin", args, state, control, details)

    def on_log(self, args: Any, state: Any, control: Any, model: Any = None, logs: Any = None, **details: Any) -> None:
        self._see("log", args, state, control, logs)

    def on_train_end(self, args: Any, state: Any, control: Any, **details: Any) -> None:
        self._see("end", args, state, control, details)


@pytest.mark.parametrize("resumed_at", [None, 4])
def test_a_callback_goes_through_the_life_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed_at: int | None
) -> None:
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "swanlab", Other)
    monkeypatch.setattr(Other, "seen", [])
    kind = tracker_class("swanlab")
    assert issubclass(kind, Integration) and (kind.name, kind.title) == ("swanlab", "SwanLab")
    kind.prepare()
    start = opening(tmp_path, resumed_at)
    tracker = kind.open(start)
    tracker.log(5, {"train/loss": 1.0, "eval/loss": 2.0})
    tracker.finish({}, failed=True)
    assert [event for event, *_ in Other.seen] == ["init", "begin", "log", "end"]
    _, args, state, logs = Other.seen[2]
    assert state.global_step == 5 and logs == {"train/loss": 1.0, "eval/loss": 2.0}
    assert args.run_name == "실험 하나" and args.learning_rate == 1.5e-4 and args.to_dict()["general.seed"] == args.seed
    assert Path(args.output_dir) == start.run.path / "swanlab"
    assert bool(args.resume_from_checkpoint) == (resumed_at is not None)
    assert SECRET not in str(args.to_sanitized_dict()) + args.to_json_string()


def test_the_device_of_the_trainer_is_left_alone(tmp_path: Path) -> None:
    """Arguments that set themselves up would reset the state that all processes share."""
    from accelerate.state import PartialState

    before = PartialState()._shared_state.copy()
    integration("tensorboard").open(opening(tmp_path)).finish({}, failed=False)
    assert PartialState._shared_state == before


MISSING = [
    name for name in INTEGRATIONS if name not in ("tensorboard", "mlflow", "wandb", "neptune", "flyte", "kubeflow")
]


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_package_is_named_with_its_cure(name: str) -> None:
    with pytest.raises(EnvironmentProblem, match=rf"tracking.trackers={name}.*pip install"):
        tracker_class(name).prepare()
