"""Train a summarizer: from a settled configuration to the best model and its scores."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.compose import to_yaml
from dlgsum.config.schema import Config
from dlgsum.core.errors import UsageError
from dlgsum.core.signals import signals_as_wish
from dlgsum.data.sources import Splits
from dlgsum.monitoring.alerts import Alert
from dlgsum.recipes import announce, continuing, introduction, schedule, starting_weights, wiring
from dlgsum.recipes.config_dict import request_for
from dlgsum.recipes.failures import interruption
from dlgsum.recipes.limits import Limits
from dlgsum.recipes.materials import Materials
from dlgsum.recipes.observers import Observers, observers_of
from dlgsum.recipes.processes import together
from dlgsum.recipes.recorded import Job
from dlgsum.recipes.result import TrainingResult, finish
from dlgsum.recipes.settle import Settled, settle, settle_config
from dlgsum.tracking.run import Parent, RunFolder

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit
    from dlgsum.recipes.hooks import Hooks
    from dlgsum.training.checkpoints import Checkpoint
    from dlgsum.training.trainer import SummarizationTrainer

logger = logging.getLogger(__name__)


class DialogueSummarizationTrainer:
    """Train, evaluate and use a dialogue summarizer.

    Args:
        config: a configuration, or plain nested settings, treated like the file of ``--config``.
        experiment_name: replaces ``meta.experiment_name``.
        settled: a configuration settled before; the command line has one.
        run: the folder of a run that is to go on from its newest valid checkpoint, or from the start where it has
            none; a new one when None.
        parent: what a new run comes from.
        splits: the rows, where they were read before.

    Raises:
        ConfigError: the settings are wrong; every problem is reported.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | None = None,
        experiment_name: str | None = None,
        *,
        settled: Settled | None = None,
        run: RunFolder | None = None,
        parent: Parent | None = None,
        splits: Splits | None = None,
    ) -> None:
        if settled is None:
            settled = settle_config(config) if isinstance(config, Config) else settle(request_for(config or {}))
        if experiment_name:
            meta = dataclasses.replace(settled.config.meta, experiment_name=experiment_name)
            settled = dataclasses.replace(settled, config=dataclasses.replace(settled.config, meta=meta))
        self.run = run
        self._materials = Materials(settled, splits)
        self._goes_on = run is not None
        self._parent = parent
        self._trainer: SummarizationTrainer | None = None
        self._hooks: Hooks | None = None
        self._observers: Observers | None = None
        self._trained = False

    @property
    def settled(self) -> Settled:
        """The configuration with the reasons for what was chosen."""
        return self._materials.settled

    @property
    def datasets(self) -> dict[str, EncodedSplit]:
        """The tokenized rows: "train", "validation", perhaps "test"; empty until they are prepared."""
        return self._materials.datasets

    @property
    def config(self) -> Config:
        """The settled configuration."""
        return self.settled.config

    @property
    def output_dir(self) -> Path:
        """The run folder."""
        return self._run().path

    @property
    def model_save_dir(self) -> Path:
        """The folder of the best model."""
        return self._run().best_model

    @property
    def observers(self) -> Observers:
        """Who learns how the run goes; closed when training ends."""
        if self._observers is None:

            def mirror(alert: Alert) -> None:
                if self._hooks is not None:
                    self._hooks.stream.alert(alert.title, alert.text, alert.severity)

            self._observers = observers_of(self.config, self._run(), mirror, first=self._materials.group.first)
        return self._observers

    @property
    def hooks(self) -> Hooks:
        """The callbacks of the run."""
        if self._hooks is None:
            self._build_trainer()
        assert self._hooks is not None
        return self._hooks

    @property
    def trainer(self) -> SummarizationTrainer:
        """The Trainer of transformers underneath, for callbacks of one's own; data are prepared if need be."""
        if self._trainer is None:
            self._build_trainer()
        assert self._trainer is not None
        return self._trainer

    def initialize_components(self) -> None:
        """Read the data and load the model; ``prepare_data`` and ``train`` do it as needed."""
        self.prepare_data()

    def prepare_data(
        self, train_path: str | None = None, val_path: str | None = None, test_path: str | None = None
    ) -> dict[str, EncodedSplit]:
        """Read, clean and tokenize the data.

        Args:
            train_path: replaces ``data.train``; likewise ``val_path`` and ``test_path``.

        Returns:
            "train", "validation" and, where there is one, "test".

        Raises:
            DataError: a file is missing, unreadable or without usable rows.
            UsageError: new files, after ``trainer`` was used.
        """
        given = {"train": train_path, "validation": val_path, "test": test_path}
        new = {name: str(path) for name, path in given.items() if path is not None}
        if self.datasets and not new:
            return self.datasets
        if new:
            if self._trainer is not None:
                raise UsageError("prepare_data() was given files, but .trainer was built on others", "Call it first.")
            self._materials.take_files(new)
        self._materials.generator()
        return self.datasets

    def train(
        self,
        datasets: Mapping[str, EncodedSplit] | None = None,
        resume_from_checkpoint: str | None = None,
        *,
        limits: Limits | None = None,
    ) -> TrainingResult:
        """Train and return the result; the run folder holds everything else.

        A signal that asks for a stop (SIGINT, SIGTERM, SIGUSR1) is granted at the end of the step, with a checkpoint.

        Args:
            datasets: what ``prepare_data`` returned; prepared now when None.
            resume_from_checkpoint: folder of a checkpoint, of any run, whose weights, optimizer, schedule and position
                in the data a new run begins with. The ranking of the best models and the patience of early stopping
                begin anew. To go on with a run itself there is ``dlgsum resume`` (``recipes.start.start``).
            limits: how long training may take, and what is let pass.

        Raises:
            TrainingFailed: training began and could not be finished.
            Interrupted: a signal or the deadline stopped it; ``dlgsum resume`` goes on.
            UsageError: this trainer has trained already, the checkpoint is not whole, or another process has the run.
        """
        if self._trained:
            raise UsageError("This trainer has trained already", "Make a new one with create_trainer().")
        if resume_from_checkpoint:
            from dlgsum.training import checkpoints

            checkpoints.read(Path(resume_from_checkpoint))
        self._trained = True
        with together(self.config) as group:
            self._materials.group = group
            if not self.datasets:
                self._materials.rows()  # files that cannot work leave no run folder behind
            run = group.same_run(self._run)
            self.run = run
            job = Job(run, group, self.config, dict(self.settled.reasons), self.observers, lambda: self._hooks)
            return job.do(lambda: self._train(datasets, resume_from_checkpoint, limits or Limits()))

    def evaluate(
        self, dataset: EncodedSplit | None = None, metric_key_prefix: str = "eval", **options: Any
    ) -> dict[str, float]:
        """Score a data set with the current model; metrics are named ``<prefix>_<metric>``."""
        return self.trainer.evaluate(dataset, metric_key_prefix=metric_key_prefix, **options)

    def generate_predictions(
        self, dataset: EncodedSplit | None = None, max_samples: int | None = None
    ) -> list[dict[str, Any]]:
        """Return ``{"fname", "input", "prediction", "reference"}`` for the first rows of a data set."""
        split = dataset if dataset is not None else self.prepare_data()["validation"]
        if max_samples is not None:
            split = split.select(max_samples)
        generated = self.trainer.generator.run(split, batch_size=self.config.training.eval_rows)
        return [
            {
                "fname": row.id,
                "input": row.dialogue,
                "prediction": text,
                "reference": row.references[0] if row.references else None,
            }
            for row, text in zip(split.rows, generated.texts, strict=True)
        ]

    def _run(self) -> RunFolder:
        if self.run is None:
            self.run = wiring.new_run(self.config, self._parent)
        return self.run

    def _train(
        self, datasets: Mapping[str, EncodedSplit] | None, resume_from: str | None, limits: Limits
    ) -> TrainingResult:
        run, materials = self._run(), self._materials
        group, say = materials.group, materials.say
        if datasets is not None:
            materials.datasets = dict(datasets)
            if self._trainer is not None:
                self._trainer.train_dataset = self.datasets["train"]
                self._trainer.eval_dataset = self.datasets["validation"]
        say("run", run.path)
        say("model", f"{self.settled.model.checkpoint} ({self.settled.model.reason})")
        say("data", self.settled.reasons["data"])
        say("tracking", introduction.where_it_shows(self.config))
        materials.checkpoint = checkpoint = group.from_first(self._checkpoint_to_go_on_from)
        prepared = materials.prepared()
        continuing.refuse_changed_data(checkpoint, prepared, force=limits.force)
        if group.first:
            introduction.describe(run, self.config, prepared)
        generator, trainer, hooks = materials.generator(), self.trainer, self.hooks
        if group.first and checkpoint is None:
            starting_weights.record(run, self.settled, resume_from)
        introduction.warn_about_scorer(trainer.suite, prepared)
        say("device", generator.plan.reason)
        say("rows", introduction.sizes(self.datasets, generator.model))
        if group.size > 1:
            say("processes", group.describe(trainer.config.training))
        if checkpoint is not None:
            continuing.take_up(trainer, hooks, checkpoint)
            say("resumed", f"from step {checkpoint.step}, {checkpoint.path}")
        elif group.first:
            schedule.check_disk(trainer, run.path)
        continuing.take_up_parts(trainer, run)
        if group.first and not group.relaunched:
            announce.started(
                self.observers.alerts,
                run,
                self.config,
                model=self.settled.model.checkpoint,
                rows=introduction.sizes(self.datasets, generator.model),
                processes=group.size,
                step=checkpoint.step if checkpoint else 0,
            )
        with signals_as_wish(second_ends=not group.supervised) as wish:
            hooks.stop.wish, hooks.stop.deadline = wish, limits.deadline()
            trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else resume_from)
        hooks.stop.came_late(trainer.state.global_step, run.checkpoints)
        if hooks.stop.stopped is not None:
            group.wait()  # whoever leaves first ends the others, which may still be saving
            raise interruption(run, hooks.stop.exit_signal, hooks.stop.stopped, trainer.state, group.size)
        return finish(run, trainer, hooks, self.datasets, self.settled, limits.since)

    def _checkpoint_to_go_on_from(self) -> Checkpoint | None:
        """Find where a run goes on; in a run without any checkpoint nothing of a former start is kept."""
        if not self._goes_on:
            return None
        checkpoint = continuing.newest_checkpoint(self._run())
        if checkpoint is None:
            continuing.start_over(self._run())
        return checkpoint

    def _build_trainer(self) -> None:
        from dlgsum.recipes.hooks import attach
        from dlgsum.recipes.model_folder import ModelWriter

        generator, run = self._materials.generator(), self._run()
        checkpoint = self._materials.checkpoint
        config = continuing.for_world(self.config, checkpoint, self._materials.group.size)
        trainer = wiring.build_trainer(
            config, generator, self.datasets["train"], self.datasets["validation"], run.checkpoints
        )
        plan = trainer.checkpoint_plan
        plan.fingerprints = continuing.fingerprints(self._materials.prepared())
        plan.stateful["batch"] = continuing.BatchOfAStep(trainer)
        plan.texts = {continuing.SAVED_CONFIG: to_yaml(self.config)}
        writer = ModelWriter(trainer, self.config, self.datasets, run.id)
        begun = -1 if self._goes_on else None
        resumed_at = checkpoint.step if checkpoint else begun
        self._hooks = attach(trainer, config, run, writer, self.observers, resumed_at=resumed_at)
        self._trainer = trainer
