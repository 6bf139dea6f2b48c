"""One filter, such as ``rouge_combined_f1>0.3`` or ``started>7d``: what it asks, and whether a run satisfies it."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, get_args

from dlgsum.core.errors import UsageError, nearest
from dlgsum.tracking.query_fields import Field, Fields, Value
from dlgsum.tracking.record import ExperimentRecord
from dlgsum.tracking.run import Status, is_beginning

_FILTER = re.compile(r"\s*(?P<name>[^\s=!<>~]+)\s*(?P<op>>=|<=|==|!=|!~|=|>|<|~)\s*(?P<value>.*?)\s*", re.DOTALL)
_ORDERED: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip
_UNITS: Final[Mapping[str, float]] = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_AMOUNT: Final = r"\d+(?:\.\d+)?"
_DURATION = re.compile(rf"(?:{_AMOUNT}[wdhms])+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
# Kinds of which everybody has a value sooner or later, so that it is told where one lacks.
_TOLD = ("number", "metric", "time", "duration", "setting", "hash", "flag")
_WITHOUT = "no {}"
_NAN = "a {} that is NaN"


@dataclass(frozen=True)
class Filter:
    """A filter that was understood; ``test`` takes a value that is there."""

    field: Field
    operator: str
    text: str
    test: Callable[[Any], bool]

    def judge(self, record: ExperimentRecord) -> bool | str:
        """Return whether a run satisfies the filter, or, where it lacks a usable value, how that is told."""
        value = self.field.read(record)
        absent = value is None or value in ("", [])
        if not self.text and self.operator in ("=", "!="):
            return absent == (self.operator == "=")
        if absent:
            return self.operator.startswith("!") or (_WITHOUT if self.field.kind in _TOLD else False)
        number = value if isinstance(value, bool) or self.field.kind not in ("metric", "setting") else as_number(value)
        if self.operator in _ORDERED and isinstance(number, float) and math.isnan(number):
            return _NAN
        return self.test(value)


def parse_filter(word: str, fields: Fields, now: datetime) -> Filter:
    """Return the filter that a word means: a name, one of ``= != > >= < <= ~ !~``, and a value.

    ``~`` is "contains", without regard to case, and ``!~`` its opposite. ``NAME=`` finds what has no value, ``NAME!=``
    what has one. Durations are ``2h``, ``1h30m``, ``7d`` or seconds; times are dates, dates with a time, in local time,
    or a duration before ``now``. A date is the midnight that it begins with; ``=`` and ``<=`` take in the whole day.
    Ids are compared by their beginning, or that of their part behind the time; hashes by their beginning.

    Raises:
        UsageError: it is no filter, nobody has a field of this name, or the value does not fit it.
    """
    found = _FILTER.fullmatch(word)
    if found is None:
        raise UsageError(
            f"'{word}' is no filter; one is FIELD, then = != > >= < <= ~ or !~, then a value",
            "Quote it, because a shell takes > and < for itself: 'rouge_combined_f1>0.3'",
        )
    field, name, text = fields.find(found["name"]), found["name"], found["value"]
    op = "=" if found["op"] == "==" else found["op"]
    if not text and op not in ("=", "!="):
        raise UsageError(f"'{word}' has no value", f"'{name}=' finds runs without one, '{name}!=' those with one.")
    if not text:
        return Filter(field, op, text, lambda value: False)
    if op in ("~", "!~"):
        part = text.casefold()
        return Filter(field, op, text, lambda value: (part in _as_text(value).casefold()) == (op == "~"))
    return Filter(field, op, text, _comparison(field, op, text, now))


def as_number(value: Any) -> float | None:
    """Return a number, also one that files hold as a word such as NaN or 1e-05; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _comparison(field: Field, op: str, text: str, now: datetime) -> Callable[[Any], bool]:
    """Return what compares a value that is there with the text of a filter."""
    compare = _ORDERED[op]
    if field.kind == "time":
        return _compare_times(field.name, op, text, now)
    if field.kind == "setting":
        return _compare_settings(field.name, op, text)
    if field.kind in ("number", "metric", "duration"):
        wanted = _duration(field.name, text) if field.kind == "duration" else _number(field.name, text)
        return lambda value: (got := as_number(value)) is not None and compare(got, wanted)
    if op not in ("=", "!="):
        raise UsageError(f"{field.name} is no number and no time, so {op} does not compare it", "Use = != ~ or !~.")
    return _compare_words(field, op, text)


