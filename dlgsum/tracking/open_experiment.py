"""One experiment from its start to its end: what is written into its run folder, and who holds that meanwhile."""

from __future__ import annotations

import dataclasses
import numbers
import operator
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlgsum.config.compose import escaped
from dlgsum.config.dump import dumped
from dlgsum.config.masking import hidden
from dlgsum.core.errors import UsageError
from dlgsum.core.files import to_jsonable, write_json
from dlgsum.core.masking import masked, masked_values
from dlgsum.tracking.environment import describe_environment
from dlgsum.tracking.lock import RunLock
from dlgsum.tracking.run import Parent, RunFolder, Status
from dlgsum.tracking.stream import MetricStream


class OpenExperiment:
    """An experiment that runs in this process.

    Attributes:
        run: its run folder, which is held until the end.
        pid: the process that it runs in; a forked child has no part in it.
    """

    def __init__(self, run: RunFolder, lock: RunLock) -> None:
        self.run = run
        self.pid = os.getpid()
        self._lock = lock
        self._stream = MetricStream(run.metrics)
        self._since = time.monotonic()
        self._step = 0
        self._last: dict[str, float] = {}

    @classmethod
    def start(
        cls,
        output_dir: Path,
        config: Mapping[str, Any],
        dataset_info: Mapping[str, Any],
        wandb_run_id: str | None,
        parent: Parent | None,
    ) -> OpenExperiment:
        """Make the run folder, hold it, and write down what is known.

        Args:
            config: of ``described``.

        Raises:
            EnvironmentProblem: the folder cannot be held.
            OSError: it cannot be written.
        """
        run = RunFolder.create(output_dir)
        lock = RunLock(run.path).__enter__()
        try:
            write_json(run.path / "environment.json", describe_environment())
            write_json(run.path / "data.json", {"splits": [], "dataset_info": masked_values(dict(dataset_info))})
            if wandb_run_id:
                write_json(run.path / "wandb.json", {"run_id": str(wandb_run_id)})
            if parent is not None:
                run.write_parent(parent)
            run.status("running")
            run.write_config(dumped(escaped(config)))  # last: from now on it is found
        except BaseException:
            lock.__exit__(None, None, None)
            raise
        run.event("start", name=masked(str(config["meta"]["experiment_name"])))
        return cls(run, lock)

    def log(self, metrics: Mapping[str, Any], step: int | None) -> None:
        """Append metrics; see ``ExperimentTracker.log_metrics``."""
        checked = checked_metrics(metrics)
        at = self._step + 1 if step is None else _checked_step(step)
        if not checked:
            return
        self._stream.log(at, None, checked)
        self._step = max(self._step, at)
        self._last |= checked

    def end(
        self,
        status: Status,
        *,
        final_metrics: Mapping[str, Any] | None = None,
        best_metrics: Mapping[str, Any] | None = None,
        model_path: str | Path | None = None,
        signature: str = "",
        notes: str | None = None,
        reason: str = "",
    ) -> None:
        """Write the results, the status and the end; then let go of the folder.

        Raises:
            UsageError: a metric is no number; nothing is written, and the experiment goes on.
            OSError: the results or the status cannot be written; the experiment goes on.
        """
        final = unprefixed(self._last if final_metrics is None else checked_metrics(final_metrics))
        best, seconds = unprefixed(checked_metrics(best_metrics or {})), time.monotonic() - self._since
        results = {
            "run_id": self.run.id, "run_dir": str(self.run.path),
            "model_path": "" if model_path is None else str(model_path),
            "best_metrics": best, "final_metrics": {f"eval_{name}": value for name, value in final.items()},
            "signature": str(signature),
            "steps": self._step, "seconds": seconds,
        }  # fmt: skip
        write_json(self.run.results, results)
        record_status(self.run, status, notes, reason=reason, seconds=seconds)
        self._lock.__exit__(None, None, None)


