"""One tree of errors with one exit code each, and suggestions for mistyped names."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlgsum.core import errors
from dlgsum.core.errors import ConfigError, DlgsumError, Interrupted, nearest


def test_exit_codes():
    codes = {
        name: getattr(errors, name).exit_code
        for name in dir(errors)
        if name[:1].isupper() and "exit_code" in dir(getattr(errors, name))
    }
    assert codes == {
        "DlgsumError": 1, "UsageError": 2, "ConfigError": 2, "DataError": 3, "EnvironmentProblem": 4,
        "TrainingFailed": 5, "Interrupted": 1,
    }  # fmt: skip
    assert Interrupted(signal.SIGINT, "x").exit_code == 130
    assert Interrupted(signal.SIGTERM, "x").exit_code == 143


def test_every_error_is_in_one_tree():
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(found) == 7 and all(issubclass(kind, DlgsumError) for kind in found)


def test_the_hint_follows_the_message():
    assert str(DlgsumError("what", "do this")) == "what\ndo this"
    assert str(DlgsumError("what")) == "what"
    assert str(ConfigError(["a"], "do this")) == "1 problem in the configuration:\n  • a\ndo this"
    assert str(ConfigError(iter(["a", "b"]))).startswith("2 problems in the configuration:")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("training.learning_rat", "training.learning_rate"),
        ("learning_rat", "training.learning_rate"),
        ("sed", "general.seed"),
        ("entirely_different", None),
        ("", None),
    ],
)
def test_nearest(word: str, expected: str | None):
    assert nearest(word, ["training.learning_rate", "general.seed", "model"]) == expected


def test_ties_go_to_the_first():
    assert nearest("seed", ["a.seed", "b.seed"]) == "a.seed"
    assert nearest("x", []) is None


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=8))
def test_nearest_returns_a_candidate_or_nothing(word: str, candidates: list[str]):
    guess = nearest(word, candidates)
    assert guess is None or guess in candidates
    if word and word in candidates:
        assert guess == word
