"""How a watched run looks: a table that stays in its place on a terminal, lines elsewhere, plain values for JSON."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dlgsum.core.files import dumps
from dlgsum.core.text import duration

if TYPE_CHECKING:
    from dlgsum.recipes.watch_state import Evaluation, Note, RunState

_STYLES = {"running": "green", "preparing": "cyan", "completed": "bold green", "interrupted": "yellow"}  # others: red
_SEVERITIES = {"error": "red", "warning": "yellow"}
_BARS = "▁▂▃▄▅▆▇█"
_NOT_FINITE = "×"
_SPARK = 24  # columns of the curve
_ROWS = 13  # rows that the table takes beside the findings
_REASON = 300  # characters shown of why a run ended
_SCORES = {"rouge1_f1": "R1", "rouge2_f1": "R2", "rougeL_f1": "RL", "rouge_combined_f1": "combined"}


def sparkline(values: Sequence[float]) -> str:
    """Return a curve of one row; the lowest finite value is the lowest bar, and what is not finite is a ×."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    span = high - low
    if not math.isfinite(span):  # beyond what a float holds
        low, high, span = low / 2, high / 2, high / 2 - low / 2
        values = [value / 2 for value in values]
    steps = len(_BARS) - 1
    return "".join(
        (_BARS[round((value - low) / span * steps)] if span > 0 else _BARS[0]) if math.isfinite(value) else _NOT_FINITE
        for value in values
    )


def table(state: RunState, height: int | None) -> Panel:
    """Return the state as a table.

    Args:
        height: rows of the terminal; fewer findings are shown where it is low. None: as many as are kept.
    """
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(width=9, no_wrap=True, style="dim")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for name, content in [*_rows(state), *_findings(state, height)]:
        grid.add_row(name, content)
    style = _STYLES.get(state.condition, "bold red")
    phase = f", {state.phase}" if state.phase and state.phase != "training" else ""
    return Panel(
        grid,
        title=Text(_clean(state.run)),
        title_align="left",
        subtitle=Text(_clean(f"{state.condition}{phase}"), style=style),
        subtitle_align="right",
        border_style=style,
    )


def _rows(state: RunState) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [("step", _bar(state))]
    rows.append(("time", Text(_times(state))))
    # What must be read to its end may take more than one row.
    if state.reason:
        rows.append(("reason", Text(_clean(state.reason)[:_REASON], no_wrap=False, overflow="fold")))
    if state.resume:
        rows.append(("next", Text(state.resume, no_wrap=False, overflow="fold", style="bold")))
    if state.points:
        losses = [point.loss for point in state.points]
        rows.append(("loss", Text(f"{losses[-1]:.4g}  {sparkline(losses[-_SPARK:])}")))
    training = _named(state, {"train/learning_rate": "learning rate", "train/grad_norm": "gradient norm"})
    if training:
        rows.append(("", Text(training)))
    if state.evaluation is not None:
        rows.append(("scores", Text(f"step {state.evaluation.step}  {scores(state.evaluation, star=False)}")))
    if state.best is not None:
        label, value = _SCORES.get(state.best.metric, state.best.metric), _score(state.best.metric, state.best.score)
        rows.append(("best", Text(f"step {state.best.step}  {_clean(label)} {value}")))
    for name, text in (("speed", _speed(state)), ("memory", _memory(state))):
        if text:
            rows.append((name, Text(text)))
    return rows