def record_status(
    run: RunFolder, status: Status, notes: str | None, *, reason: str = "", seconds: float | None = None
) -> None:
    """Write a status and an event of it, and notes unless they are None.

    Args:
        seconds: how long the experiment ran, where this is its end.
    """
    if notes is not None:
        run.annotate(notes=str(notes))
    details = {"reason": reason} if reason else {}
    run.status(status, **details)
    said: dict[str, Any] = {"status": status, **details, **({} if notes is None else {"notes": str(notes)})}
    if seconds is None:
        run.event("status", **said)
    else:
        run.event("end", level="error" if status == "failed" else "info", seconds=seconds, **said)


def described(
    config: Any, *, name: str, description: str, model_type: str, tags: Sequence[str] | str, notes: str
) -> dict[str, Any]:
    """Return a configuration that says what the experiment is called, in the places where all runs say it; no secrets.

    Args:
        config: a mapping, a dataclass, or None for an empty one. What is given beside it lies over it.

    Raises:
        UsageError: it is neither, or one of the places is taken by something that is no section.
    """
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"name={name!r} is no name for an experiment", "Give a text, such as name='kobart_baseline'.")
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    if config is not None and not isinstance(config, Mapping):
        raise UsageError(f"config is a {type(config).__name__}", "Give a mapping, a dataclass, or nothing.")
    settings: dict[str, Any] = masked_values(hidden("", to_jsonable(_plain(config or {}))))
    given: dict[str, dict[str, Any]] = {
        "meta": {"experiment_name": name, "description": description},
        "tracking": {"tags": [tags] if isinstance(tags, str) else [str(tag) for tag in tags], "notes": notes},
        "model": {} if _has_architecture(settings) else {"architecture": model_type},
    }
    for section, values in given.items():
        known = {key: masked_values(value) for key, value in values.items() if value}
        if known and not isinstance(settings.setdefault(section, {}), dict):
            raise UsageError(
                f"config['{section}'] is {settings[section]!r}, but {' and '.join(known)} of the experiment go there",
                f"Make it a section, such as {{'{section}': {{…}}}}, or give it another name.",
            )
        if known:
            settings[section] = {**settings[section], **known}
    return settings


def _has_architecture(settings: Mapping[str, Any]) -> bool:
    model = settings.get("model")
    return isinstance(model, (str, dict)) and (isinstance(model, str) or bool(model.get("architecture")))


def _plain(value: Any) -> Any:
    """Return mappings and sequences of any kind, such as those of OmegaConf, as dictionaries and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(item) for item in value]
    return value


def checked_metrics(metrics: Any) -> dict[str, float]:
    """Return metrics as plain numbers, under the names as given.

    Raises:
        UsageError: it is no mapping, or values are no numbers; every such value is named.
    """
    if not isinstance(metrics, Mapping):
        raise UsageError(f"metrics is a {type(metrics).__name__}", "Give names with numbers: {'loss': 1.23}.")
    found = {name: _number(value) for name, value in metrics.items()}
    bad = [
        f"{name!r}: {metrics[name]!r:.80}"
        for name, value in found.items()
        if value is None or not isinstance(name, str) or not name
    ]
    if bad:
        raise UsageError(
            f"Metrics are numbers with names; these are not: {', '.join(bad)}",
            "Scalars of numpy and torch count; give 0 or 1 for no and yes. Nothing of this call was recorded.",
        )
    return {name: value for name, value in found.items() if value is not None}


def unprefixed(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics under the names that runs are compared by: ``eval_loss`` and ``eval/loss`` are ``loss``.

    A metric whose short name another one has keeps its own.
    """
    short = {name: name.removeprefix("eval_").removeprefix("eval/") or name for name in metrics}
    return {name if short[name] in metrics else short[name]: value for name, value in metrics.items()}


def _number(value: Any) -> float | None:
    """Return an int as int, and other real numbers, or scalars of numpy and torch, as float; None for what is none."""
    if hasattr(value, "item"):
        try:
            value = value.item()
        except (RuntimeError, ValueError, TypeError):  # several elements, or none
            return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < sys.float_info.max else None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:  # a fraction that no float is large enough for
        return None


def _checked_step(step: Any) -> int:
    try:
        at = operator.index(step)
    except TypeError:
        at = -1
    if at < 0 or isinstance(step, bool):
        raise UsageError(f"step={step!r} is no step", "Give a whole number, 0 or more, or nothing for the next one.")
    return at
