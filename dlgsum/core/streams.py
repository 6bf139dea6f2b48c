"""Text streams that are copied line by line, and printing that leaves progress bars whole."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any
from weakref import WeakSet

from dlgsum.core.screen import Screen, colourless, plain

logger = logging.getLogger(__name__)
_copies: WeakSet[CopiedStream] = WeakSet()


class LineFile:
    """A text file that is appended to, each time with one write, so that writers do not tear each other's lines.

    A disk that takes no more is warned about once; what could not be written is lost, and the next line tries again.
    The file and its folders are made when the first line comes, or by ``open``. There is no lock: threads that share
    one open it first, or hold a lock of their own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None
        self._torn = False
        self._warned = False

    def open(self) -> None:
        """Make the file and its folders.

        Raises:
            OSError: it cannot be made.
        """
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: one write() of the system each, at the end of the file, whoever else writes there.
            self._file = self.path.open("ab", buffering=0)
            self._torn = _is_torn(self.path)

    def write(self, text: str) -> None:
        """Append ``text`` and end the line."""
        # Half characters, as in the name of a file that is not UTF-8, are written as \udcXX.
        data = text.encode("utf-8", "backslashreplace") + b"\n"
        try:
            self.open()
            assert self._file is not None
            data = b"\n" + data if self._torn else data
            written = self._file.write(data) or 0
            self._torn = written < len(data)
            if self._torn:
                raise OSError(f"only {written} of {len(data)} bytes were written")
        except OSError as error:
            if not self._warned:
                self._warned = True
                logger.warning("%s takes no more lines (%s); it may lack some from here on", self.path, error)

    def close(self) -> None:
        """Close the file; a later ``write`` opens it again."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def _is_torn(path: Path) -> bool:
    """Say whether an earlier writer was cut off in the middle of a line; one that still writes is waited for."""
    for pause in (0.0, 0.02, 0.1):
        time.sleep(pause)
        try:
            with path.open("rb") as file:
                if file.seek(0, 2) == 0 or file.seek(-1, 2) < 0 or file.read(1) == b"\n":
                    return False
        except OSError:  # a pipe, /dev/full
            return False
    return True


class CopiedStream:
    """Stands in for ``sys.stdout`` or ``sys.stderr``: shows everything as before, and gives each line to ``take``.

    Lines are shown whole, also where threads print at once; a line without an end is shown at ``flush``. While a bar of
    tqdm is on the screen, lines are printed above it. Everything else (``isatty``, ``fileno``, ``encoding``, …) is that
    of the stream underneath. What goes around ``write``, as ``sys.stdout.buffer`` does, is not seen. A console
    that is gone is no error, until ``stop``.

    Args:
        under: the stream that is stood in for.
        take: takes one line without its end, without colours; must not raise, nor print.
        shown: pass everything on; else it goes to ``take`` alone, and this is no terminal.
        ours_too: whether the messages of dlgsum itself are copied as well.
    """

    def __init__(self, under: Any, take: Callable[[str], None], *, shown: bool = True, ours_too: bool = True) -> None:
        self.under = under
        self.ours_too = ours_too
        self.active = True
        self._take = take
        self._is_shown = shown
        self.forget()
        _copies.add(self)

    def forget(self) -> None:
        """Begin anew: what is begun, and the lock, belong to threads that a forked process does not have."""
        self._screen = Screen()
        # Of each thread: the pieces of the line it has begun, and how many of them are shown.
        self._begun: dict[threading.Thread, tuple[list[str], int]] = {}
        # Held only to change the two above. Whoever draws a bar of tqdm holds its lock and comes here with it: to ask
        # for that lock from here would be a deadlock.
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Show and copy ``text``.

        Raises:
            TypeError: it is no text.
        """
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if not self.active:
            self._show(text)
            return len(text)
        with self._lock:
            pieces, shown = self._begun.pop(threading.current_thread(), ([], 0))
            ended = text.replace("\r\n", "\n")
            # What was begun has none of these, and may be long: only the new text is looked at.
            drawn = "\r" in ended or "\x1b" in colourless(ended) or not (pieces or ended.strip("\n"))
            if not drawn and "\n" not in ended:
                pieces.append(text)
                self._begun[threading.current_thread()] = (pieces, shown)
                return len(text)
            line, rest = "".join(pieces) + ended, ""
            if drawn:
                lines = self._screen.feed(line)
            else:
                *lines, rest = line.split("\n")
                if self._screen.holds_back and not _live_bars():  # they are finished: first come, first written
                    lines = [*self._screen.rest(), *lines]
                if rest:
                    self._begun[threading.current_thread()] = ([rest], 0)
        for one in filter(str.strip, lines):
            self._take(plain(one).rstrip())
        self._show("".join(pieces[shown:]) + text[: len(text) - len(rest)], whole=not drawn and not shown)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of ``lines``."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Show what the calling thread has begun; it is copied when its line ends."""
        with self._lock:
            pieces, shown = self._begun.get(threading.current_thread(), ([], 0))
            if pieces:
                self._begun[threading.current_thread()] = (pieces, len(pieces))
        self._show("".join(pieces[shown:]), flush=True)

    def stop(self) -> None:
        """Show and copy what was begun; from here on everything is passed on unseen."""
        with self._lock:
            self.active = False
            begun, self._begun = self._begun, {}
            rows = [*self._screen.rest(), *(plain("".join(pieces)).rstrip() for pieces, _ in begun.values())]
        for row in filter(None, rows):
            self._take(row)
        with console_may_be_gone():
            self._show("".join("".join(pieces[shown:]) for pieces, shown in begun.values()))

    def isatty(self) -> bool:
        """Say whether people see this on a terminal."""
        return self._is_shown and bool(self.under.isatty())

    def _show(self, text: str, *, whole: bool = False, flush: bool = False) -> None:
        if not (text or flush) or not (self._is_shown or not self.active):
            return
        lost = console_may_be_gone() if self.active else contextlib.nullcontext()
        with lost, above_bars() if whole else contextlib.nullcontext():
            write_replacing(self.under, text)
            # Else as without us. In a child forked while another thread flushes, Python itself hangs at a flush.
            if flush or _live_bars():
                self.under.flush()

    def __iter__(self) -> Iterator[str]:
        return iter(self.under)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.under, name)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=lambda: list(map(CopiedStream.forget, _copies)))


