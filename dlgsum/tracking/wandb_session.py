"""One open run of W&B: what the tracker of a training run and the logger of a script both write to."""

from __future__ import annotations

import logging
import math
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from dlgsum.config.masking import hidden_line
from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import to_jsonable
from dlgsum.tracking import wandb_exit

logger = logging.getLogger(__name__)

INIT_TIMEOUT = 30.0  # seconds that W&B has to open a run
STEP = "train/global_step"
_WITHOUT = "Without it: wandb.mode=offline (WANDB_MODE=offline), and `dlgsum sync` uploads later."
_GRAPHQL = {"x_graphql_retry_max": 4, "x_graphql_timeout_seconds": 20.0}
_METADATA = 100  # keys that W&B takes
_waiting = threading.Lock()


class WandbSession:
    """Write to one run of W&B; a run that the user has open already is joined, and left open.

    Rows are logged without W&B's own step: with one, it drops every row whose step is below the last, and the metrics
    of one step come here in several rows. ``train/global_step`` is the axis of every chart instead.

    Attributes:
        run: W&B's run.
        owned: whether it was opened here.
    """

    def __init__(self, run: Any, *, owned: bool) -> None:
        self.run = run
        self.owned = owned

    @classmethod
    def open(
        cls,
        *,
        mode: Literal["online", "offline", "disabled"],
        project: str,
        folder: Path,
        config: Mapping[str, Any],
        finish_timeout: float,
        wait_at_exit: bool = True,
        **options: Any,
    ) -> WandbSession:
        """Join the run that the user has open, else open one; nothing is ever asked of whoever sits at the terminal.

        Args:
            mode: "online" or "offline"; "disabled" where only a run that is open is to be joined.
            folder: where W&B keeps its files, in ``wandb/``.
            config: what to show as the configuration, without secrets.
            finish_timeout: seconds within which the end of the run must be uploaded.
            wait_at_exit: whether the end of the process waits for the upload of a run that was not finished by then, as
                W&B's own runs have it; without that the run needs an ``id``.
            options: further arguments of ``wandb.init``, such as ``id`` and ``tags``.

        Raises:
            EnvironmentProblem: W&B has no key, refuses it, cannot be reached or does not answer in time.
        """
        import wandb

        if wandb.run is not None:
            session = cls(wandb.run, owned=False)
            session.run.config.setdefaults(dict(config))  # what the user has set stays
            return session
        folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            silent=True, init_timeout=INIT_TIMEOUT, finish_timeout=finish_timeout, finish_timeout_raises=True,
            # Prints are in our own log, bars and tables among them; W&B would wrap the streams once more.
            console="off",
            # The address of a git remote may hold a token, and W&B sends it.
            disable_git=True,
            # W&B keeps the command line with the run: not where it holds a secret.
            x_disable_meta=any(hidden_line(part) != part for part in sys.argv),
            **_GRAPHQL,
        )  # fmt: skip
        with _never_asking(wandb), _in_words(wandb):
            if mode == "online" and not wait_at_exit:
                wandb_exit.do_not_wait_for(options["id"])
            run = wandb.init(
                project=project, mode=mode, dir=str(folder), config=dict(config), settings=settings,
                # A resumed run goes on under its id, instead of replacing what is there.
                resume="allow" if options.get("id") else None, **options,
            )  # fmt: skip
        return cls(run, owned=True)

    @property
    def online(self) -> bool:
        """Whether rows are sent to a server as they come."""
        return getattr(self.run.settings, "mode", "") in ("online", "shared")

    @property
    def last_step(self) -> int | None:
        """The step of the last row that the server has; None for a new run, or where that is not known."""
        step = self.run.summary.get(STEP) if getattr(self.run, "resumed", False) else None
        return int(step) if isinstance(step, (int, float)) and math.isfinite(step) else None

    def draw_over_steps(self) -> None:
        """Draw every metric over ``train/global_step``.

        Without a ``summary`` of W&B's, such as the smallest value: its own turns to NaN for good at the first NaN.
        """
        self.run.define_metric("*", step_metric=STEP)

    def log(self, row: Mapping[str, Any]) -> None:
        """Add one row."""
        self.run.log(dict(row))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], **beside: Any) -> None:
        """Add a table; texts are plain texts to W&B, whatever HTML they hold.

        Args:
            beside: further values of the same row.
        """
        import wandb

        # Of any type: a score that is missing in one row is no reason to refuse the others.
        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)
        self.log({name: table, **beside})

    def image(self, name: str, path: Path, **beside: Any) -> None:
        """Add a picture from a file."""
        import wandb

        self.log({name: wandb.Image(str(path)), **beside})

    def histogram(self, name: str, values: Any, **beside: Any) -> None:
        """Add the distribution of numbers, an array of any shape; what is not finite is left out, and nothing is none.

        W&B itself refuses values that are not finite.
        """
        import numpy as np
        import wandb

        numbers = np.asarray(values, dtype=np.float64).ravel()
        finite = numbers[np.isfinite(numbers)]
        if finite.size:
            self.log({name: wandb.Histogram(finite.tolist()), **beside})

    def artifact(
        self, path: Path, *, name: str, kind: str, metadata: Mapping[str, Any], aliases: Sequence[str]
    ) -> None:
        """Upload a file or a folder as an artifact, without a copy of it: it must stay until the run is uploaded.

        Raises:
            OSError: it cannot be read.
        """
        import wandb

        plain = dict(list(to_jsonable(dict(metadata)).items())[:_METADATA])
        artifact = wandb.Artifact(safe_name(name), kind, metadata=plain)
        # Not add_dir, which prints. Sorted, so that equal folders are equal artifacts.
        for file in [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()):
            place = file.name if file == path else file.relative_to(path).as_posix()
            artifact.add_file(str(file.absolute()), name=place, policy="immutable", skip_cache=True)
        self.run.log_artifact(artifact, aliases=list(aliases))

    def summarize(self, summary: Mapping[str, Any]) -> None:
        """Set values of the summary; a NaN or an infinity is told as it is."""
        self.run.summary.update(dict(summary))

    def alert(self, title: str, text: str, level: str) -> None:
        """Have W&B tell its user; nothing happens unless the run is online.

        Args:
            title: cut to the 63 characters that W&B takes.
            level: "info", "warning" or "error".
        """
        if self.online:
            # Repeats are held back before they come here: W&B need not wait as well.
            self.run.alert(title[:63], text, level={"warning": "WARN"}.get(level, level.upper()), wait_duration=1)

    def finish(self, *, failed: bool = False) -> None:
        """Close the run, unless the user opened it.

        Raises:
            TimeoutError: not all was uploaded in time; W&B's own file is whole.
        """
        if self.owned:
            self.run.finish(exit_code=1 if failed else 0)
            wandb_exit.is_finished(self.run.id)


