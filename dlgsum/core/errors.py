"""One tree of exceptions, each with the exit code that the command line returns for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DlgsumError(Exception):
    """Something the user can act on: what is wrong, and what to do next.

    Args:
        message: what is wrong, with the value and what is allowed.
        hint: what to do next; empty when the message already says it.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(DlgsumError):
    """A command, argument or name that does not exist or does not fit."""

    exit_code = 2


class ConfigError(UsageError):
    """One or more wrong settings; all of them are reported together."""

    def __init__(self, problems: Iterable[str], hint: str = "") -> None:
        self.problems = list(dict.fromkeys(problems))  # two checks may see the same thing
        count = len(self.problems)
        title = "1 problem in the configuration:" if count == 1 else f"{count} problems in the configuration:"
        super().__init__("\n".join([title, *(f"  • {problem}" for problem in self.problems)]), hint)


class DataError(DlgsumError):
    """Input files that are missing, unreadable or without usable rows."""

    exit_code = 3


class EnvironmentProblem(DlgsumError):
    """The machine lacks what the job needs: a package, a device, disk space, a reachable model."""

    exit_code = 4


class TrainingFailed(DlgsumError):
    """Training began and could not be finished."""

    exit_code = 5


class Interrupted(DlgsumError):
    """A signal stopped the job in an orderly way.

    Args:
        signal_number: the signal received; the exit code is 128 plus this number.
    """

    def __init__(self, signal_number: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signal_number


def nearest(word: str, candidates: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the candidate most like ``word``, or None when nothing comes close.

    A match of the last dotted part counts as well, so that ``learning_rat`` finds
    ``training.learning_rate``. Ties go to the first candidate.
    """
    options = list(dict.fromkeys(candidates))
    close = _closest(word, options, cutoff)
    if close is not None:
        return close
    by_leaf: dict[str, str] = {}
    for option in options:
        by_leaf.setdefault(option.rpartition(".")[2], option)
    close = _closest(word.rpartition(".")[2], list(by_leaf), max(cutoff, 0.75))
    return None if close is None else by_leaf[close]


def _closest(word: str, options: list[str], cutoff: float) -> str | None:
    # Not difflib.get_close_matches: it gives a tie to the last in the alphabet, and "rougel" is nearest to "rougeL".
    if word in options:
        return word
    matcher = difflib.SequenceMatcher(b=word.lower())
    best, best_ratio = None, 0.0
    for option in options:
        matcher.set_seq1(option.lower())
        ratio = matcher.ratio()
        if ratio >= cutoff and ratio > best_ratio:
            best, best_ratio = option, ratio
    return best
