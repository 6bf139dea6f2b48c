"""Experiments of one's own code, recorded like the runs of the command line."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.core.errors import Interrupted, UsageError
from dlgsum.tracking.experiment_view import as_dict, status_meant
from dlgsum.tracking.lenient_index import Index
from dlgsum.tracking.lock import RunLock
from dlgsum.tracking.open_experiment import OpenExperiment, described, record_status
from dlgsum.tracking.record import ExperimentRecord, read_record
from dlgsum.tracking.registry.model import read_models
from dlgsum.tracking.run import Parent, RunFolder, find_run, list_runs

if TYPE_CHECKING:
    from dlgsum.tracking.store.store import Store

logger = logging.getLogger(__name__)

# Of the whole process: the cell of a notebook that makes the tracker is run again while an experiment runs.
_open: dict[Path, OpenExperiment] = {}


class ExperimentTracker:
    """Record experiments of any code: each gets a run folder, and ``dlgsum experiments`` lists, shows and compares it.

    The run folder is the truth. The database is an index of it: where it cannot be written, that is a warning, once.
    An experiment is held by its process from start to end, so that one whose process was killed shows as lost. Several
    experiments at a time, and several processes, do not disturb one another.

    Args:
        output_dir: the folder of all results.
        store: address of the database; None: the one that the configuration names (``DLGSUM_STORE``), else
            ``dlgsum.db`` in ``output_dir``.
    """

    def __init__(self, output_dir: str | Path = "./outputs", store: str | None = None) -> None:
        self.output_dir = Path(output_dir).expanduser().absolute()
        self._index = Index(self.output_dir, store)
        self._mine: list[str] = []

    def start_experiment(
        self,
        name: str,
        description: str = "",
        config: Any = None,
        model_type: str = "",
        dataset_info: Mapping[str, Any] | None = None,
        wandb_run_id: str | None = None,
        tags: Sequence[str] | str = (),
        notes: str = "",
        parent: Parent | None = None,
    ) -> str:
        """Begin an experiment; it is the current one until it ends, or another begins.

        Args:
            name: any text that is not empty.
            description: what it is about.
            config: a mapping or a dataclass, nested as you like; it is saved without secrets.
            model_type: kept as ``model.architecture`` of the configuration, unless that has one.
            dataset_info: anything about the data that JSON can hold; kept as given.
            wandb_run_id: the W&B run that mirrors it.
            tags: words to find it by.
            notes: free text.
            parent: what it came from.

        Returns:
            The experiment's id, which is the name of its run folder.

        Raises:
            UsageError: the name is empty, or the configuration cannot be kept as one.
            EnvironmentProblem: the run folder cannot be held against other processes.
            OSError: it cannot be written.
        """
        if parent is not None and not isinstance(parent, Parent):
            raise UsageError(f"parent={parent!r} is no Parent", "Give dlgsum.tracking.run.Parent(kind, id).")
        settings = described(config, name=name, description=description, model_type=model_type, tags=tags, notes=notes)
        experiment = OpenExperiment.start(self.output_dir, settings, dataset_info or {}, wandb_run_id, parent)
        run = experiment.run
        _open[run.path.resolve()] = experiment
        self._mine.append(run.id)
        self._put(run)
        return run.id

    def log_metrics(
        self, metrics: Mapping[str, Any], step: int | None = None, experiment_id: str | None = None
    ) -> None:
        """Append metrics, under the names as given; all of them or, where one is no number, none.

        NaN and infinity are kept and stay visible. An empty mapping changes nothing.

        Args:
            metrics: numbers; scalars of numpy and torch count.
            step: 0 or more; one after the highest so far when None, beginning with 1. Steps may come in any order.
            experiment_id: the current experiment when None.

        Raises:
            UsageError: a value is no number, the step is no step, or the experiment is unknown or has ended.
            OSError: the metrics cannot be written.
        """
        self._running(experiment_id).log(metrics, step)

    def update_experiment_status(self, experiment_id: str, status: str, notes: str | None = None) -> None:
        """Say how an experiment goes, or correct what is recorded of any run that nobody holds.

        A status such as ``completed`` does not end an experiment: ``end_experiment`` does.

        Args:
            experiment_id: of any run, also one of ``dlgsum train``.
            status: running, completed, failed, interrupted or pruned. in_progress means running, success and finished
                mean completed, error means failed.
            notes: replaces the notes; those before stay in ``events.jsonl``.

        Raises:
            UsageError: the status or the run is unknown, another process holds the run, or it is to run without one.
            OSError: it cannot be written.
        """
        wanted = status_meant(status)
        run, experiment = self._find(experiment_id)
        if experiment is not None:
            record_status(run, wanted, notes)
            self._put(run)
            return
        with RunLock(run.path):
            if wanted == "running":
                raise UsageError(
                    f"No process runs {run.id}, so that it cannot be set to '{status}'",
                    "start_experiment() begins a new one.",
                )
            record_status(run, wanted, notes)
        self._put(run)

    def end_experiment(
        self,
        experiment_id: str | None = None,
        final_metrics: Mapping[str, Any] | None = None,
        best_metrics: Mapping[str, Any] | None = None,
        status: str = "completed",
        model_path: str | Path | None = None,
        signature: str = "",
        notes: str | None = None,
    ) -> None:
        """End an experiment: write its results and its status, and let go of its folder.

        Args:
            experiment_id: the current experiment when None.
            final_metrics: numbers by name, where ``eval_loss`` and ``eval/loss`` are ``loss``; the last value of every
                logged metric when None.
            best_metrics: those of the best model, named likewise.
            status: completed, failed, interrupted or pruned, or a synonym of ``update_experiment_status``.
            model_path: the best model.
            signature: how ``best_metrics`` were computed; scores of different signatures are not compared.
            notes: replaces the notes.

        Raises:
            UsageError: the experiment is unknown or has ended, the status is none to end with, or a metric is no
                number; the experiment then goes on.
            OSError: the results cannot be written; the experiment then goes on.
        """
        self._end(
            experiment_id, status, final_metrics=final_metrics, best_metrics=best_metrics, model_path=model_path,
            signature=signature, notes=notes,
        )  # fmt: skip

    @contextmanager
    def experiment(self, name: str, **details: Any) -> Iterator[str]:
        """Start an experiment and end it with the block: failed, or interrupted by Ctrl-C, with the reason.

        An experiment that the block itself has ended, to give its metrics, stays as it is.

        Args:
            details: those of ``start_experiment``.
        """
        experiment_id = self.start_experiment(name, **details)
        try:
            yield experiment_id
        except BaseException as error:
            stopped = isinstance(error, (KeyboardInterrupt, Interrupted, SystemExit))
            self._end_if_open(experiment_id, "interrupted" if stopped else "failed", error)
            raise
        self._end_if_open(experiment_id, "completed")

    def get_experiment(self, experiment_id: str) -> dict[str, Any]:
        """Return what is known of any run: of this machine from its folder, of others from the index.

        Times are ISO, in UTC. ``metrics`` holds the best and final metrics as ``best_<name>`` and ``final_<name>``.
        What is not known is None, or empty.

        Raises:
            UsageError: there is no such run.
        """
        try:
            return as_dict(read_record(find_run(experiment_id, self.output_dir)), self._models())
        except UsageError:
            record = self._index.ask(lambda store: store.get(experiment_id))
            if record is None:
                raise
            return as_dict(record, self._models())

    def list_experiments(
        self, *, status: str | None = None, tag: str | None = None, name: str | None = None
    ) -> list[dict[str, Any]]:
        """Return all experiments that fit, newest first, each as ``get_experiment`` does.

        Args:
            status: also ``lost``, or a synonym.
            tag: one of its tags.
            name: its name, exactly.

        Raises:
            UsageError: there is no such status.
        """
        wanted = None if status is None else "lost" if status == "lost" else status_meant(status)
        records = self._index.ask(_synchronized)
        if records is None:
            records = [read_record(run) for run in list_runs(self.output_dir)]
        models = self._models()
        return [
            as_dict(record, models)
            for record in sorted(records, key=lambda record: record.id, reverse=True)
            if wanted in (None, record.status) and name in (None, record.name) and (tag is None or tag in record.tags)
        ]

    def _end(self, experiment_id: str | None, status: str, **results: Any) -> None:
        ended = status_meant(status)
        if ended == "running":
            raise UsageError(
                f"An experiment does not end with status='{status}'", "Give how it ended: completed, failed, …"
            )
        experiment = self._running(experiment_id)
        experiment.end(ended, **results)
        del _open[experiment.run.path.resolve()]
        self._put(experiment.run)

    def _end_if_open(self, experiment_id: str, status: str, error: BaseException | None = None) -> None:
        if _opened(self._place(experiment_id)) is None:
            return
        reason = "" if error is None else f"{type(error).__name__}: {error}".removesuffix(": ")
        try:
            self._end(experiment_id, status, reason=reason)
        except OSError as problem:
            if error is None:
                raise
            logger.warning("the end of %s could not be written: %s", experiment_id, problem)  # not to hide the error

    def _place(self, experiment_id: str) -> Path:
        return (self.output_dir / "experiments" / experiment_id).resolve()

    def _find(self, experiment_id: str) -> tuple[RunFolder, OpenExperiment | None]:
        """Return a run, and the experiment of this process that it is of, if it is."""
        experiment = _opened(self._place(experiment_id))
        run = experiment.run if experiment else find_run(experiment_id, self.output_dir)
        return run, experiment or _opened(run.path.resolve())

    def _running(self, experiment_id: str | None) -> OpenExperiment:
        """Return the experiment of this process that is meant."""
        if experiment_id is None:
            current = [it for it in map(_opened, map(self._place, self._mine)) if it is not None]
            if not current:
                raise UsageError("No experiment runs here", "Begin one with start_experiment(name), or give its id.")
            experiment_id = current[-1].run.id
        run, experiment = self._find(experiment_id)
        if experiment is not None:
            if not run.config.is_file():
                raise UsageError(f"The folder of the experiment is gone: {run.path}", "Start a new one.")
            return experiment
        if run.state != "running":
            raise UsageError(f"The experiment {run.id} has ended ({run.state or 'status unknown'})", "Start a new one.")
        with RunLock(run.path):  # says who holds it
            raise UsageError(
                f"The process of {run.id} is gone, without having ended it",
                f"Say how it ended with update_experiment_status('{run.id}', 'failed'), and start a new one.",
            )

    def _models(self) -> dict[str, str]:
        """Return the newest model that is registered of each experiment."""
        oldest_first, _ = read_models(self.output_dir / "models")
        return {model.experiment_id: model.id for model in oldest_first if model.experiment_id}

    def _put(self, run: RunFolder) -> None:
        self._index.ask(lambda store: store.update(run))


def _opened(place: Path) -> OpenExperiment | None:
    """Return the experiment that this process runs in a folder; one that it got by a fork is its parent's."""
    experiment = _open.get(place)
    return experiment if experiment is not None and experiment.pid == os.getpid() else None


def _synchronized(store: Store) -> list[ExperimentRecord]:
    store.sync()
    return store.records()
