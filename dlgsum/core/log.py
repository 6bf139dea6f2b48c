"""Logging: everything into a file, warnings to people, third-party chatter kept in order."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlgsum.core.console import messages

# Tokens, passwords in addresses, webhook paths: none of them belongs in a log.
_SECRETS = re.compile(
    r"(?P<auth>authorization[\"']?\s*[=:]\s*[\"']?(?:bearer|basic|token)\s+)\S+"
    # Not the tokens of a tokenizer: bos_token and so on. Quotes: JSON and printed dictionaries.
    r"|(?P<keep>(?:api[_-]?key|(?<!bos_|eos_|pad_|unk_|sep_|cls_)token|password|secret)[\"']?\s*[=:]\s*[\"']?)\S+"
    r"|(?P<flag>--[\w-]{0,40}(?:api[_-]?key|token|password|secret)\s+)\S+"
    r"|(?P<scheme>\b\w{1,20}://)[^/\s?#]+(?=@)"
    r"|(?P<hook>https://(?:hooks\.slack\.com/services|(?:\w+\.)?discord(?:app)?\.com/api/webhooks)/)\S+"
    r"|\bhf_[A-Za-z0-9]{20,}\b",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Return ``text`` with secrets replaced by ``***``."""
    return _SECRETS.sub(lambda m: f"{next(filter(None, m.groups()), '')}***", text)


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
        if getattr(record, "told", False) or any(noise in record.getMessage() for noise in _FILE_ONLY):
            return
        style = "red" if record.levelno >= logging.ERROR else "yellow"
        word = "error" if record.levelno >= logging.ERROR else "warning"
        messages().print(f"{word}: {masked(record.getMessage())}", style=style, markup=False)


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


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write all log records to ``path`` while the block runs, and warnings to the console too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(_Masking("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    show_warnings()
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(file)
    # Requests of the hub client at INFO level say nothing to a reader of a training log.
    for noisy in ("httpx", "httpcore", "urllib3", "filelock", "fsspec", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(file)
        root.setLevel(level)
        file.close()


def route_transformers() -> None:
    """Send the records of transformers through our handlers, and turn its progress bars off."""
    from transformers.utils import logging as hf

    hf.disable_default_handler()
    hf.enable_propagation()
    hf.disable_progress_bar()  # type: ignore[no-untyped-call]