def safe_name(text: str) -> str:
    """Return a name that W&B takes for an artifact: letters, digits, ``_.-``, 128 at most; never empty."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-")[:128] or "model"


class Curve:
    """Points of a line; above ``most`` of them every second is dropped, so that the shape stays.

    Points that are not finite have no place on a chart and are left out.

    Attributes:
        lowest: smallest of all finite values, dropped ones too; None without any.
        highest: largest of them.
    """

    def __init__(self, most: int = 500) -> None:
        self.xs: list[float] = []
        self.ys: list[float] = []
        self.lowest: float | None = None
        self.highest: float | None = None
        self._most = most
        self._every = 1
        self._seen = 0

    def add(self, x: float, y: float) -> None:
        """Take one more point."""
        if not math.isfinite(y):
            return
        self.lowest = y if self.lowest is None else min(self.lowest, y)
        self.highest = y if self.highest is None else max(self.highest, y)
        if self._seen % self._every == 0:
            self.xs.append(x)
            self.ys.append(y)
        self._seen += 1
        if len(self.xs) > self._most:
            self.xs, self.ys, self._every = self.xs[::2], self.ys[::2], self._every * 2


def chart(curves: Mapping[str, Curve], title: str) -> Any:
    """Return W&B's chart of lines over steps; None where there is no point."""
    import wandb

    drawn = {name: curve for name, curve in curves.items() if curve.xs}
    if not drawn:
        return None
    return wandb.plot.line_series(
        xs=[curve.xs for curve in drawn.values()],
        ys=[curve.ys for curve in drawn.values()],
        keys=list(drawn),
        title=title,
        xname="step",
    )


def check_key() -> None:
    """See that there is a key for the server.

    Raises:
        EnvironmentProblem: there is none, or it has the wrong form.
    """
    import wandb
    from wandb.sdk.lib import wbauth

    with _never_asking(wandb), _in_words(wandb, ""):
        settings = wandb.setup().settings
        wbauth.authenticate_session(host=settings.base_url, source="dlgsum")


@contextmanager
def _never_asking(wandb: Any) -> Iterator[None]:
    """Keep W&B from asking for a key while the block runs: a job that waits for an answer at night is a job lost.

    It asks wherever standard input is a terminal, unless it is silent; the setting of a run comes too late for that.
    """
    with _waiting:
        settings = wandb.setup().settings
        wandb.termsetup(wandb.Settings(silent=True), None)
        try:
            yield
        finally:
            wandb.termsetup(settings, None)


@contextmanager
def _in_words(wandb: Any, without: str = _WITHOUT) -> Iterator[None]:
    """Turn W&B's errors into what is wrong and what to do; ``without`` says how to do without its server."""
    server = wandb.setup().settings.base_url
    try:
        yield
    except (wandb.errors.UsageError, wandb.errors.CommError) as error:
        first = str(error).partition("\n")[0]
        if isinstance(error, wandb.errors.AuthenticationError) or "api key" in first.lower():
            raise EnvironmentProblem(
                f"W&B at {server} takes no key of this machine: {first}",
                f"Log in once: `wandb login`, or set WANDB_API_KEY. {without}".strip(),
            ) from error
        if isinstance(error, wandb.errors.UsageError):
            raise
        raise EnvironmentProblem(f"W&B at {server} does not open the run: {first}", without) from error
