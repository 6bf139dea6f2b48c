"""Log to Weights & Biases from a script or a notebook of one's own."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast, get_args

from dlgsum.config.masking import hidden, plain
from dlgsum.config.schema import Config
from dlgsum.core.console import messages
from dlgsum.core.errors import UsageError, nearest
from dlgsum.core.masking import masked_values
from dlgsum.tracking.wandb_session import STEP, WandbSession

logger = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled"]
_FINISH = 120.0  # seconds that the end may take


class WandBLogger:
    """Log metrics, images and checkpoints to W&B; where it is disabled the same calls do nothing.

    ``dlgsum train`` does all of this by itself. A run that is open already is joined, and left open. What fails after
    the start is warned about once, and ends the logging but not the script.

    Args:
        project_name: project of W&B.
        config: settings to show with the run; what has a secret's name is masked.
        mode: "online", "offline" (``wandb sync`` uploads it later) or "disabled"; None takes WANDB_MODE, and without it
            "disabled".
        name: name of the run; None lets W&B choose one.
        folder: where W&B keeps its files, in ``wandb/``.
        options: further arguments of ``wandb.init``, such as ``entity``, ``group`` and ``tags``.

    Raises:
        UsageError: there is no such mode.
        EnvironmentProblem: W&B has no key, cannot be reached, or does not answer within 30 s.
    """

    def __init__(
        self,
        project_name: str,
        config: Mapping[str, Any] | Config | None = None,
        *,
        mode: Mode | None = None,
        name: str | None = None,
        folder: str | Path = ".",
        **options: Any,
    ) -> None:
        self.mode = _checked(mode or os.environ.get("WANDB_MODE") or "disabled")
        self._step = -1
        self._session: WandbSession | None = None
        if self.mode == "disabled" and getattr(sys.modules.get("wandb"), "run", None) is None:
            messages().print(
                "W&B is off: WandBLogger(…, mode='online') or WANDB_MODE=online switches it on, mode='offline' keeps "
                "its files here.",
                markup=False,
            )
            return
        self._session = WandbSession.open(
            mode=self.mode, project=project_name, folder=Path(folder), config=_shown(config), finish_timeout=_FINISH,
            name=name, **options,
        )  # fmt: skip
        self._session.draw_over_steps()

    @property
    def enabled(self) -> bool:
        """Whether what is logged goes anywhere."""
        return self._session is not None

    @property
    def url(self) -> str | None:
        """The run's page; None unless it is online."""
        return None if self._session is None else self._session.run.url

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics under their names.

        Args:
            step: place on the axis of the charts, ``train/global_step``; None: one more than that of the last call. A
                step may come twice or go back; nothing is lost by that.
        """
        self._step = self._step + 1 if step is None else step
        self._try(lambda session: session.log({**metrics, STEP: self._step}))

    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """Set values that stand for the whole run, such as the best score."""
        self._try(lambda session: session.summarize(summary))

    def log_image(self, name: str, image: str | Path | Any) -> None:
        """Log a picture: the path of a file, or a figure of matplotlib.

        Raises:
            UsageError: there is no such file.
        """
        beside = {STEP: max(self._step, 0)}
        if hasattr(image, "savefig"):

            def draw(session: WandbSession) -> None:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "figure.png"
                    image.savefig(path)
                    session.image(name, path, **beside)

            self._try(draw)
            return
        path = _there(image)
        self._try(lambda session: session.image(name, path, **beside))

    def log_checkpoint(self, path: str | Path, name: str | None = None, *, aliases: Sequence[str] = ()) -> None:
        """Upload a file or a folder as an artifact of type ``model``; it must stay until ``finish``.

        Args:
            name: name of the artifact; None: that of the file or folder. The same name again is its next version.

        Raises:
            UsageError: there is no such file or folder.
        """
        path = _there(path)
        name = name or path.resolve().name
        self._try(lambda session: session.artifact(path, name=name, kind="model", metadata={}, aliases=aliases))

    def finish(self, *, failed: bool = False) -> None:
        """Close the run, unless it was open before; what is logged later goes nowhere. A second call does nothing."""
        self._try(lambda session: session.finish(failed=failed))
        self._session = None

    def __enter__(self) -> Self:
        """Return this logger."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the run, as failed where the block was left by an exception."""
        self.finish(failed=kind is not None)

    def _try(self, work: Callable[[WandbSession], None]) -> None:
        if self._session is None:
            return
        try:
            work(self._session)
        except Exception as error:  # W&B raises many kinds; none is worth a script
            logger.warning("W&B takes no more of this run (%s)", error)
            self._session = None


def _checked(mode: str) -> Mode:
    if mode not in get_args(Mode):
        guess = nearest(mode, get_args(Mode))
        raise UsageError(
            f"'{mode}' is no mode of W&B: {', '.join(get_args(Mode))}", f"Did you mean '{guess}'?" if guess else ""
        )
    return cast("Mode", mode)


def _shown(config: Mapping[str, Any] | Config | None) -> dict[str, Any]:
    if isinstance(config, Config):
        return plain(config)
    return cast("dict[str, Any]", masked_values(hidden("", dict(config or {}))))


def _there(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise UsageError(f"There is no file or folder {path}")
    return path
