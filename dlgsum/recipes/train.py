"""Train a summarizer: from a settled configuration to the best model and its scores."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.compose import to_yaml
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.console import messages
from dlgsum.core.errors import ConfigError, DlgsumError, EnvironmentProblem, UsageError
from dlgsum.core.files import write_json
from dlgsum.core.log import logging_to, route_transformers
from dlgsum.data.sources import Splits, resolve_files
from dlgsum.recipes import data_check, wiring
from dlgsum.recipes.baselines import lead_baseline
from dlgsum.recipes.config_dict import request_for, sweep_overrides
from dlgsum.recipes.data_report import show_report
from dlgsum.recipes.failures import failures_in_words
from dlgsum.recipes.prepare import Prepared, load_generator, prepare
from dlgsum.recipes.result import TrainingResult, score_test_rows
from dlgsum.recipes.settle import Settled, settle, settle_config
from dlgsum.tracking.environment import describe_environment
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.stream import MetricStream

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit
    from dlgsum.training.inference import SummaryGenerator
    from dlgsum.training.trainer import SummarizationTrainer

logger = logging.getLogger(__name__)


class DialogueSummarizationTrainer:
    """Train, evaluate and use a dialogue summarizer.

    Args:
        config: a configuration, or plain nested settings, treated like the file of ``--config``.
        experiment_name: replaces ``meta.experiment_name``.
        settled: a configuration settled before; the command line has one.

    Raises:
        ConfigError: the settings are wrong; every problem is reported.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | None = None,
        experiment_name: str | None = None,
        *,
        settled: Settled | None = None,
    ) -> None:
        if settled is None:
            settled = settle_config(config) if isinstance(config, Config) else settle(request_for(config or {}))
        if experiment_name:
            meta = dataclasses.replace(settled.config.meta, experiment_name=experiment_name)
            settled = dataclasses.replace(settled, config=dataclasses.replace(settled.config, meta=meta))
        self.settled = settled
        self.run: RunFolder | None = None
        self.datasets: dict[str, EncodedSplit] = {}
        self._splits: Splits | None = None
        self._prepared: Prepared | None = None
        self._generator: SummaryGenerator | None = None
        self._trainer: SummarizationTrainer | None = None
        self._stream: MetricStream | None = None
        self._trained = False
        self._keep_best: Any = None
        self._progress: Any = None

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
            files = resolve_files(self.config.data, folder=Path.cwd())
            data = files.replaced(self.config.data, new)
            self.settled = settle_config(dataclasses.replace(self.config, data=data), self.settled.model)
            self._splits = None
            self._prepared = self._generator = None
            self.datasets = {}
        self._load()
        return self.datasets

    def train(
        self, datasets: Mapping[str, EncodedSplit] | None = None, resume_from_checkpoint: str | None = None
    ) -> TrainingResult:
        """Train and return the result; the run folder holds everything else.

        Args:
            datasets: what ``prepare_data`` returned; prepared now when None.
            resume_from_checkpoint: folder of a checkpoint whose weights, optimizer, schedule and position in the
                data are taken up. The ranking of the best models and the patience of early stopping begin anew.

        Raises:
            TrainingFailed: training began and could not be finished.
            UsageError: this trainer has trained already, or the checkpoint does not exist.
            EnvironmentProblem: started as several processes.
        """
        _refuse_several_processes()
        if self._trained:
            raise UsageError("This trainer has trained already", "Make a new one with create_trainer().")
        if resume_from_checkpoint and not (Path(resume_from_checkpoint) / "trainer_state.json").is_file():
            raise UsageError(f"resume_from_checkpoint={resume_from_checkpoint}: there is no trainer_state.json in it")
        self._trained = True
        if not self.datasets:
            self._read_data()  # files that cannot work leave no run folder behind
        run = self._run()
        with logging_to(run.log):
            route_transformers()
            run.status("running")
            run.event("start", reasons=self.settled.reasons)
            started = time.perf_counter()
            try:
                result = self._train(datasets, resume_from_checkpoint, started)
            except BaseException as error:
                self._record_failure(run, error)
                raise
            finally:
                if self._progress is not None:
                    self._progress.close()
            write_json(run.results, dataclasses.asdict(result))
            run.status("completed")
            run.event("end", status="completed", seconds=result.seconds)
            return result

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
        generated = self.trainer.generator.run(split, batch_size=self.config.training.per_device_eval_batch_size)
        return [
            {
                "fname": row.id,
                "input": row.dialogue,
                "prediction": text,
                "reference": row.references[0] if row.references else None,
            }
            for row, text in zip(split.rows, generated.texts, strict=True)
        ]

    def _read_data(self) -> Splits:
        if self._splits is None:
            self._splits = wiring.build_splits(self.config)
        return self._splits

    def _prepare(self) -> Prepared:
        """Read, tokenize and check the rows, once."""
        if self._prepared is None:
            self._prepared = prepare(self.settled, self._read_data())
            self.datasets = self.datasets or dict(self._prepared.datasets)
        return self._prepared

    def _load(self) -> SummaryGenerator:
        """Load the model, once."""
        if self._generator is None:
            self._generator = load_generator(self.settled, self._prepare())
        return self._generator

    def _run(self) -> RunFolder:
        if self.run is None:
            folder = wiring.output_dir(self.config)
            try:
                self.run = RunFolder.create(folder)
                self.run.write_config(to_yaml(self.config))
            except OSError as error:
                raise EnvironmentProblem(
                    f"No run folder can be made in {folder}: {error.strerror}", "Choose another: general.output_dir=DIR"
                ) from error
        return self.run

    def _train(
        self, datasets: Mapping[str, EncodedSplit] | None, resume_from: str | None, started: float
    ) -> TrainingResult:
        run = self._run()
        if datasets is not None:
            self.datasets = dict(datasets)
            if self._trainer is not None:
                self._trainer.train_dataset = self.datasets["train"]
                self._trainer.eval_dataset = self.datasets["validation"]
        self._say("run", run.path)
        self._say("model", f"{self.settled.model.checkpoint} ({self.settled.model.reason})")
        self._say("data", self.settled.reasons["data"])
        prepared = self._prepare()
        run.write_config(to_yaml(self.config))
        write_json(run.path / "environment.json", describe_environment())
        write_json(run.path / "data.json", {"splits": [split.describe() for split in prepared.splits.all]})
        self._judge_data(prepared)
        generator, trainer = self._load(), self.trainer
        self._warn_about_scorer(prepared)
        self._say("device", generator.plan.reason)
        sizes = ", ".join(f"{name} {len(split)}" for name, split in self.datasets.items())
        parameters = sum(parameter.numel() for parameter in generator.model.parameters())
        self._say("rows", f"{sizes}; {parameters / 1e6:.1f}M parameters")
        outcome = trainer.train(resume_from_checkpoint=resume_from)
        return self._finish(outcome, started)

    def _say(self, name: str, text: object) -> None:
        if self.config.monitoring.progress != "off":
            messages().print(f"{name:<12}{text}", markup=False)

    def _judge_data(self, prepared: Prepared) -> None:
        """Save and show what the rows are like, before a weight is loaded.

        Raises:
            DataError: something was found that would make the run worthless.
        """
        data_check.save_report(prepared.report, self._run().path / "data_check.json")
        if self.config.monitoring.progress != "off":
            show_report(prepared.report, messages(), compact=True)
        data_check.refuse_errors(prepared.report, self.config)

    def _finish(self, outcome: Any, started: float) -> TrainingResult:
        """Go back to the best model, score the test rows, and gather the result."""
        run, trainer, keep_best = self._run(), self.trainer, self._keep_best
        last = trainer.last_evaluation
        signature = last.scores.signature if last and last.scores else trainer.suite.signature
        best = keep_best.ranking.best
        if best is None:
            self._save_without_score(run)
        elif self.config.training.load_best_model_at_end and best.step != trainer.state.global_step:
            _load_weights(trainer.model, run.best_model)
        test = score_test_rows(trainer, self.datasets.get("test"))
        validation = self.datasets["validation"]
        result = TrainingResult(
            run_id=run.id,
            run_dir=str(run.path),
            model_path=str(run.best_model),
            best_metrics=keep_best.best_metrics,
            best_step=best.step if best else trainer.state.global_step,
            signature=signature,
            validation_fingerprint=validation.split.fingerprint,
            baseline_metrics=lead_baseline(validation.rows, trainer.suite),
            test_metrics=test.metrics,
            test_baseline_metrics=test.baseline,
            test_signature=test.signature,
            final_metrics=keep_best.last_metrics,
            steps=trainer.state.global_step,
            epochs=float(trainer.state.epoch or 0.0),
            seconds=time.perf_counter() - started,
            stopped_early=keep_best.stopped_early,
            choices={**self.settled.reasons, "device": trainer.generator.plan.reason},
        )
        assert self._stream is not None
        self._stream.finish({f"best/{name}": value for name, value in result.best_metrics.items()})
        return result

    def _build_trainer(self) -> None:
        from dlgsum.training.best import Patience, Ranking
        from dlgsum.training.hooks.keep_best import KeepBest
        from dlgsum.training.hooks.progress import ShowProgress
        from dlgsum.training.hooks.record import Record

        generator = self._load()
        run, config = self._run(), self.config
        trainer = wiring.build_trainer(
            config, generator, self.datasets["train"], self.datasets["validation"], run.checkpoints
        )
        first = trainer.is_world_process_zero()
        self._stream = MetricStream(run.metrics, wiring.build_trackers(config, run) if first else [])
        greater = config.metrics.larger_wins
        self._keep_best = KeepBest(
            config.metrics.best,
            Ranking(config.training.keep_best, greater),
            Patience(config.training.early_stopping_patience, config.training.early_stopping_threshold, greater),
            run,
            self._save_model,
        )
        self._progress = ShowProgress(
            trainer, self._keep_best, messages(), mode=config.monitoring.progress, samples=config.monitoring.samples
        )
        # Best first: the line that progress prints says whether this model is the best.
        for hook in (self._keep_best, Record(trainer, self._stream, run, predictions=config.tracking.save_predictions)):
            trainer.add_callback(hook)
        trainer.add_callback(self._progress)
        self._trainer = trainer

    def _save_model(self, folder: Path, metrics: dict[str, float], step: int) -> None:
        from dlgsum.recipes.model_card import write_model_card

        trainer, generator = self.trainer, self._load()
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder)
        generator.tokenizer.hf.save_pretrained(folder)
        evaluation = trainer.last_evaluation
        signature = evaluation.scores.signature if evaluation and evaluation.scores else ""
        record = {"run": self._run().id, "step": step, "signature": signature, "metrics": metrics}
        write_json(folder / "metrics.json", record)
        (folder / "dlgsum.yaml").write_text(to_yaml(self.config), encoding="utf-8")
        write_model_card(folder, self.config, self.datasets, record)

    def _save_without_score(self, run: RunFolder) -> None:
        """Keep the last model where no evaluation gave a finite score, and say so."""
        from dlgsum.core.files import new_folder

        logger.warning("no evaluation gave a finite %s; the last model is kept as best_model", self.config.metrics.best)
        with new_folder(run.best_model) as folder:
            self._save_model(folder, {}, self.trainer.state.global_step)

    def _warn_about_scorer(self, prepared: Prepared) -> None:
        sample = [reference for row in prepared.splits.validation.rows[:200] for reference in row.references]
        warning = self.trainer.suite.coverage_warning(sample)
        if warning:
            logger.warning(warning)

    def _record_failure(self, run: RunFolder, error: BaseException) -> None:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        reason = f"{type(error).__name__}: {error}"
        try:
            # The caller gets the exception, so the console need not say it twice.
            traceback = not isinstance(error, DlgsumError)
            logger.error("training %s: %s", status, reason, exc_info=traceback, extra={"told": True})
            run.status(status, reason=reason)
            run.event("end", status=status, reason=reason)
            if self._stream is not None:
                self._stream.finish({"status": status}, failed=True)
        except OSError:  # a full disk must not hide the first error
            pass


