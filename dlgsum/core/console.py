"""The one console that people read: messages and progress go to standard error, results to standard output."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO, TYPE_CHECKING, Any, cast

from dlgsum.core.streams import above_bars, console_may_be_gone, under_copies, write_replacing

if TYPE_CHECKING:
    from rich.console import Console

# Those who take what is printed to ``messages``, line by line; bars are not among it.
_takers: list[Callable[[str], None]] = []
_here = threading.local()


class _Terminal:
    """Standard error as it is now, below the copies: what dlgsum says of itself is in its log already.

    Bars of tqdm stay whole, and letters that the terminal lacks become ``?``. A terminal that is gone loses the text:
    it is no reason to end a training.
    """

    def write(self, text: str) -> int:
        with console_may_be_gone(), above_bars():
            write_replacing(self._stream, text)
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        with console_may_be_gone():
            self._stream.flush()

    @property
    def _stream(self) -> Any:
        return under_copies(sys.stderr) or io.StringIO()  # a process without any console

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@cache
def messages() -> Console:
    """Return the console for messages and progress (standard error)."""
    from rich.console import Console, ConsoleRenderable, RenderHook  # a quarter of the time that the start takes

    class Copy(RenderHook):
        def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
            if _takers and not getattr(_here, "untaken", False):
                text = io.StringIO()
                Console(
                    file=text, width=console.width, highlight=False, soft_wrap=True, force_jupyter=False, no_color=True
                ).print(*renderables)
                for line in text.getvalue().splitlines():
                    for take in _takers if line.strip() else ():
                        take(line.rstrip())
            return renderables

    console = Console(file=cast("IO[str]", _Terminal()), stderr=True, highlight=False, soft_wrap=True)
    console.push_render_hook(Copy())  # before any bar, which comes as another one
    return console


@contextmanager
def taken(take: Callable[[str], None]) -> Iterator[None]:
    """Give ``take`` each line that is printed to ``messages`` while the block runs; it must not print itself."""
    _takers.append(take)
    try:
        yield
    finally:
        _takers.remove(take)


@contextmanager
def untaken() -> Iterator[None]:
    """Keep what this thread prints in the block from those who take it."""
    _here.untaken = True
    try:
        yield
    finally:
        _here.untaken = False


@cache
def results() -> Console:
    """Return the console for results (standard output); wide when it is not a terminal, so tables stay whole."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160, soft_wrap=True)
