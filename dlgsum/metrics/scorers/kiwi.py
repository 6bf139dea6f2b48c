"""ROUGE over the morphemes that Kiwi finds: the default for Korean."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from dlgsum.metrics.korean import TAG
from dlgsum.metrics.scorer import Scorer

# By process: Kiwi's worker threads do not survive a fork, and using their pool in the child would hang. The
# parent's instance stays referenced there, because tearing it down would wait for the same threads.
_instances: dict[int, Any] = {}
_lock = threading.Lock()


class Kiwi(Scorer):
    """Takes morpheme forms in Kiwi's default model as units; inflected words meet at their stem.

    Kiwi reads ``#은`` in ``#Person1#은`` as a hashtag. With ``protect_tags`` each tag is handed to it as a
    finished proper noun and the josa behind it is analysed as such; text without tags gives the same units
    either way.
    """

    name = "kiwi"
    protects_tags = True

    def analyse(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the morpheme forms of each text; one batch call, spread over Kiwi's own threads."""
        pretokenized = _tag_spans if self.protect_tags else None
        analysed = _shared_kiwi().tokenize(list(texts), pretokenized=pretokenized)
        return [[token.form for token in tokens] for tokens in analysed]

    def versions(self) -> tuple[str, ...]:
        """Return the versions of Kiwi, its model and the arithmetic."""
        own = (f"kiwipiepy:{version('kiwipiepy')}", f"model:{version('kiwipiepy_model')}")
        return (*own, *super().versions())


def _tag_spans(text: str) -> list[tuple[int, int, str]]:
    return [(match.start(), match.end(), "NNP") for match in TAG.finditer(text)]


def _shared_kiwi() -> Any:
    """Return this process's one Kiwi; the first call takes 1.8 s and 500 MB."""
    process = os.getpid()
    if process not in _instances:
        with _lock:
            if process not in _instances:
                import kiwipiepy

                _instances[process] = kiwipiepy.Kiwi()
    return _instances[process]


PLUGIN = Kiwi
