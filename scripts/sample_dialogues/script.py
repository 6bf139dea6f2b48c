"""Reader of the skeleton files.

A file is read line by line; blank lines and lines that start with ``//`` are skipped.

``== 식당 예약``
    starts a topic; the text is the ``topic`` column.
``-- change polite open=service close=service``
    starts a skeleton: its key, its speech level (``polite`` or ``casual``), and the shared openers and
    closers (see ``common.txt``) it may take.
``$~t1,t2 = @time``
    declares slots, drawn without replacement from a named pool (:mod:`sample_dialogues.pools`) or from
    an inline list ``가 / 나 / 다``. ``~`` marks a proposal that is later dropped: it is said in the
    dialogue and must not reach the summary. ``t1<t2`` keeps the order of the pool, ``t1>t2`` reverses it.
``A: text | text``
    one turn of role A (then B, C) with its alternative wordings. ``?x A: ...`` belongs to the optional
    block x: all of its turns or none, and the same alternative of each, so that a question gets its own
    answer. ``=x A: ...`` is always said, with that same agreement. ``^o1 A: ...`` belongs to branch 1
    of choice o: exactly one branch is taken. Neighbouring turns of one role are joined.
``S: text``
    one of exactly three wordings of the summary. All three use the same slots.

Inside a text ``<가/나/>`` picks one inline alternative (an empty one is allowed), ``{slot}`` inserts a
value, ``{slot:은}`` inserts it with the fitting particle, and ``{A}`` in a summary is the role's tag;
``{X}`` and ``{Y}`` are the tags of A and B in the order of their numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sample_dialogues.pools import POOLS

SLOT: Final = re.compile(r"\{(\w+)(?::([^}]+))?\}")
#: Names in a summary that stand for speakers, not for slots.
ROLES: Final = frozenset("ABCXY")
_TURN: Final = re.compile(r"^((?:[?^=]\w+ )*)([ABC]): (.+)$")
_HEAD: Final = re.compile(r"^-- (\w+) (polite|casual)((?: \w+=\w+)*)$")


@dataclass(frozen=True)
class Turn:
    """One turn of a skeleton: the conditions it is said under, its role, its alternative texts."""

    conditions: tuple[str, ...]
    role: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Draw:
    """Slots drawn together, without replacement, from one pool, in its order if ``order`` says so."""

    names: tuple[str, ...]
    values: tuple[str, ...]
    order: str = ""


@dataclass
class Skeleton:
    """One dialogue plan of one topic."""

    topic: str
    key: str
    level: str
    opener: str
    closer: str
    draws: list[Draw] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    turns: list[Turn] = field(default_factory=list)
    summaries: list[str] = field(default_factory=list)

    @property
    def facts(self) -> tuple[str, ...]:
        """Names of the slots that the summary carries, in the order of its first wording."""
        return tuple(dict.fromkeys(m[1] for m in SLOT.finditer(self.summaries[0]) if m[1] not in ROLES))

    def check(self) -> None:
        """Raise ``ValueError`` where the skeleton breaks a rule of the grammar."""
        where = f"{self.topic}/{self.key}"
        if len(self.summaries) != 3:
            raise ValueError(f"{where}: {len(self.summaries)} summaries, not 3")
        declared = [name for draw in self.draws for name in draw.names]
        said = {m[1] for turn in self.turns for text in turn.texts for m in SLOT.finditer(text)}
        for text in self.summaries:
            used = {m[1] for m in SLOT.finditer(text)} - ROLES
            if used != set(self.facts):
                raise ValueError(f"{where}: the summaries use different slots: {text}")
        if len(declared) != len(set(declared)) or said - set(declared) or set(declared) - said:
            raise ValueError(f"{where}: declared {sorted(declared)}, said {sorted(said)}")
        if self.dropped & set(self.facts):
            raise ValueError(f"{where}: a dropped proposal is in the summary")
        if not self.facts:
            raise ValueError(f"{where}: the summary carries no fact")


@dataclass(frozen=True)
class Common:
    """Shared openers and closers: name -> alternatives, each a short run of turns."""

    openers: dict[str, list[list[Turn]]]
    closers: dict[str, list[list[Turn]]]


def _turn(line: str, where: str) -> Turn:
    found = _TURN.match(line)
    if found is None:
        raise ValueError(f"{where}: cannot read {line!r}")
    texts = tuple(part.strip() for part in found[3].split(" | "))
    return Turn(tuple(found[1].split()), found[2], texts)


def _draw(line: str, where: str) -> tuple[Draw, set[str]]:
    left, _, right = line[1:].partition(" = ")
    order = "<" if "<" in left else ">" if ">" in left else ""
    names = [name.strip() for name in left.split(order or ",")]
    dropped = {name[1:] for name in names if name.startswith("~")}
    pool = right.strip()
    if pool.startswith("@"):
        if pool[1:] not in POOLS:
            raise ValueError(f"{where}: no pool {pool}")
        values = POOLS[pool[1:]]
    else:
        values = tuple(part.strip() for part in pool.split(" / "))
    return Draw(tuple(name.lstrip("~") for name in names), values, order), dropped


def read_skeletons(path: Path) -> list[Skeleton]:
    """The skeletons of one file, checked."""
    skeletons: list[Skeleton] = []
    topic = ""
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line, where = raw.strip(), f"{path.name}:{number}"
        if not line or line.startswith("//"):
            continue
        if line.startswith("== "):
            topic = line[3:]
        elif line.startswith("--"):
            head = _HEAD.match(line)
            if head is None:
                raise ValueError(f"{where}: cannot read {line!r}")
            options = dict(item.split("=") for item in head[3].split())
            skeletons.append(
                Skeleton(topic, head[1], head[2], options.get("open", "none"), options.get("close", "none"))
            )
        elif line.startswith("$"):
            draw, dropped = _draw(line, where)
            skeletons[-1].draws.append(draw)
            skeletons[-1].dropped |= dropped
        elif line.startswith("S: "):
            skeletons[-1].summaries.append(line[3:])
        else:
            skeletons[-1].turns.append(_turn(line, where))
    for skeleton in skeletons:
        skeleton.check()
    return skeletons


def read_common(path: Path) -> Common:
    """The shared openers (``>> name``) and closers (``<< name``); a blank line ends an alternative."""
    common = Common({}, {})
    current: list[list[Turn]] = []
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line, where = raw.strip(), f"{path.name}:{number}"
        if line.startswith("//"):
            continue
        if line.startswith((">> ", "<< ")):
            current = [[]]
            (common.openers if line[0] == ">" else common.closers)[line[3:]] = current
        elif line:
            current[-1].append(_turn(line, where))
        elif current and current[-1]:
            current.append([])
    for group in (*common.openers.values(), *common.closers.values()):
        group[:] = [run for run in group if run]
    return common


def load(folder: Path) -> tuple[list[Skeleton], Common]:
    """All skeletons under ``folder`` (files in name order) and the shared openers and closers."""
    skeletons = [
        skeleton
        for path in sorted(folder.glob("*.txt"))
        if path.name != "common.txt"
        for skeleton in read_skeletons(path)
    ]
    keys = [(skeleton.topic, skeleton.key) for skeleton in skeletons]
    if len(keys) != len(set(keys)):
        raise ValueError("two skeletons of one topic share a key")
    common = read_common(folder / "common.txt")
    for skeleton in skeletons:
        if skeleton.opener not in {"none", *common.openers}:
            raise ValueError(f"{skeleton.topic}/{skeleton.key}: no opener {skeleton.opener}")
        if skeleton.closer not in {"none", *common.closers}:
            raise ValueError(f"{skeleton.topic}/{skeleton.key}: no closer {skeleton.closer}")
    return skeletons, common
