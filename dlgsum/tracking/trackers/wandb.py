"""Weights & Biases as a mirror of the local record."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.config.masking import plain
from dlgsum.core.files import read_json, read_jsonl, write_json
from dlgsum.tracking.run import RunFolder
from dlgsum.tracking.tracker import Opening, Sample, Tracker
from dlgsum.tracking.wandb_exit import service_ended
from dlgsum.tracking.wandb_session import STEP, Curve, WandbSession, chart

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

MARK = "wandb_sync.json"
_LOSSES = ("train/loss", "eval/loss")
_SHARE = 0.7  # of the time for the end, so that W&B gives up before whoever waits for it does


class WandbTracker(Tracker):
    """Send a run to one run of W&B of the same id; a resumed run goes on with its own.

    Where a resumed run starts behind its last row, the steps in between are there twice, the later ones on top.

    Args:
        session: the open run of W&B.
        opening: whose run it is.

    Attributes:
        marks: whether ``finish`` records what W&B has; set to False by whoever records it instead.
    """

    name = "wandb"
    title = "W&B"

    def __init__(self, session: WandbSession, opening: Opening) -> None:
        self._session = session
        self._folder = opening.run
        self._config = opening.config
        self._last_step = session.last_step
        self.marks = True
        self._lacks: list[str] = []
        self._rows = 0
        self._score = "" if opening.config.metrics.best == "loss" else f"eval/{opening.config.metrics.best}"
        self._curves = {name: Curve() for name in (*_LOSSES, self._score) if name}
        session.draw_over_steps()

    @classmethod
    def prepare(cls) -> None:
        """Import W&B."""
        import wandb  # noqa: F401

    @classmethod
    def open(cls, opening: Opening) -> WandbTracker:
        """Open the run, or join one that the user has open.

        Raises:
            EnvironmentProblem: W&B has no key, refuses it, cannot be reached or does not answer in time.
        """
        config, settings = opening.config, opening.config.wandb
        session = WandbSession.open(
            mode=settings.mode,
            project=settings.project,
            folder=opening.run.path,
            config={**plain(config), **_commit(opening.run)},
            finish_timeout=_SHARE * config.tracking.finish_timeout,
            wait_at_exit=False,
            entity=settings.entity,
            name=settings.name or config.meta.experiment_name,
            id=opening.run.id,
            group=settings.group,
            job_type=settings.job_type,
            tags=list(dict.fromkeys([*config.tracking.tags, *settings.tags])),
            notes=settings.notes if settings.notes is not None else config.tracking.notes or None,
        )
        return cls(session, opening)

    def log(self, step: int, metrics: Mapping[str, float], *, at: float | None = None) -> None:
        """Take the metrics of one step.

        Args:
            at: when it was, in seconds since 1970; None: now.
        """
        row: dict[str, Any] = {**metrics, STEP: step}
        if at is not None:
            row["_timestamp"] = at
        self._session.log(row)
        self._rows += 1
        self.pass_over(step, metrics)

    def pass_over(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take metrics that W&B has already; only the learning curves and the extremes are told of them."""
        for name, curve in self._curves.items():
            if name in metrics:
                curve.add(step, metrics[name])

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Take the values of a gradient or a weight; those that are not finite are left out."""
        self._session.histogram(name, values.detach().float().cpu().numpy(), **{STEP: step})

    def samples(self, step: int, name: str, rows: Sequence[Sample]) -> None:
        """Show predictions as a table ``<name>/samples``; several references are set apart by lines."""
        if not rows:
            return
        scores = list(dict.fromkeys(metric for row in rows for metric in row.scores or {}))
        data = [
            [row.id, row.dialogue, row.prediction, "\n".join(row.references),
             *((row.scores or {}).get(metric) for metric in scores)]
            for row in rows
        ]  # fmt: skip
        columns = ["id", "input", "prediction", "reference", *scores]
        self._asking(f"{name}/samples", lambda: self._session.table(f"{name}/samples", columns, data, **{STEP: step}))

    def image(self, step: int, name: str, path: Path) -> None:
        """Show a chart."""
        self._session.image(name, path, **{STEP: step})

    def model(self, step: int, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Upload the best model as an artifact of type ``model``, unless wandb.log_model=false.

        Each run has an artifact of its own, so that its alias ``best`` never means the model of another run.
        """
        if not self._config.wandb.log_model:
            return
        name = f"{self._config.wandb.name or self._config.meta.experiment_name}-{self._folder.id}"
        details, aliases = {"step": step, **metadata}, ["best", self._folder.id]
        self._asking(
            "the model",
            lambda: self._session.artifact(folder, name=name, kind="model", metadata=details, aliases=aliases),
        )

    def alert(self, title: str, text: str, level: str) -> None:
        """Have W&B tell its user, where the run is online."""
        self._session.alert(title, text, level)

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Draw the learning curves, write the summary and close the run, unless the user opened it.

        W&B's process may write on at its own file for a moment; the end of this process waits for it.

        Raises:
            TimeoutError: not all was uploaded in time.
        """
        self._asking("the learning curves", self._draw)
        self._session.summarize({**self._extremes(), **summary})
        self._session.finish(failed=failed)
        if self.marks and self._session.owned and self._session.online:
            rows, last = recorded(self._folder)
            # Else rows of an earlier part, or rows that came too fast, may be missing there.
            proven = proven_rows(self._folder)
            if proven + self._rows >= rows:
                earlier = read_mark(self._folder).get("lacks", []) if proven else []
                lacks = list(dict.fromkeys([*earlier, *self._lacks]))
                write_mark(self._folder, self._session.run, rows=rows, last=last, how="online", lacks=lacks)

    @property
    def last_step(self) -> int | None:
        """The step of the last row that the server had when this was opened; None where it had none."""
        return self._last_step

    @property
    def lacks(self) -> Sequence[str]:
        """What W&B did not take, in words."""
        return tuple(self._lacks)

    @property
    def where(self) -> Any:
        """W&B's run, which has an ``id``, ``entity``, ``project`` and ``url``."""
        return self._session.run

    def _asking(self, what: str, work: Callable[[], None]) -> None:
        """Do what makes W&B ask its server at once, and go on without where it does not answer.

        Metrics need no answer: W&B keeps them until the server is back, so that they are worth going on for.
        """
        try:
            work()
        except Exception as error:  # of many kinds
            if not self._session.online or service_ended():
                raise
            self._lacks.append(what)
            logger.warning("W&B did not take %s of %s (%s)", what, self._folder.id, error)

    def _extremes(self) -> dict[str, float]:
        """Return the smallest losses and the best score; NaN and infinities are passed over."""
        found = {}
        for name, curve in self._curves.items():
            larger = name == self._score and self._config.metrics.larger_wins
            value = curve.highest if larger else curve.lowest
            if value is not None:
                found[f"{'max' if larger else 'min'}/{name}"] = value
        return found

    def _draw(self) -> None:
        """Log the curves as charts of W&B's own, which show on the run's page without anything set up there."""
        losses = {name: self._curves[name] for name in _LOSSES}
        scores = {self._score: self._curves[self._score]} if self._score else {}
        charts = {
            "charts/learning_curves": chart(losses, "Training and validation loss"),
            "charts/score": chart(scores, self._config.metrics.best),
        }
        drawn = {name: figure for name, figure in charts.items() if figure is not None}
        if drawn:
            self._session.log(drawn)


