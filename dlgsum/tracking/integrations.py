"""Trackers that transformers integrates: its callbacks, driven by our stream of metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from dlgsum.config.masking import plain
from dlgsum.config.origin import flatten
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.tracking.tracker import Opening, Tracker
from dlgsum.tracking.trackers.mlflow import quiet

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainingArguments

_TITLES = {
    "azure_ml": "Azure ML", "clearml": "ClearML", "codecarbon": "CodeCarbon", "comet_ml": "Comet", "dagshub": "DagsHub",
    "dvclive": "DVCLive", "flyte": "Flyte", "kubeflow": "Kubeflow", "neptune": "Neptune", "swanlab": "SwanLab",
    "trackio": "Trackio",
}  # fmt: skip


class _Name(str):
    """The name of a metric that stays as it is where a callback of transformers puts ``train/`` before it.

    Those callbacks know ``eval_…`` and ``test_…``, and take every other metric for one of training.
    """

    __slots__ = ()

    def __radd__(self, before: str) -> str:
        return str(self)


class Integration(Tracker):
    """One of transformers' callbacks as a mirror: metrics, begin and end; it is set up by its own variables.

    The callback gets arguments whose values are those of our configuration, and no model.
    """

    integration: ClassVar[str]

    def __init__(self, callback: TrainerCallback, args: TrainingArguments) -> None:
        from transformers import TrainerControl, TrainerState

        self._callback = callback
        self._args = args
        self._state = TrainerState()
        self._state.max_steps = max(args.max_steps, 0)
        self._control = TrainerControl()
        self._tell("on_init_end")
        self._tell("on_train_begin")

    @classmethod
    def prepare(cls) -> None:
        """Make a callback and let it go: most import their package then.

        Raises:
            EnvironmentProblem: the package is missing, or the callback cannot work here.
        """
        cls._callback_of_name()

    @classmethod
    def open(cls, opening: Opening) -> Integration:
        """Begin a record; what the callback writes to ``output_dir`` goes to a folder of its own in the run's."""
        return cls(cls._callback_of_name(), arguments(opening, cls.integration))

    @classmethod
    def _callback_of_name(cls) -> TrainerCallback:
        from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

        if cls.integration == "dagshub":  # which is MLflow
            quiet()
        try:
            return INTEGRATION_TO_CALLBACK[cls.integration]()  # type: ignore[no-any-return]
        except (ImportError, RuntimeError, ValueError) as error:  # they say what to install
            raise EnvironmentProblem(f"tracking.trackers={cls.integration}: {error}") from error

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one step, under our names."""
        self._state.global_step = step
        self._state.log_history.append({**metrics, "step": step})
        self._tell("on_log", logs={_Name(name): value for name, value in metrics.items()})
        self._tell("on_step_end")

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """End the record; the callbacks have no place for a summary or a failure."""
        self._tell("on_train_end")

    def _tell(self, event: str, **details: Any) -> None:
        getattr(self._callback, event)(
            self._args, self._state, self._control, model=None, processing_class=None, **details
        )


@cache
def integration(name: str) -> type[Integration]:
    """Return the tracker that drives transformers' callback of a name."""
    members = {"integration": name, "name": name, "title": _TITLES.get(name, name)}
    return type(f"{name}_integration", (Integration,), members)


def arguments(opening: Opening, name: str) -> TrainingArguments:
    """Return arguments for a callback, which logs them: those of our settings that have transformers' names.

    As a dictionary they are our whole configuration, flat and without secrets.
    """
    from transformers import TrainingArguments

    class Arguments(TrainingArguments):
        """Not set up: that would reset the process group and the device of the trainer at work."""

        def __post_init__(self) -> None:
            pass

        def to_dict(self) -> dict[str, Any]:
            return dict(flatten(plain(opening.config)))

        to_sanitized_dict = to_dict

    config = opening.config
    known = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    ours = {name: value for name, value in vars(config.training).items() if name in known and value != "auto"}
    return Arguments(
        **ours,
        output_dir=str(opening.run.path / name),
        run_name=config.meta.experiment_name,
        seed=config.general.seed,
        report_to=[],
        resume_from_checkpoint=None if opening.resumed_at is None else str(opening.run.checkpoints),
    )
