"""Logging: everything into files, warnings to people, third-party chatter kept in order."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from dlgsum.core.console import messages, taken, untaken
from dlgsum.core.files import dumps
from dlgsum.core.masking import masked, masked_values
from dlgsum.core.streams import Copies, LineFile


def event_row(
    event: str, message: str, *, level: str = "info", logger: str = "dlgsum", **details: Any
) -> dict[str, Any]:
    """Return one row of ``events.jsonl``, masked: "time" (ISO, UTC), "level", "logger", "event", "message", details.

    Args:
        event: what kind of thing happened; "log" for a message of a logger, whose only detail is "fields".
        message: what happened, in words.
        level: debug, info, warning, error or critical.
        logger: who says so.
        details: made fit for JSON; "time" replaces the time of now.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    head = {"time": now, "level": level, "logger": logger, "event": event, "message": masked(message)}
    row: dict[str, Any] = {**head, **masked_values(details)}
    return row


# Warnings of libraries that a user can do nothing about and need not know.
_FILE_ONLY = (
    "mtime may not be reliable",
    "There were missing keys in the checkpoint model loaded",  # tied weights, at every resume
    "The new embeddings will be initialized from a multivariate normal",  # as it should be, for every new tag
)


class _Masking(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class _ToPeople(logging.Handler):
    """Show warnings and errors on the console, but for those marked ``extra={"told": True}``: told in another way."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if getattr(record, "told", False) or any(noise in record.getMessage() for noise in _FILE_ONLY):
                return
            word = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
            style = {"error": "red", "warning": "yellow"}.get(word)
            with untaken():  # the files have it as a record
                messages().print(f"{word}: {masked(record.getMessage())}", style=style, markup=False)
        except Exception:
            self.handleError(record)


def show_warnings() -> None:
    """Show warnings and errors of every logger on the console; calling it again changes nothing."""
    root = logging.getLogger()
    if not any(isinstance(handler, _ToPeople) for handler in root.handlers):
        root.addHandler(_ToPeople(level=logging.WARNING))


def warnings_to_file_only() -> None:
    """Keep the console to the first of several processes: what this one says goes into its log."""
    show_warnings()
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _ToPeople):
            handler.addFilter(_say_nothing)


class _ToList(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(masked(record.getMessage()))


def _say_nothing(record: logging.LogRecord) -> bool:
    return False


@contextmanager
def gathered_warnings() -> Iterator[list[str]]:
    """Give a list that takes the warnings of the block, instead of the console."""
    root = logging.getLogger()
    found: list[str] = []
    gather = _ToList(found)
    people = [handler for handler in root.handlers if isinstance(handler, _ToPeople)]
    root.addHandler(gather)
    for handler in people:
        handler.addFilter(_say_nothing)
    try:
        yield found
    finally:
        root.removeHandler(gather)
        for handler in people:
            handler.removeFilter(_say_nothing)


class _ToFile(logging.Handler):
    """Append records to a file; a file that takes no more never stops anybody."""

    def __init__(self, path: Path, level: int) -> None:
        super().__init__(level)
        self.file = LineFile(path)
        with suppress(OSError):  # the first line says so
            self.file.open()
        self.setFormatter(_Masking("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # a message that does not fit its arguments: said on standard error, as logging does it
            self.handleError(record)
        else:
            self.file.write(line)

    def close(self) -> None:
        self.file.close()
        super().close()


# What every record has; the rest came as `extra`.
_USUAL = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "told", "event"}


class _ToRows(_ToFile):
    """Append records as rows for machines, but for those marked ``extra={"event": True}``: an event says the same."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", None) is not True:
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info and record.exc_info[0] is not None:
            fields["traceback"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        if record.stack_info:
            fields["stack"] = record.stack_info
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        level = record.levelname.lower()
        row = event_row("log", record.getMessage(), level=level, logger=record.name, time=at, fields=fields)
        return dumps(row)


@contextmanager
def logging_to(
    path: Path, *, events: Path | None = None, level: str = "info", console_level: str = "warning"
) -> Iterator[None]:
    """Write all log records to files while the block runs, and warnings to the console too.

    Warnings of Python, and what is printed to ``sys.stdout`` and ``sys.stderr``, go to the files as well (what is
    printed beside a bar of rich, and what dlgsum tells people, to the log for people only); what other languages write
    to the terminal themselves does not. Files that cannot be written never stop the block. Afterwards everything is as
    it was.

    Args:
        path: the log for people.
        events: the same for machines, one row of ``event_row`` each; None writes none.
        level: the least that the files take: debug, info, warning or error.
        console_level: the least that is shown on the console.
    """
    least, shown = (logging.getLevelNamesMapping()[name.upper()] for name in (level, console_level))
    files = [_ToFile(path, least), *([_ToRows(events, least)] if events else [])]
    show_warnings()
    root = logging.getLogger()
    people = [handler for handler in root.handlers if isinstance(handler, _ToPeople)]
    with ExitStack() as undo:
        for handler in people:
            undo.callback(handler.setLevel, handler.level)
            handler.setLevel(shown)
        # Requests of the hub client at INFO level say nothing to a reader of a training log.
        noisy = ("httpx", "httpcore", "urllib3", "filelock", "fsspec", "matplotlib", "PIL", "asyncio")
        for log, lowest in (*((logging.getLogger(name), logging.WARNING) for name in noisy), (root, min(least, shown))):
            undo.callback(log.setLevel, log.level)
            log.setLevel(lowest)
        for file in files:
            undo.callback(file.close)
            undo.callback(root.removeHandler, file)
            root.addHandler(file)
        undo.enter_context(_warnings_logged())
        undo.enter_context(_prints_copied(files))
        yield


@contextmanager
def _warnings_logged() -> Iterator[None]:
    """Log the warnings of Python, each in one line. Unlike ``logging.captureWarnings``, this can be nested."""
    before = warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
        line: str | None = None,
    ) -> None:  # fmt: skip
        if file is not None:
            before(message, category, filename, lineno, file, line)
            return
        logging.getLogger("py.warnings").warning("%s: %s (%s:%d)", category.__name__, message, filename, lineno)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


@contextmanager
def _prints_copied(files: list[_ToFile]) -> Iterator[None]:
    """Copy what is printed to the files. They are given it directly: a logger might print it once more, and so on."""

    def take(stream: str, line: str, to: list[_ToFile]) -> None:
        record = logging.makeLogRecord({"name": stream, "levelno": logging.INFO, "levelname": "INFO", "msg": line})
        for file in to:
            if record.levelno >= file.level:
                file.emit(record)  # without its lock, which who logs holds while waiting for the lock of a bar

    copies = Copies(lambda stream, line: take(stream, line, files), ours_too=False)
    copies.start()
    try:
        # What dlgsum says to people is for the people's log alone: machines have the events and the metrics.
        with taken(lambda line: take("dlgsum", line, [file for file in files if type(file) is _ToFile])):
            yield
    finally:
        copies.stop()


def route_transformers() -> None:
    """Send the records of transformers and datasets through our handlers, and turn the bars of transformers off."""
    from transformers.utils import logging as hf

    hf.disable_default_handler()
    hf.enable_propagation()
    hf.disable_progress_bar()  # type: ignore[no-untyped-call]
    # datasets prints its warnings itself and passes them on as well: they would be seen twice.
    datasets = logging.getLogger("datasets")
    datasets.handlers = [handler for handler in datasets.handlers if type(handler) is not logging.StreamHandler]