def console_may_be_gone() -> contextlib.AbstractContextManager[None]:
    """Return a block that ends quietly when its stream is closed, full, or read by nobody any more."""
    return contextlib.suppress(OSError, ValueError)


def write_replacing(stream: Any, text: str) -> None:
    """Write ``text``; what the encoding of the stream lacks becomes ``?``."""
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "replace").decode(encoding))


@contextlib.contextmanager
def above_bars() -> Iterator[None]:
    """Take the bars of tqdm off the terminal while the block prints whole lines, and draw them again below."""
    tqdm = _live_bars()
    # While a display of rich is on, it holds the terminal, and bars of tqdm appear as lines above it.
    if tqdm is None or hasattr(sys.stderr, "rich_proxied_file"):
        yield
        return
    with contextlib.ExitStack() as bars:
        for stream in (*_stack(sys.stderr), *_stack(sys.stdout)):  # a bar keeps the stream that it began with
            bars.enter_context(tqdm.external_write_mode(file=stream))
        yield


def _live_bars() -> Any:
    """Return the class whose bars are on the screen, or None where there are none."""
    tqdm = getattr(sys.modules.get("tqdm.std"), "tqdm", None)
    return tqdm if getattr(tqdm, "_instances", None) else None


def _stack(stream: Any) -> Iterator[Any]:
    yield stream
    while isinstance(stream, CopiedStream):
        stream = stream.under
        yield stream


def under_copies(stream: Any) -> Any:
    """Return the stream that messages of our own are written to: below rich's stand-ins, and copies without ours."""
    while True:
        proxied = hasattr(stream, "rich_proxied_file")  # asks the streams underneath as well
        if isinstance(stream, CopiedStream) and (proxied or not (stream.active and stream.ours_too)):
            stream = stream.under
        elif proxied:
            stream = stream.rich_proxied_file
        else:
            return stream


def below_stopped(stream: Any) -> Any:
    """Return the first stream of a stack that is not a copy that was stopped."""
    while isinstance(stream, CopiedStream) and not stream.active:
        stream = stream.under
    return stream


class Copies:
    """Copies of ``sys.stdout`` and ``sys.stderr`` together: put in place by ``start``, taken out by ``stop``.

    Args:
        take: takes the name of the stream, "stdout" or "stderr", and one line.
        shown: as for ``CopiedStream``; so is ``ours_too``.
    """

    def __init__(self, take: Callable[[str, str], None], *, shown: bool = True, ours_too: bool = True) -> None:
        self._take = take
        self._options = {"shown": shown, "ours_too": ours_too}
        self._streams: list[CopiedStream] = []

    def start(self) -> None:
        """Put a copy in the place of each of the two streams."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None:  # no console at all
                continue
            copy = CopiedStream(stream, partial(self._take, name), **self._options)
            self._streams.append(copy)
            setattr(sys, name, copy)

    def stop(self) -> None:
        """Put back what was there; a stand-in that somebody else laid over ours stays, and ours is silent below it."""
        for copy in reversed(self._streams):
            copy.stop()
        self._streams = []
        for name in ("stdout", "stderr"):
            setattr(sys, name, below_stopped(getattr(sys, name)))

    def below(self, stream: Any) -> Any:
        """Return what is written to so that none of these copies on top sees it."""
        while any(stream is ours for ours in self._streams):
            stream = stream.under
        return stream
