"""One small plot of named numbers, drawn without a window and with letters for Korean."""

from __future__ import annotations

import base64
import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = Mapping[str, float | list[float]]

# In the order of preference, with what their files are called.
_KOREAN_FONTS = (
    "NanumGothic", "Noto Sans CJK KR", "Noto Sans KR", "Malgun Gothic", "AppleGothic", "Apple SD Gothic Neo",
    "NanumBarunGothic", "UnDotum", "Baekmuk Gulim", "Noto Sans CJK JP",
)  # fmt: skip
_FILES = re.compile(r"nanum|notosans(?:cjk|kr)|malgun|applegothic|applesdgothic|undotum|gulim", re.IGNORECASE)
_HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")

NO_HANGUL = (
    "No font with Hangul was found: it shows as boxes in plots. Install one, such as `apt install fonts-nanum` "
    "(Linux) or NanumGothic from fonts.google.com, and restart the kernel."
)


@cache
def korean_font() -> str | None:
    """Return the name of an installed font with Hangul; None where there is none."""
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    for name in _KOREAN_FONTS:
        if name in known:
            return name
    # matplotlib keeps a list of fonts, which lacks those that were installed since it was made.
    for path in sorted(font_manager.findSystemFonts()):
        if _FILES.search(path.replace("\\", "/").rpartition("/")[2]):
            try:
                font_manager.fontManager.addfont(path)
            except (OSError, RuntimeError):  # a damaged file, or a format that is not read
                continue
            return font_manager.fontManager.ttflist[-1].name
    return None


_told = False


def has_letters_for(*texts: str) -> bool:
    """Say whether Hangul among ``texts``, if there is any, can be drawn."""
    return not any(_HANGUL.search(text) for text in texts) or korean_font() is not None


def lacks_hangul(*texts: str) -> bool:
    """Say, once in a process, that Hangul among ``texts`` cannot be drawn."""
    global _told
    lacks = not _told and not has_letters_for(*texts)
    _told = _told or lacks
    return lacks


def describe(series: Series) -> str:
    """Return what a plot shows, in words: how many values, the first, the last, the extremes; what is not finite."""
    return "; ".join(_words(name, values) for name, values in series.items()) or "nothing to plot"


def _words(name: str, values: float | list[float]) -> str:
    if isinstance(values, float):
        return f"{name} {values:.6g}" + ("" if math.isfinite(values) else " (not finite, not drawn)")
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return f"{name}: " + (f"none of {len(values)} values is finite" if values else "no values")
    gap = len(values) - len(finite)
    said = f" ({gap} of {len(values)} values not finite: a gap)" if gap else ""
    ends = f"first {values[0]:.6g}, last {values[-1]:.6g}, lowest {min(finite):.6g}, highest {max(finite):.6g}"
    return f"{name}: {len(values)} values, {ends}{said}"


def draw(series: Series, title: str) -> Figure | None:
    """Return a figure: a line for each list, and bars, or dashed lines beside lists, for single numbers.

    Values that are not finite leave a gap. Nothing finite at all gives None.
    """
    lines = {name: values for name, values in series.items() if isinstance(values, list) and _finite(values)}
    single = {name: v for name, v in series.items() if isinstance(v, float) and math.isfinite(v)}
    if not lines and not single:
        return None
    from matplotlib.figure import Figure

    with settings():
        figure = Figure(figsize=(7, 3.5), dpi=100, layout="constrained")
        axes = figure.subplots()
        if lines:
            _draw_lines(axes, lines, single)
        else:
            _draw_bars(axes, single)
        axes.set_title(textwrap.fill(title, 60))
        axes.grid(alpha=0.3)
    return figure


def png(figure: Figure) -> str:
    """Return the figure as a PNG, in base64 as notebooks take it."""
    return base64.b64encode(png_bytes(figure)).decode("ascii")


def png_bytes(figure: Figure) -> bytes:
    """Return the figure as a PNG; letters without a glyph are boxes."""
    picture = io.BytesIO()
    with settings(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        figure.savefig(picture, format="png")
    return picture.getvalue()


def _finite(values: list[float]) -> bool:
    return any(math.isfinite(value) for value in values)


def _draw_lines(axes: Axes, lines: Mapping[str, list[float]], single: Mapping[str, float]) -> None:
    from matplotlib.ticker import MaxNLocator

    drawn: list[Any] = []
    for values in lines.values():
        shown = [value if math.isfinite(value) else math.nan for value in values]
        # Beside gaps, or in a short series, a value without neighbours is a line without length.
        marker = "o" if len(values) <= 30 or any(map(math.isnan, shown)) else ""
        drawn += axes.plot(range(1, len(values) + 1), shown, marker=marker, markersize=3)
    for number, value in enumerate(single.values(), start=len(drawn)):
        drawn.append(axes.axhline(value, linestyle="--", color=f"C{number}"))
    names = [*lines, *single]
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(names[0] if len(names) == 1 else "value")
    if len(names) > 1:
        # matplotlib leaves names that begin with an underscore out.
        axes.legend(drawn, [f" {name}" if name.startswith("_") else name for name in names])


def _draw_bars(axes: Axes, single: Mapping[str, float]) -> None:
    places = list(range(len(single)))
    bars = axes.barh(places, list(single.values()))
    axes.bar_label(bars, labels=[f"{value:.4g}" for value in single.values()], padding=3)
    axes.set_yticks(places, list(single))
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("value")


@contextmanager
def settings() -> Iterator[None]:
    """Draw with a Korean font where there is one, and texts as they are: a dollar begins no formula."""
    import matplotlib as mpl

    font = korean_font()
    family = [*([font] if font else []), "DejaVu Sans"]
    # Korean fonts often lack the typographic minus sign.
    with mpl.rc_context({"font.family": family, "axes.unicode_minus": False, "text.parse_math": False}):
        yield
