"""Secrets replaced by ``***``, in texts and in what becomes JSON."""

from __future__ import annotations

import re
from typing import Any

from dlgsum.core.files import to_jsonable

# Tokens, passwords in addresses, webhook paths: none of them belongs in a log.
_SECRETS = re.compile(
    r"(?P<auth>authorization[\"']?\s*[=:]\s*[\"']?(?:bearer|basic|token)\s+)\S+"
    # Not the tokens of a tokenizer: bos_token and so on. Quotes: JSON and printed dictionaries.
    r"|(?P<keep>(?:api[_-]?key|(?<!bos_|eos_|pad_|unk_|sep_|cls_)token|password|secret)[\"']?\s*[=:]\s*[\"']?)\S+"
    r"|(?P<flag>(?<![\w-])--[\w-]{0,40}(?:api[_-]?key|token|password|secret)\s+)\S+"
    r"|(?P<scheme>\b\w{1,20}://)[^/\s?#]+(?=@)"
    r"|(?P<hook>https://(?:hooks\.slack\.com/services|(?:\w+\.)?discord(?:app)?\.com/api/webhooks)/)\S+"
    # Not what is masked already, with the marks behind it, and not our own example of an address.
    r"|(?P<setting>\balerts\.(?:urls|\w{1,20}_webhook_url)\s*=\s*)"
    r"(?!['\"\[]*\*{3}[^\w\s]*(?:\s|$)|\[json://host/path\])\S+"
    r"|(?P<path>/(?:services/(?=(?-i:T[A-Z\d]{7,}/B[A-Z\d]{7,}/\w))|api/webhooks/(?=\d)))[\w/-]+"
    # Addresses of Apprise, whose path, query or host may be the secret.
    r"|(?P<service>\b(?:slack|discord|tgram|mailtos?)://)\w\S+"
    r"|(?P<webhook>\b(?:json|xml|form)s?://[^/\s]{1,100}/)\S{12,}"
    r"|\bhf_[A-Za-z0-9]{20,}\b",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Return ``text`` with secrets replaced by ``***``."""
    return _SECRETS.sub(lambda m: f"{next(filter(None, m.groups()), '')}***", text)


def masked_values(value: Any) -> Any:
    """Return ``value`` as JSON holds it, with ``***`` for secrets in texts and for what has a secret's name."""
    return _masked_json(to_jsonable(value))


def _masked_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "***" if item not in (None, "") and masked(f"{key}: x") != f"{key}: x" else _masked_json(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_masked_json(item) for item in value]
    return masked(value) if isinstance(value, str) else value
