"""A logger for scripts and notebooks: what is printed goes to a file as well, with times."""

from __future__ import annotations

import atexit
import sys
import threading
import traceback
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.core.masking import masked
from dlgsum.core.streams import Copies, LineFile, above_bars, console_may_be_gone, write_replacing

_LEVELS = ("debug", "info", "warning", "error", "critical")
_COLOUR = {"warning": "yellow", "error": "red", "critical": "red"}


class Logger:
    """Write messages to a file and the console at once, each line with its time, and on request all that is printed.

    Lines are in the file as soon as they are complete. Secrets are masked in the file, and in what ``write`` shows.
    Printed text appears on the console unchanged, so that tables, bars and JSON stay what they are; in the file a bar
    leaves its last state only. As a context manager it takes down an exception that ends the block, and closes. What
    programs in other languages write to the terminal themselves is not seen. It can be used from several threads.

    Args:
        log_path: the file, in UTF-8; its folders are made, an old one is continued.
        print_also: whether messages and printed text appear on the console as well.

    Raises:
        EnvironmentProblem: the file cannot be made. One that fails later is warned about once, and stops nobody.
    """

    encoding = "utf-8"

    def __init__(self, log_path: str | Path, print_also: bool = True) -> None:
        self.path = Path(log_path).expanduser()
        self.print_also = print_also
        self._file = LineFile(self.path)
        try:
            self._file.open()
        except OSError as error:
            raise EnvironmentProblem(
                f"The log {self.path} cannot be written: {error.strerror or error}", "Name a file in another folder."
            ) from error
        self._copies = Copies(self._take, shown=print_also)
        self._depth = 0
        self._lock = threading.RLock()
        self._here = threading.local()

    def start_redirect(self) -> None:
        """Copy ``sys.stdout`` and ``sys.stderr`` to the file; may be nested, each start with its own stop."""
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._copies.start()
                atexit.register(self.close)  # what was begun last is written, too

    def stop_redirect(self) -> None:
        """End what the last start began; the outermost puts back what was there. Without a start nothing happens."""
        with self._lock:
            self._depth = max(0, self._depth - 1)
            if self._depth == 0:
                self._copies.stop()

    def write(self, message: str, level: str = "info", print_also: bool | None = None) -> int:
        """Write one message; errors are red and warnings yellow on a terminal, and go to standard error.

        This also makes it a file to print to: an end of line by itself writes nothing, since each message has one.

        Args:
            message: one line or several.
            level: debug, info, warning, error or critical.
            print_also: replaces what the logger was made with.

        Returns:
            The letters taken.

        Raises:
            UsageError: there is no such level.
        """
        if level not in _LEVELS:
            raise UsageError(f"There is no log level '{level}'", f"Allowed: {', '.join(_LEVELS)}.")
        word = "" if level in ("debug", "info") else f"{level}: "
        lines = [_stamped(f"{word}{line}") for line in masked(str(message)).splitlines() if line.strip()]
        if lines:
            self._file.write("\n".join(lines))
            if self.print_also if print_also is None else print_also:
                with console_may_be_gone():
                    self._show("".join(f"{line}\n" for line in lines), level)
        return len(str(message))

    def flush(self) -> None:
        """Nothing is held back; here so that this can be printed to."""

    def isatty(self) -> bool:
        """Say whether messages appear on a terminal."""
        return self.print_also and bool(self._console().isatty())

    def fileno(self) -> int:
        """Return the descriptor of the console.

        Raises:
            OSError: it has none, as in a notebook.
        """
        return int(self._console().fileno())

    def close(self) -> None:
        """Stop the redirection and close the file; again, nothing happens."""
        with self._lock:
            self._depth = 0
            self._copies.stop()
            self._file.close()
            atexit.unregister(self.close)

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is not None and not (isinstance(error, SystemExit) and not error.code):
                # Python shows it on the console, where nobody catches it.
                self.write("".join(traceback.format_exception(kind, error, tb)), level="error", print_also=False)
        finally:
            self.close()

    def _take(self, stream: str, line: str) -> None:
        if not getattr(self._here, "showing", False):
            self._file.write(_stamped(masked(line)))

    def _show(self, text: str, level: str) -> None:
        stream = self._console(level)
        if stream is None:
            return
        if level in _COLOUR and stream.isatty():
            from rich.console import Console

            with (console := Console(file=stream, highlight=False, soft_wrap=True)).capture() as coloured:
                console.print(text, style=_COLOUR[level], markup=False, end="")
            text = coloured.get()
        self._here.showing = True  # it is in the file already, should another copy lead back to this one
        try:
            with above_bars():
                write_replacing(stream, text)
                stream.flush()
        finally:
            self._here.showing = False

    def _console(self, level: str = "info") -> Any:
        return self._copies.below(sys.stderr if level in _COLOUR else sys.stdout)


def _stamped(line: str) -> str:
    return f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}"
