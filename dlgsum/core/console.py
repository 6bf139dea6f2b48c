"""The one console that people read: messages and progress go to standard error, results to standard output."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@cache
def messages() -> Console:
    """Return the console for messages and progress (standard error)."""
    from rich.console import Console  # a quarter of the time that the command line takes to start

    return Console(stderr=True, highlight=False, soft_wrap=True)


@cache
def results() -> Console:
    """Return the console for results (standard output); wide when it is not a terminal, so tables stay whole."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160, soft_wrap=True)
