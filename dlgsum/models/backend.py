"""Rewrite a tokenizer's backend so that decoding gives back the text that was encoded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Node = dict[str, Any]

# How each kind of component spells the list inside its `Sequence`.
_CHILDREN = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}


def make_reversible(backend_json: str) -> str:
    """Return a `tokenizer.json` in which text beside an added token keeps its spaces, and gains none.

    Added tokens cut the text into pieces, and every component then sees one piece at a time. So whatever acts
    on the edge of a piece changes the text next to a speaker tag: a Metaspace or ByteLevel that puts a space
    before every piece, a Strip that trims every piece. Cutting and padding are switched off as well.

    Raises:
        ValueError: the text is not JSON.
    """
    state: Node = json.loads(backend_json)
    state["truncation"] = None
    state["padding"] = None
    splits_whitespace = _drop(state, "pre_tokenizer", "WhitespaceSplit", only_before="Metaspace")
    _drop(state, "normalizer", "Strip")
    if splits_whitespace:
        # WhitespaceSplit also turned tabs, newlines and runs of blanks into one word boundary; without it a
        # newline would become an unknown token.
        _append(state, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "})
    for part in ("pre_tokenizer", "decoder"):
        for node in _nodes(state, part):
            if node["type"] == "Metaspace":
                node["prepend_scheme"] = "first"
            elif node["type"] == "ByteLevel" and part == "pre_tokenizer":
                node["add_prefix_space"] = False
    return json.dumps(state, ensure_ascii=False)


def space_marks(backend_json: str) -> str:
    """Return the characters that stand for a space inside tokens; empty when there are none."""
    state: Node = json.loads(backend_json)
    marks = {node["replacement"] for node in _nodes(state, "decoder") if node["type"] == "Metaspace"}
    return "".join(sorted(marks))


def _nodes(state: Node, part: str) -> Iterator[Node]:
    """Yield the components of one part, with those inside a Sequence; nothing when the part is absent."""
    waiting = [state[part]] if state.get(part) else []
    while waiting:
        node = waiting.pop(0)
        yield node
        if node["type"] == "Sequence":
            waiting.extend(node[_CHILDREN[part]])


def _drop(state: Node, part: str, kind: str, *, only_before: str | None = None) -> bool:
    """Take components of one kind out of a part; say whether there were any."""
    found = list(_nodes(state, part))
    if not any(node["type"] == kind for node in found):
        return False
    if only_before is not None and not any(node["type"] == only_before for node in found):
        return False
    if state[part]["type"] == kind:
        state[part] = None
    for node in found:
        if node["type"] == "Sequence":
            inner = _CHILDREN[part]
            node[inner] = [child for child in node[inner] if child["type"] != kind]
    return True


def _append(state: Node, normalizer: Node) -> None:
    """Add a normalizer after those that are there."""
    present = [state["normalizer"]] if state.get("normalizer") else []
    state["normalizer"] = {"type": "Sequence", "normalizers": [*present, normalizer]}