def _findings(state: RunState, height: int | None) -> list[tuple[str, Any]]:
    used = _ROWS + (_REASON // 60 if state.reason else 0)
    kept = len(state.notes) if height is None else max(1, height - used)
    return [
        ("findings" if index == 0 else "", Text(_note(note, state.run), style=_SEVERITIES.get(note.severity, "")))
        for index, note in enumerate(state.notes[max(0, len(state.notes) - kept) :])
    ]


def _bar(state: RunState) -> Any:
    if not state.total:
        return Text(_step(state))
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(no_wrap=True, overflow="ellipsis")
    row.add_column(ratio=1)
    row.add_row(Text(_step(state)), ProgressBar(total=state.total, completed=min(state.step or 0, state.total)))
    return row


def _step(state: RunState) -> str:
    if state.step is None:
        return "–"
    of = f"/{state.total}  {100 * state.step / state.total:.0f} %" if state.total else ""
    return f"{state.step}{of}" + (f"  epoch {state.epoch:.2f}" if state.epoch is not None else "")


def _times(state: RunState) -> str:
    parts = [f"{duration(state.seconds)} since its start"] if state.seconds is not None else []
    if state.seconds_left is not None:
        parts.append(f"{duration(state.seconds_left)} left")
    if state.silence >= 10 and not state.ended:
        parts.append(f"last report {duration(state.silence)} ago")
    return ", ".join(parts) or "–"


def _named(state: RunState, names: dict[str, str]) -> str:
    return "  ".join(f"{label} {state.latest[name]:.3g}" for name, label in names.items() if name in state.latest)


def scores(evaluation: Evaluation, *, star: bool = True) -> str:
    """Return the scores of an evaluation on one line, F1 times 100."""
    shown = [f"{label} {_score(name, evaluation.scores[name])}" for name, label in {"loss": "loss", **_SCORES}.items()
             if name in evaluation.scores]  # fmt: skip
    return "  ".join([*shown, *(["★ best"] if evaluation.best and star else [])])


def _score(name: str, value: float) -> str:
    return f"{100 * value:.2f}" if name.endswith("_f1") else f"{value:.4g}"


def _speed(state: RunState) -> str:
    units = {"tokens_per_sec": "tokens/s", "samples_per_sec": "samples/s", "step_time_ms": "ms a step"}
    found = {name: state.latest.get(f"throughput/{name}") for name in units}
    parts = [
        f"{value:,.{0 if value >= 100 else 1}f} {units[name]}" for name, value in found.items() if value is not None
    ]
    share = state.latest.get("throughput/data_loading_share")
    return "  ".join([*parts, *([f"loading data {100 * share:.0f} %"] if share is not None else [])])


def _memory(state: RunState) -> str:
    get = state.latest.get
    parts = []
    if (used := get("gpu/memory_allocated_gb")) is not None:
        total, peak = get("gpu/memory_total_gb"), get("gpu/memory_peak_gb")
        parts.append(f"GPU {used:.1f}" + (f" of {total:.1f}" if total is not None else "") + " GB")
        parts += [f"peak {peak:.1f} GB"] if peak is not None else []
    if (process := get("host/rss_gb")) is not None:
        parts.append(f"process {process:.1f} GB")
    if (host := get("host/ram_used_gb")) is not None:
        parts.append(f"host {host:.1f} GB")
    return "  ".join(parts)


def _note(note: Note, run: str) -> str:
    """Return a finding as one row: its title, which says how bad it is and where, and the first line of the rest."""
    # In a message the title says of which run it is; here everybody knows.
    title = note.title.rpartition(f"{run}: ")[2].removeprefix(f"[{note.severity}] ") or note.kind
    at = f" step {note.step}:" if note.step is not None and f"step {note.step}" not in title else ""
    return _clean(": ".join(filter(None, [f"[{note.severity}]{at} {title}", note.text.partition("\n")[0]])))


def _clean(text: str) -> str:
    """Return a text of one row; control characters of whoever wrote it have no say on a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


class LiveTable:
    """The table on a terminal; the last one stays when it is closed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def take(self, state: RunState) -> None:
        """Show a state."""
        self._live.update(table(state, self._console.height), refresh=True)


class Lines:
    """A line when something happens, and one of progress at most every so many seconds.

    Args:
        write: takes a line.
        as_json: the whole state as an object a line.
    """

    def __init__(
        self, write: Callable[[str], None], every: float, *, as_json: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._every = every
        self._as_json = as_json
        self._clock = clock
        self._before: RunState | None = None
        self._written = -math.inf
        self._noted = 0
        self._evaluation: Evaluation | None = None

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def take(self, state: RunState) -> None:
        """Write what is new since the last state."""
        news = self._news(state)
        now = self._clock()
        moved = self._before is None or (state.step, state.phase) != (self._before.step, self._before.phase)
        if not news and not (moved and now - self._written >= self._every):
            return
        self._before, self._written = state, now
        if self._as_json:
            self._write(dumps(as_plain(state)))
            return
        head = f"{datetime.now():%H:%M:%S} {_clean(state.run)} "
        for line in news or [progress_line(state)]:
            self._write(head + line)

    def _news(self, state: RunState) -> list[str]:
        lines = []
        if self._before is None or state.condition != self._before.condition:
            parts = [progress_line(state), _clean(state.reason), f"go on with: {state.resume}" if state.resume else ""]
            lines.append("  ".join(filter(None, parts)))
        evaluation = state.evaluation
        if evaluation is not None and evaluation != self._evaluation:
            self._evaluation = evaluation
            lines.append(f"evaluation at step {evaluation.step}  {scores(evaluation)}")
        for note in state.notes:
            if note.number > self._noted:
                self._noted = note.number
                lines.append(_note(note, state.run))
        return lines


def progress_line(state: RunState) -> str:
    """Return the state on one line."""
    phase = f", {state.phase}" if state.phase and state.phase != "training" else ""
    loss = f"loss {state.points[-1].loss:.4g}" if state.points else ""
    training = _named(state, {"train/learning_rate": "lr", "train/grad_norm": "grad"})
    left = f"{duration(state.seconds_left)} left" if state.seconds_left is not None else ""
    step = f"step {_step(state)}" if state.step is not None else ""
    return "  ".join(filter(None, [_clean(f"{state.condition}{phase}"), step, loss, training, _speed(state), left]))


def as_plain(state: RunState) -> dict[str, Any]:
    """Return the state for JSON: the last loss instead of the curve."""
    content = dataclasses.asdict(state)
    del content["points"]
    return {**content, "loss": state.points[-1].loss if state.points else None, "ended": state.ended}