def _compare_words(field: Field, op: str, text: str) -> Callable[[Any], bool]:
    equal = op == "="
    if field.kind == "flag":
        wanted = _flag(field.name, text)
        return lambda value: (bool(value) is wanted) == equal
    if field.kind == "status":
        _check_status(text)
    if field.kind == "words":
        return lambda value: (text in value) == equal
    if field.kind == "id":
        return lambda value: is_beginning(text, value) == equal
    if field.kind == "hash":
        return lambda value: str(value).startswith(text.lower()) == equal
    return lambda value: (str(value) == text) == equal


def _compare_settings(name: str, op: str, text: str) -> Callable[[Any], bool]:
    """Compare as numbers where both are numbers, else as words; a list equals each of its items."""
    wanted = as_number(text)
    compare = _ORDERED[op]
    if op not in ("=", "!=") and wanted is None:
        raise UsageError(f"{name}{op} compares numbers, and '{text}' is none", "Use = != ~ or !~ for words.")

    def equals(value: Any) -> bool:
        if isinstance(value, list):
            return any(equals(item) for item in value)
        got = as_number(value)
        if wanted is not None and got is not None:
            return got == wanted
        return _as_text(value).casefold() == text.casefold() if isinstance(value, bool) else _as_text(value) == text

    def ordered(value: Any) -> bool:
        got = as_number(value)
        return got is not None and wanted is not None and compare(got, wanted)

    return {"=": equals, "!=": lambda value: not equals(value)}.get(op, ordered)


def _compare_times(name: str, op: str, text: str, now: datetime) -> Callable[[Any], bool]:
    begin = _moment(name, text, now)
    if _DATE.fullmatch(text) and op in ("=", "!=", "<="):
        # Midnight by the local calendar: a day on which the clocks change has not 24 hours.
        after = datetime.combine(begin.date() + timedelta(days=1), begin.time()).astimezone()
        return {
            "=": lambda value: begin <= value < after,
            "!=": lambda value: not begin <= value < after,
            "<=": lambda value: value < after,
        }[op]
    compare = _ORDERED[op]
    return lambda value: compare(value, begin)


def _moment(name: str, text: str, now: datetime) -> datetime:
    try:
        if _DURATION.fullmatch(text.lower()):
            return now - timedelta(seconds=_duration(name, text))
        found = datetime.fromisoformat(text)
        if not 1900 < found.year < 3000:  # beyond what calendars with zones can do
            raise ValueError
        return found.astimezone() if found.tzinfo is None else found
    except (ValueError, OverflowError):
        raise UsageError(
            f"{name} is a time; '{text}' is none",
            f"Write a date such as 2026-11-21, 2026-11-21T18:30, or how long ago: '{name}>7d', '{name}>12h'.",
        ) from None


def _duration(name: str, text: str) -> float:
    if _DURATION.fullmatch(text.lower()):
        return sum(float(amount) * _UNITS[unit] for amount, unit in re.findall(rf"({_AMOUNT})([wdhms])", text.lower()))
    found = as_number(text)
    if found is None or math.isnan(found):
        raise UsageError(f"{name} is a time span; '{text}' is none", "Write it as 90, 90s, 45m, 2h, 1h30m or 7d.")
    return found


def _number(name: str, text: str) -> float:
    found = as_number(text)
    if found is None or math.isnan(found):
        raise UsageError(f"{name} is a number; '{text}' is none", f"Write it as '{name}>0.3'; '{name}~nan' finds NaN.")
    return found


def _flag(name: str, text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise UsageError(f"{name} is true or false, not '{text}'")
    return text.lower() in _TRUE


def _check_status(text: str) -> None:
    known = get_args(Status)
    if text not in known:
        guess = nearest(text, known)
        raise UsageError(
            f"'{text}' is no status; there are {', '.join(known)}", f"Did you mean {guess}?" if guess else ""
        )


def _as_text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(map(_as_text, value))
    return value.astimezone().isoformat(" ") if isinstance(value, datetime) else str(value)
