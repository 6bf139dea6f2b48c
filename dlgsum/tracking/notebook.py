"""Metrics, messages and plots of an experiment, shown where it runs: in a notebook, or as text."""

from __future__ import annotations

import html
import logging
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.core.console import messages
from dlgsum.core.errors import UsageError
from dlgsum.core.files import append_jsonl
from dlgsum.core.masking import masked, masked_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


class NotebookLogger:
    """Show messages, metrics and plots below the cell of a notebook; elsewhere as text, which it says.

    Metrics are kept in memory: ``metrics`` holds ``{name: [(step, value), …]}`` of the experiment that runs, or ran
    last. Texts are shown as they are, never as HTML, and with secrets masked.

    Args:
        path: a JSONL file that also takes every metric, and the start and the end of each experiment; None: no file.
        inline: whether to show what only a notebook can; None looks where this runs.
    """

    def __init__(self, path: str | Path | None = None, *, inline: bool | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.inline = _in_notebook() if inline is None else inline
        self.experiment: str | None = None
        self.metrics: dict[str, list[tuple[int, float]]] = {}
        self._since = 0.0
        self._broken = False
        if not self.inline:
            self._say("This is no notebook: plots are described in words, and returned as figures.")

    def start_experiment(self, name: str) -> None:
        """Begin an experiment, without metrics; one that still runs is ended first."""
        if self.experiment is not None:
            self.end_experiment()
        self.experiment, self.metrics, self._since = str(name), {}, time.monotonic()
        self._record("start")
        self._show(f"Experiment: {name}", f"<b>{_escaped('Experiment: ' + str(name))}</b>")

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Take one value of a metric, and show it.

        Args:
            name: the metric's name.
            value: a number; a tensor with one element also counts. NaN and infinity are kept as they are.
            step: where it belongs; one after the last of this metric when None, beginning with 1.

        Raises:
            UsageError: the value is no number.
        """
        number = _number(value, name)
        known = self.metrics.setdefault(str(name), [])
        at = step if step is not None else (known[-1][0] + 1 if known else 1)
        known.append((at, number))
        self._record("metric", metric=str(name), step=at, value=number)
        warning = "" if math.isfinite(number) else ", which is not finite"
        self._say(f"{name} = {number:.6g} (step {at}){warning}")

    def log_with_plot(self, message: str, data: Mapping[str, Any]) -> Figure | None:
        """Show a message, and a plot of ``data`` below it.

        Args:
            message: any text.
            data: names with sequences, which become lines, or single numbers, which become bars, or dashed lines
                where there are sequences too.

        Returns:
            The figure; None where there is nothing to draw.

        Raises:
            UsageError: a value is neither a number nor a sequence of numbers.
        """
        self._say(message)
        return self._plot(data, str(message).splitlines()[0] if str(message).strip() else "")

    def create_inline_plot(self, values: Sequence[float] | Mapping[str, Any], title: str) -> Figure | None:
        """Plot one sequence of numbers, or several by name as for ``log_with_plot``.

        Values that are not finite leave a gap, and are counted in the text.

        Returns:
            The figure; None where there is nothing to draw.

        Raises:
            UsageError: something is no number.
        """
        return self._plot(values if isinstance(values, Mapping) else {"value": values}, title)

    def progress(
        self, iterable: Iterable[Any] | None = None, *, total: int | None = None, description: str = ""
    ) -> Any:
        """Return a bar of tqdm: to loop over, or with a ``total`` to ``update``.

        It is a widget in a notebook that has ipywidgets, else a line of text.
        """
        # Standard output: notebooks give standard error a red ground.
        options = {
            "total": total,
            "desc": masked(description) or None,
            "file": sys.stdout if self.inline else sys.stderr,
        }
        if self.inline and _has_widgets():
            from tqdm.notebook import tqdm  # type: ignore[import-untyped]

            return tqdm(iterable, **options)
        from tqdm.std import tqdm as plain  # type: ignore[import-untyped]

        return plain(iterable, dynamic_ncols=not self.inline, **options)

    def end_experiment(self) -> dict[str, dict[str, float]]:
        """End the experiment and show its metrics; without one nothing happens.

        Returns:
            For each metric "count", "last", "lowest" and "highest"; the latter two are of the finite values, NaN
            where there are none.
        """
        if self.experiment is None:
            return {}
        summary = {name: _summary([value for _, value in rows]) for name, rows in self.metrics.items()}
        seconds = time.monotonic() - self._since
        self._record("end", seconds=round(seconds, 3), metrics=summary)
        title = f"End of {self.experiment} after {seconds:.1f} s"
        self.experiment = None
        rows = [[name, *(f"{value:.6g}" for value in numbers.values())] for name, numbers in summary.items()]
        head = ["metric", "count", "last", "lowest", "highest"]
        lines = [title, *("  ".join(f"{cell:<12}" for cell in row).rstrip() for row in ([head, *rows] if rows else []))]
        cells = "".join(f"<tr>{''.join(f'<td>{_escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
        table = f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{cells}</table>" if rows else ""
        self._show("\n".join(lines), f"<b>{_escaped(title)}</b>{table}")
        return summary

    def _plot(self, data: Mapping[str, Any], title: str) -> Figure | None:
        from dlgsum.tracking import inline_plot

        series = {masked(str(name)): _numbers(values, str(name)) for name, values in data.items()}
        words = inline_plot.describe(series)
        title = masked(str(title))
        if inline_plot.lacks_hangul(title, *series):
            self._say(inline_plot.NO_HANGUL)
        figure = inline_plot.draw(series, title)
        self._say(f"{title}: {words}" if title else words)
        if figure is not None and self.inline:
            from IPython.display import display

            display({"image/png": inline_plot.png(figure), "text/plain": f"{title}: {words}"}, raw=True)  # type: ignore[no-untyped-call]
        return figure

    def _say(self, text: object) -> None:
        self._show(str(text), f"<pre>{_escaped(str(text))}</pre>")

    def _show(self, text: str, markup: str) -> None:
        if self.inline:
            from IPython.display import display

            display({"text/plain": masked(text), "text/html": markup}, raw=True)  # type: ignore[no-untyped-call]
        else:
            messages().print(masked(text), markup=False)

    def _record(self, event: str, **details: Any) -> None:
        if self.path is None:
            return
        row = {"time": datetime.now(UTC).isoformat(), "experiment": self.experiment, "event": event, **details}
        try:
            append_jsonl(self.path, masked_values(row))
        except OSError as error:
            if not self._broken:
                logger.warning("%s takes no more metrics (%s); those in memory are complete", self.path, error)
            self._broken = True


def _in_notebook() -> bool:
    """Say whether this runs in a kernel of Jupyter; the terminal of IPython shows no pictures."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None


def _has_widgets() -> bool:
    from importlib.util import find_spec

    return find_spec("ipywidgets") is not None


def _escaped(text: str) -> str:
    return html.escape(masked(text))


def _number(value: Any, name: str) -> float:
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError("a text")
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor with several elements
        raise UsageError(f"The value of '{name}' is no number: {value!r:.80}", "Give one number.") from error


def _numbers(values: Any, name: str) -> float | list[float]:
    """Return one number, or a list for anything that can be looped over; texts are neither."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        return _number(values, name)
    return [_number(value, name) for value in values]


def _summary(values: list[float]) -> dict[str, float]:
    finite = [value for value in values if math.isfinite(value)]
    return {
        "count": len(values), "last": values[-1],
        "lowest": min(finite, default=math.nan), "highest": max(finite, default=math.nan),
    }  # fmt: skip