def recorded(run: RunFolder) -> tuple[int, float]:
    """Return how many rows ``metrics.jsonl`` has, and the time of the last; both 0 where it has none."""
    rows, last = 0, 0.0
    if run.metrics.is_file():
        for row in read_jsonl(run.metrics):
            rows, last = rows + 1, float(row.get("time", 0.0))
    return rows, last


def proven_rows(run: RunFolder) -> int:
    """Return how many of the first rows of ``metrics.jsonl`` W&B has for certain: those of the mark.

    Of a run that went on from before the end of the mark, those that the file had then, as their times show.
    """
    mark, rows = read_mark(run), 0
    last = mark.get("last")
    if isinstance(last, (int, float)) and run.metrics.is_file():
        for row in read_jsonl(run.metrics):
            if rows >= int(mark.get("rows") or 0) or float(row.get("time", 0.0)) > last:
                break
            rows += 1
    return rows


def _commit(run: RunFolder) -> dict[str, Any]:
    """Return the commit and whether files differed from it, as the run folder has them; empty where it has none."""
    try:
        git = read_json(run.path / "environment.json").get("git")
    except (OSError, ValueError):
        return {}
    return {"git": git} if isinstance(git, dict) else {}


def read_mark(run: RunFolder) -> dict[str, Any]:
    """Return what ``write_mark`` wrote last: what of a run is with W&B; empty where nothing is known to be."""
    try:
        return read_json(run.path / MARK)
    except (OSError, ValueError):
        return {}


def write_mark(run: RunFolder, of: Any, *, rows: int, last: float, how: str, lacks: Sequence[str] = ()) -> None:
    """Record that W&B has the first ``rows`` rows of ``metrics.jsonl``, and the run's end.

    Args:
        of: W&B's run, or whatever has its ``id``, ``entity``, ``project`` and ``url``.
        last: time of the last of them; a resumed run may have as many rows again, but others.
        how: online, uploaded or rebuilt.
        lacks: what W&B did not take besides, such as the model.
    """
    where = {name: getattr(of, name, None) for name in ("id", "entity", "project", "url")}
    write_json(
        run.path / MARK, {**where, "rows": rows, "last": last, "how": how, "lacks": list(lacks), "time": time.time()}
    )


PLUGIN = WandbTracker
