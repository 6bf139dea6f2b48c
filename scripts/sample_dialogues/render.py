"""From a skeleton and a seed to one row: dialogue, three summaries, and the facts they share."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from sample_dialogues.josa import attach
from sample_dialogues.script import SLOT, Common, Draw, Skeleton, Turn

T = TypeVar("T")

_INLINE: Final = re.compile(r"<([^<>]*)>")
#: Chance of each wording of the summary.
WORDING_WEIGHTS: Final = (0.70, 0.15, 0.15)
#: The third wording glues vowel-form particles on every tag (``#Person1#는``), as loosely edited data does.
_VOWEL_ONLY: Final = {"은": "는", "이": "가", "을": "를", "과": "와", "으로": "로"}


@dataclass(frozen=True)
class Row:
    """One generated dialogue with everything the checks need to know about it."""

    topic: str
    key: str
    level: str
    dialogue: str
    summaries: tuple[str, str, str]
    wording: int
    facts: tuple[str, ...]
    dropped: tuple[str, ...]

    @property
    def ordered_summaries(self) -> tuple[str, str, str]:
        """The drawn wording first, then the other two."""
        rest = [text for index, text in enumerate(self.summaries) if index != self.wording]
        return self.summaries[self.wording], rest[0], rest[1]


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """One item; ``random()`` alone is used so that every Python version draws the same."""
    return items[int(rng.random() * len(items))]


def draw_values(rng: random.Random, draw: Draw, used: Counter[tuple[tuple[str, ...], str]]) -> dict[str, str]:
    """Values for slots drawn together; none is equal to, or part of, another.

    Only the pool's least used values so far are drawn from, so that all are met about equally often.
    """
    chosen: list[str] = []
    for _ in draw.names:
        free = [v for v in draw.values if not any(v in other or other in v for other in chosen)]
        least = min(used[draw.values, value] for value in free)
        chosen.append(pick(rng, [value for value in free if used[draw.values, value] == least]))
        used[draw.values, chosen[-1]] += 1
    if draw.order:
        chosen.sort(key=draw.values.index, reverse=draw.order == ">")
    return dict(zip(draw.names, chosen, strict=True))


def inline(rng: random.Random, text: str) -> str:
    """``text`` with every ``<가/나>`` replaced by one of its parts."""
    text = _INLINE.sub(lambda found: pick(rng, found[1].split("/")), text)
    return re.sub(r" +", " ", text).strip()


def fill(text: str, values: dict[str, str], vowel_tags: bool = False) -> str:
    """``text`` with its slots filled and their particles chosen."""

    def one(found: re.Match[str]) -> str:
        value, form = values[found[1]], found[2]
        if not form:
            return value
        if vowel_tags and value.startswith("#Person"):
            return value + _VOWEL_ONLY.get(form, form)
        return attach(value, form)

    return SLOT.sub(one, text)


def choose_turns(rng: random.Random, turns: Sequence[Turn], optional: float = 0.45) -> list[Turn]:
    """The turns that are said this time: optional blocks and branches decided once each."""
    conditions = [condition for turn in turns for condition in turn.conditions]
    branches: dict[str, list[str]] = {}
    for condition in dict.fromkeys(conditions):
        if condition.startswith("^"):
            branches.setdefault(condition[:-1], []).append(condition)
    taken = {pick(rng, options) for options in branches.values()}
    for condition in dict.fromkeys(conditions):
        if condition.startswith("?") and rng.random() < optional:
            taken.add(condition)
    taken.update(condition for condition in conditions if condition.startswith("="))
    return [turn for turn in turns if taken.issuperset(turn.conditions)]


def render(
    skeleton: Skeleton,
    common: Common,
    seed: str,
    used: Counter[tuple[tuple[str, ...], str]] | None = None,
) -> Row:
    """The row of ``skeleton`` for ``seed``; ``used`` counts how often each value was drawn so far."""
    rng = random.Random(seed)
    values: dict[str, str] = {}
    for draw in skeleton.draws:
        values |= draw_values(rng, draw, Counter() if used is None else used)
    turns = choose_turns(rng, skeleton.turns)
    if skeleton.opener != "none" and rng.random() < 0.92:
        turns = choose_turns(rng, pick(rng, common.openers[skeleton.opener])) + turns
    if skeleton.closer != "none" and rng.random() < 0.65:
        closers = common.closers[skeleton.closer]
        other = [run for run in closers if run[0].role != turns[-1].role]
        turns = turns + choose_turns(rng, pick(rng, other or closers))
    said: list[tuple[str, str]] = []
    taken: dict[str, float] = {}
    for turn in turns:
        block = next((condition for condition in turn.conditions if condition[0] in "?="), "")
        roll = taken.setdefault(block, rng.random()) if block else rng.random()
        text = fill(inline(rng, turn.texts[int(roll * len(turn.texts))]), values)
        if said and said[-1][0] == turn.role:
            text = f"{said.pop()[1]} {text}"
        said.append((turn.role, text))
    tags = {role: f"#Person{n}#" for n, role in enumerate(dict.fromkeys(role for role, _ in said), 1)}
    tags["X"], tags["Y"] = sorted((tags["A"], tags["B"]))
    dialogue = "\n".join(f"{tags[role]}: {text}" for role, text in said)
    first, second, third = (
        fill(text, values | tags, vowel_tags=index == 2) for index, text in enumerate(skeleton.summaries)
    )
    roll, wording = rng.random(), 0
    while wording < 2 and roll >= sum(WORDING_WEIGHTS[: wording + 1]):
        wording += 1
    dropped = tuple(values[name] for name in sorted(skeleton.dropped) if values[name] in dialogue)
    return Row(
        skeleton.topic,
        skeleton.key,
        skeleton.level,
        dialogue,
        (first, second, third),
        wording,
        tuple(values[name] for name in skeleton.facts),
        dropped,
    )
