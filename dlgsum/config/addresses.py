"""Addresses that alerts go to: whether Apprise understands one, and what may be shown of it."""

from __future__ import annotations

import contextvars
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

from dlgsum.config.schema.options import MASK
from dlgsum.core.errors import nearest

# Schemes in which the part before the first slash is a server; in others it can be a token.
_SERVERS = {"http", "https", "json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos"}

_heard: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("heard", default=None)


def label(address: str) -> str:
    """Return what may be shown of an address: the scheme, and the server where it is one."""
    scheme, found, _ = address.partition("://")
    if not found or not scheme.isalnum():
        return MASK
    server = ""
    if scheme.lower() in _SERVERS:
        try:
            parts = urlsplit(address)
            port = f":{parts.port}" if parts.port else ""
            server = f"{parts.hostname}{port}/" if parts.hostname else ""
        except ValueError:  # no port, or no host
            server = ""
    return f"{scheme}://{server}{MASK}"


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Give a list that takes what Apprise logs in this thread, which nobody else is shown: it may name addresses."""
    apprise = logging.getLogger("apprise")
    if not any(isinstance(one, _Overhear) for one in apprise.filters):
        apprise.addFilter(_Overhear())
        apprise.setLevel(logging.DEBUG)
        logging.getLogger("urllib3.connectionpool").addFilter(_Overhear())
    messages: list[str] = []
    token = _heard.set(messages)
    try:
        yield messages
    finally:
        _heard.reset(token)


class _Overhear(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        heard = _heard.get()
        if heard is None:  # somebody else's use of the library; the logger's own level is not theirs
            return record.levelno >= logging.getLogger().getEffectiveLevel()
        heard.append(record.getMessage())
        return False


def service_of(address: str) -> Any:
    """Return Apprise's sender for an address; None where it does not understand it. Nothing is written to the disk.

    Raises:
        ImportError: apprise is not installed.
    """
    with warnings.catch_warnings(), overheard():
        warnings.simplefilter("ignore")  # a plugin imports what Python deprecates
        import apprise

        # No executor of its own (its threads would hold up the exit), and no file for what a service remembers.
        asset = apprise.AppriseAsset(async_mode=False, service_timeout=0, storage_mode="memory", app_id="dlgsum")
        asset.image_url_mask = asset.image_url_logo = ""  # nothing is loaded from a server of others
        return apprise.Apprise.instantiate(address, asset=asset, suppress_exceptions=True)


def check_address(address: str) -> str:
    """Return the address, as a validator of pydantic; one that was masked passes.

    Raises:
        PydanticCustomError: Apprise does not understand it; the message shows no more of it than ``label``.
    """
    if address == MASK or service_of(address) is not None:
        return address
    scheme, found, _ = address.partition("://")
    guess = nearest(scheme.lower(), _schemes()) if found else None
    told = f"{label(address)} is no address that Apprise understands"
    if scheme.lower() in ("http", "https"):
        told += "; for a server of your own write json:// or jsons:// in the place of it"
    elif guess == scheme.lower():
        told += f"; what follows {guess}:// is not as this service wants it"
    elif guess:
        told += f"; did you mean {guess}://?"
    message = f"{told}; give the webhook of Slack or Discord as it is, or a URL such as json://HOST/PATH"
    raise PydanticCustomError("address", "{message}", {"message": message})


def _schemes() -> list[str]:
    with warnings.catch_warnings(), overheard():
        warnings.simplefilter("ignore")
        from apprise.manager_plugins import NotificationManager

        manager: Any = NotificationManager
        return sorted(str(name) for name in manager().schemas())
