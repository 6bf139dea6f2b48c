"""Learning curves: the losses and the score of a run over its steps."""

from __future__ import annotations

import logging
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlgsum.core.files import read_jsonl, write_bytes_atomic
from dlgsum.core.lenient import number, whole
from dlgsum.tracking import inline_plot
from dlgsum.tracking.record import read_record
from dlgsum.tracking.run import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

LOSSES = ("train/loss", "eval/loss")
POINTS = 2000
"""Of a longer series so many points are drawn, about as many as the picture has columns."""

# Okabe and Ito's colours, which the colour-blind tell apart; lines differ in their markers as well.
_BLUE, _VERMILION, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_GREY = "#555555"
# The scale is logarithmic where three quarters of the values would lie in this lowest part of a linear one.
_FLAT = 0.1


@dataclass(frozen=True)
class LearningRow:
    """One point of one curve; ``value`` is NaN where the metric was not finite."""

    metric: str
    step: int
    value: float


def learning_rows(
    metrics_rows: Iterable[Mapping[str, Any]], score: str = "rouge_combined_f1", points: int = POINTS
) -> list[LearningRow]:
    """Return the rows of ``train/loss``, ``eval/loss`` and ``eval/<score>``, each in the order of its steps.

    Of a step that has a metric twice the later one counts; a metric that is missing or no number has no row there.
    Where a metric has more than ``points`` steps, its steps are divided into ``points / 2`` groups of equal size; each
    keeps its lowest and its highest value, so that no spike is lost, and one that is not finite, where there is any.
    Of a million rows 16 bytes a number are held in memory.

    Args:
        metrics_rows: rows of ``metrics.jsonl``, in any order.
        score: name of a validation metric without ``eval/``.
        points: 2 or more.
    """
    steps: dict[str, array[float]] = {name: array("d") for name in dict.fromkeys((*LOSSES, f"eval/{score}"))}
    values: dict[str, array[float]] = {name: array("d") for name in steps}
    for row in metrics_rows:
        step, metrics = whole(row.get("step")), row.get("metrics")
        if step is None or not isinstance(metrics, Mapping):
            continue
        for name in steps:
            value = number(metrics.get(name))
            if value is not None:
                steps[name].append(step)
                values[name].append(value if math.isfinite(value) else math.nan)
    return [
        LearningRow(name, step, value)
        for name in steps
        for step, value in _thinned(*_in_order(steps[name], values[name]), points)
    ]


def _in_order(steps: Sequence[float], values: Sequence[float]) -> tuple[Any, Any]:
    """Return both as arrays, sorted by step, with the last value of each step."""
    import numpy as np

    at, what = np.asarray(steps), np.asarray(values)
    order = np.argsort(at, kind="stable")
    at, what = at[order], what[order]
    last = np.append(at[1:] != at[:-1], True) if len(at) else np.zeros(0, dtype=bool)
    return at[last], what[last]


