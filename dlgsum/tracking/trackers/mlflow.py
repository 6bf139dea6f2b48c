"""MLflow as a mirror of the local record."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dlgsum.config.masking import is_masked, plain
from dlgsum.config.origin import flatten
from dlgsum.config.schema import Config
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import dumps, read_json, write_json
from dlgsum.core.optional import require
from dlgsum.tracking.tracker import Opening, Sample, Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FILE = "mlflow.json"
_METRICS, _PARAMS = 1000, 100  # what a request may hold
_VALUE, _KEY, _TAG = 6000, 250, 5000  # letters of a parameter's value, of a name, of a tag's value
_REFUSED = re.compile(r"[^\w\-. :/]")  # in names
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # else it tells its makers of each run
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class MlflowTracker(Tracker):
    """Send a run to an MLflow server, or to a database on disk where none is named.

    A NaN arrives as one; databases hold an infinity as the largest number there is. A run that goes on sends the steps
    after its checkpoint again: MLflow, which forgets nothing, then has them twice.

    Args:
        client: of the server.
        run_id: MLflow's id of the run.
        log_model: whether the best model is sent.
    """

    name = "mlflow"
    title = "MLflow"

    def __init__(self, client: MlflowClient, run_id: str, *, log_model: bool) -> None:
        self._client = client
        self._run_id = run_id
        self._log_model = log_model

    @classmethod
    def prepare(cls) -> None:
        """Import mlflow.

        Raises:
            EnvironmentProblem: it is missing.
        """
        quiet()
        require("mlflow", extra="mlflow", purpose="tracking.trackers=[mlflow]")

    @classmethod
    def open(cls, opening: Opening) -> MlflowTracker:
        """Begin an MLflow run, or go on with the one that ``mlflow.json`` of the run folder names.

        Raises:
            mlflow.exceptions.MlflowException: the server cannot be used.
        """
        cls.prepare()
        from mlflow import MlflowClient

        config = opening.config
        uri, artifacts = _place(config)
        client = MlflowClient(tracking_uri=uri)
        run_id = _former(client, opening)
        if run_id is None:
            name = config.tracking.mlflow.experiment or config.meta.experiment_name
            known = client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else client.create_experiment(name, artifacts)
            run_id = client.create_run(experiment, tags=_tags(opening), run_name=opening.run.id).info.run_id
            write_json(opening.run.path / _FILE, {"run_id": run_id, "experiment_id": experiment})
        tracker = cls(client, run_id, log_model=config.tracking.mlflow.log_model)
        tracker._describe(config)
        return tracker

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one step; what a name must not hold becomes ``_``."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for batch in _batches(metrics.items(), _METRICS):
            values = [Metric(_name(name), float(value), now, step) for name, value in batch]
            self._client.log_batch(self._run_id, metrics=values)

    def samples(self, step: int, name: str, rows: Sequence[Sample]) -> None:
        """Take predictions, as a JSON file of each evaluation."""
        text = dumps([asdict(row) for row in rows], indent=2)
        self._client.log_text(self._run_id, text, f"samples/{name}-step-{step}.json")

    def image(self, step: int, name: str, path: Path) -> None:
        """Take a chart, as a file of its name."""
        self._client.log_artifact(self._run_id, str(path), "images")

    def model(self, step: int, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Take the best model, unless tracking.mlflow.log_model=false."""
        self._client.log_text(self._run_id, dumps({"step": step, **metadata}, indent=2), "best_model.json")
        if self._log_model:
            self._client.log_artifacts(self._run_id, str(folder), "best_model")

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Take the summary, its numbers as metrics and the rest as tags, and end the run.

        Its state is FINISHED, KILLED where the summary's status is ``interrupted``, else FAILED.
        """
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        numbers = {name: value for name, value in summary.items() if isinstance(value, (int, float))}
        rest = {name: value for name, value in summary.items() if name not in numbers}
        self._client.log_batch(
            self._run_id,
            metrics=[Metric(_name(name), float(value), now, 0) for name, value in numbers.items()],
            tags=[RunTag(f"dlgsum.{_name(name)}", dumps(value)[:_TAG]) for name, value in rest.items()],
        )
        killed = summary.get("status") == "interrupted"
        self._client.set_terminated(self._run_id, "KILLED" if killed else "FAILED" if failed else "FINISHED")

    def _describe(self, config: Config) -> None:
        """Send the configuration: whole as a file, and as parameters, which MLflow never changes again."""
        from mlflow.entities import Param

        self._client.log_text(self._run_id, dumps(plain(config), indent=2), "config.json")
        there = self._client.get_run(self._run_id).data.params
        values = {_name(name): _text(value) for name, value in flatten(plain(config))}
        new = [Param(name, value) for name, value in values.items() if name not in there]
        for batch in _batches(new, _PARAMS):
            self._client.log_batch(self._run_id, params=batch)


def quiet() -> None:
    """Have MLflow tell nothing to its makers and little to the console, unless the user has set it.

    Before its import, which reads this.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def _place(config: Config) -> tuple[str, str | None]:
    """Return the address of the server, and where files go; a folder gets a database, and the files beside it.

    MLflow keeps nothing in plain folders any more.

    Raises:
        EnvironmentProblem: the address was masked when the configuration was saved, and nothing else names it.
    """
    uri = config.tracking.mlflow.uri
    if uri is None or is_masked(uri):
        given, uri = uri, os.environ.get("MLFLOW_TRACKING_URI")
        if given and not uri:
            raise EnvironmentProblem(
                "the address in tracking.mlflow.uri is not saved with a run",
                "Set MLFLOW_TRACKING_URI, or give tracking.mlflow.uri again.",
            )
    if uri and (urlsplit(uri).scheme or uri in ("databricks", "databricks-uc")) and not Path(uri).drive:
        return uri, None
    from sqlalchemy import URL

    folder = (Path(uri) if uri else Path(config.general.output_dir) / "mlruns").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    address = URL.create("sqlite", database=str(folder / "mlflow.db")).render_as_string(hide_password=False)
    return address, (folder / "files").as_uri()


def _former(client: MlflowClient, opening: Opening) -> str | None:
    """Return the MLflow run that a resumed run goes on with, running again; None where there is none."""
    if opening.resumed_at is None:
        return None
    from mlflow.exceptions import MlflowException

    try:
        run_id = str(read_json(opening.run.path / _FILE)["run_id"])
        client.get_run(run_id)
    except (OSError, ValueError, KeyError):
        return None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None  # another server than last time
    client.update_run(run_id, status="RUNNING")
    return run_id


def _tags(opening: Opening) -> dict[str, str]:
    """Return what the run is found by, under MLflow's names where it has one."""
    tracking = opening.config.tracking
    tags = {
        "dlgsum.run": opening.run.id, "dlgsum.tags": ", ".join(tracking.tags), "mlflow.note.content": tracking.notes,
        "mlflow.source.name": "dlgsum", "mlflow.source.type": "LOCAL", "mlflow.source.git.commit": _commit(opening),
    }  # fmt: skip
    return {name: value[:_TAG] for name, value in tags.items() if value}


def _commit(opening: Opening) -> str:
    try:
        return str((read_json(opening.run.path / "environment.json").get("git") or {}).get("commit") or "")
    except (OSError, ValueError):
        return ""


def _name(name: str) -> str:
    return _REFUSED.sub("_", name)[:_KEY]


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else dumps(value))[:_VALUE]


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


PLUGIN = MlflowTracker