def create_trainer(
    config: str | Path | Config | Mapping[str, Any] | None = None, *overrides: str, sweep_mode: bool = False
) -> DialogueSummarizationTrainer:
    """Return a trainer for a YAML file, plain settings, or the defaults.

    Args:
        config: a YAML file (merged over the defaults like ``--config``), nested settings, or None.
        overrides: as on the command line, such as ``"training.learning_rate=3e-5"``.
        sweep_mode: take the parameters of the W&B run that is open over everything else.

    Raises:
        ConfigError: the settings are wrong; every problem is reported.
    """
    if isinstance(config, Config):
        if overrides or sweep_mode:
            raise UsageError("overrides and sweep_mode do not go with a finished Config", "Give a file or a mapping.")
        return DialogueSummarizationTrainer(config)
    lines = [*overrides, *(_sweep_overrides() if sweep_mode else ())]
    if isinstance(config, (str, Path)):
        request = Request(overrides=lines, file=Path(config))
    else:
        request = request_for(config or {}, *lines)
    return DialogueSummarizationTrainer(settled=settle(request))


def run(settled: Settled) -> TrainingResult:
    """Train with a settled configuration: what ``dlgsum train`` does.

    Raises:
        DlgsumError: with the exit code of what went wrong.
    """
    trainer = DialogueSummarizationTrainer(settled=settled)
    with failures_in_words(lambda: trainer.run):
        return trainer.train()


def _refuse_several_processes() -> None:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise EnvironmentProblem(
            f"dlgsum was started as {processes} processes (WORLD_SIZE); this version trains in one.",
            "Start it without torchrun.",
        )


def _load_weights(model: Any, folder: Path) -> None:
    from safetensors.torch import load_model

    load_model(model, folder / "model.safetensors", strict=False)
    model.tie_weights()


def _sweep_overrides() -> list[str]:
    """Return the parameters of the open W&B run as overrides."""
    import wandb

    if wandb.run is None:
        raise ConfigError(["sweep_mode=True, but no W&B run is open; call wandb.init() first"])
    return sweep_overrides(dict(wandb.config))


__all__ = ["DialogueSummarizationTrainer", "TrainingResult", "create_trainer", "run"]