def _thinned(steps: Any, values: Any, points: int) -> list[tuple[int, float]]:
    import numpy as np

    kept = np.arange(len(steps))
    if len(steps) > points:
        kept = np.unique(np.concatenate([_extremes(values, group) for group in np.array_split(kept, points // 2)]))
    return [(int(step), float(value)) for step, value in zip(steps[kept], values[kept], strict=True)]


def _extremes(values: Any, group: Any) -> Any:
    import numpy as np

    finite = np.isfinite(values[group])
    good, bad = group[finite], group[~finite][:1]
    return np.append(bad, [good[values[good].argmin()], good[values[good].argmax()]] if len(good) else []).astype(int)


def learning_curves(rows: Sequence[LearningRow], *, best_step: int | None = None, title: str = "") -> Figure | None:
    """Return a figure of 1400 × 560 pixels: the losses on the left, the score on the right, each over the steps.

    A panel without a finite value is left out; with none at all the result is None. What is not finite leaves a gap,
    and a cross at its step on the lower edge. A scale is logarithmic only where all values are positive and three
    quarters of them would lie in the lowest tenth of a linear one.

    Args:
        rows: of ``learning_rows``.
        best_step: the step of the best model, marked in both panels.
        title: above the panels.
    """
    curves: dict[str, list[LearningRow]] = {}
    for row in rows:
        curves.setdefault(row.metric, []).append(row)
    curves = {name: curve for name, curve in curves.items() if any(math.isfinite(row.value) for row in curve)}
    losses = [name for name in curves if name in LOSSES]
    scores = [name for name in curves if name not in LOSSES]
    panels = [names for names in (losses, scores) if names]
    if not panels:
        return None
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with inline_plot.settings():
        figure = Figure(
            figsize=(14 if len(panels) == 2 else 9, 5.6), dpi=100, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
        )
        for axes, names in zip(figure.subplots(1, len(panels), squeeze=False, sharex=True)[0], panels, strict=True):
            _draw(axes, {name: curves[name] for name in names}, best_step, star=names is panels[-1])
        if title:
            figure.suptitle(title, fontsize=14)
    return figure


def _draw(axes: Axes, curves: Mapping[str, Sequence[LearningRow]], best_step: int | None, *, star: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    styles = {"train/loss": (_BLUE, ""), "eval/loss": (_VERMILION, "o")}
    for name, curve in curves.items():
        colour, marker = styles.get(name, (_GREEN, "s"))
        _line(axes, name, curve, colour, marker)
    if best_step is not None:
        _mark_best(axes, curves if star else {}, best_step)
    finite = [row.value for curve in curves.values() for row in curve if math.isfinite(row.value)]
    if _needs_log(finite):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("step", fontsize=12)
    axes.set_ylabel("loss" if set(curves) <= set(LOSSES) else next(iter(curves)), fontsize=12)
    axes.tick_params(labelsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=11, frameon=False)


def _line(axes: Axes, name: str, curve: Sequence[LearningRow], colour: str, marker: str) -> None:
    values = [row.value for row in curve]
    gaps = [row.step for row in curve if not math.isfinite(row.value)]
    every = list(range(len(curve))) if marker and len(curve) <= 200 else _alone(values)
    shape: dict[str, Any] = {
        "marker": marker or ("o" if every else ""),
        "markersize": 5 if marker else 4,
        "markevery": every,
    }
    axes.plot([row.step for row in curve], values, color=colour, linewidth=1.8, label=name, **shape)
    if gaps:
        edge = axes.get_xaxis_transform()  # the height is a share of the panel
        label = f"{name} not finite"
        axes.plot(
            gaps, [0.02] * len(gaps), "x", color=_PURPLE, markersize=8, markeredgewidth=2, transform=edge, label=label
        )


def _alone(values: Sequence[float]) -> list[int]:
    """Return the places of values without a finite neighbour, which are lines without length."""
    finite = [False, *map(math.isfinite, values), False]
    return [place for place in range(len(values)) if finite[place + 1] and not finite[place] and not finite[place + 2]]


def _mark_best(axes: Axes, curves: Mapping[str, Sequence[LearningRow]], best_step: int) -> None:
    """Mark the step, and where one of the curves is of the validation rows, its value there."""
    evaluated = next((curve for name, curve in reversed(list(curves.items())) if name.startswith("eval/")), ())
    value = next((row.value for row in evaluated if row.step == best_step and math.isfinite(row.value)), None)
    label = f"best model: step {best_step}" + ("" if value is None else f", {value:.4g}")
    axes.axvline(best_step, color=_GREY, linestyle="--", linewidth=1.2, zorder=0, label=label if value is None else "")
    if value is not None:
        axes.plot([best_step], [value], "*", color="black", markersize=15, label=label, zorder=5)


def _needs_log(finite: Sequence[float]) -> bool:
    low, high = min(finite), max(finite)
    most = sorted(finite)[(len(finite) - 1) * 3 // 4]
    return low > 0 and most - low < _FLAT * (high - low)


def save_learning_curves(run: RunFolder, best_step: int | None, metric: str) -> Path | None:
    """Draw the learning curves of a run into ``visualizations/learning_curves.png``; whatever goes wrong is logged.

    Args:
        metric: the one that the best model was chosen by, without ``eval/``; ``loss`` has a panel already.

    Returns:
        The file; None where there is nothing to draw or it could not be drawn.
    """
    path = run.visualizations / "learning_curves.png"
    try:
        rows = learning_rows(read_jsonl(run.metrics), metric) if run.metrics.is_file() else []
        name = read_record(run).name
        title = f"{name}   {run.id}" if name and inline_plot.has_letters_for(name) else run.id
        figure = learning_curves(rows, best_step=best_step, title=title)
        if figure is None:
            logger.info("no learning curves: %s has neither losses nor a finite %s", run.metrics, metric)
            return None
        if inline_plot.lacks_hangul(metric):
            logger.warning(inline_plot.NO_HANGUL)
        write_bytes_atomic(path, inline_plot.png_bytes(figure))
    except Exception as error:  # a picture is no reason to lose the end of a run
        logger.warning("the learning curves could not be drawn (%s: %s)", type(error).__name__, error)
        return None
    return path
