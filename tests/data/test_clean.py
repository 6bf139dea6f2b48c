"""Cleaning: what each step changes, what it must leave alone, and that a second pass changes nothing."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlgsum.config.schema.data import Data
from dlgsum.data.clean import STEPS, blanks, clean, newlines, nfc, tags

DEFAULT = tuple(Data().cleaning)

# Pieces that meet in real noise, and pieces that only become something once another step has run.
PIECES = [
    "#Person1#", "Person1", "#Person2", "Person3#", "# Person4 #", "#Person 5#", "Person", "#", "1", "Address",
    "#Address#", "SuperPerson1", "a@Person1.com", ":", " ", "  ", "\t", "\n", "\r", "\r\n", "\\", "n", "r", "\\n",
    "<br>", "<BR />", "<b", "r>", "\u200b", "\ufeff", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "안녕", "은",
    "\u1112\u1161\u11ab", "\u1112", "\u1161", "e", "\u0301", ".", "-", "/", "@", "x",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(max_size=60)


@pytest.mark.parametrize(
    "before, after",
    [
        ("Person1: 안녕", "#Person1#: 안녕"),
        ("#Person1: 안녕", "#Person1#: 안녕"),
        ("Person1#: 안녕", "#Person1#: 안녕"),
        ("# Person1 #: 안녕", "#Person1#: 안녕"),
        ("# Person1#: 안녕", "#Person1#: 안녕"),
        ("#Person 1#: 안녕", "#Person1#: 안녕"),
        ("Person1은 Person2에게", "#Person1#은 #Person2#에게"),
        ("안녕하세요.Person2: 네", "안녕하세요.#Person2#: 네"),
        ("- Person1 그리고 -Person2", "- #Person1# 그리고 -#Person2#"),
        ("Person1#Person2#", "#Person1##Person2#"),
        ("Person1 #Person2#", "#Person1# #Person2#"),
        ("#Person1 #Person2", "#Person1# #Person2#"),
        ("#Person1 #Address#", "#Person1# #Address#"),
        ("Person1#Address#", "#Person1##Address#"),
        ("#Address# Person1", "#Address# #Person1#"),
        ("# Person1 # Person2 #", "#Person1# #Person2#"),
        ("Person1 #1번 창구", "#Person1# #1번 창구"),
        ("Person7.", "#Person7#."),
    ],
)
def test_malformed_marks_are_mended(before, after):
    assert tags(before) == after


@pytest.mark.parametrize(
    "text",
    [
        "#Person1#: 안녕", "#Person1#은 #Person2#에게", "#Person1##Person2#", "#Person12#", "#Person#", "Person",
        "SuperPerson1", "Person1x", "Person_1", "Person2024", "Persons1", "x_Person1", "me@Person1.com",
        "Person1@mail.com", "www.Person1.com", "Person1.com", "https://a/Person1", "C#Person1", "person1",
        "#PhoneNumber#", "##Person1##", "",
    ],
)  # fmt: skip
def test_what_tags_leaves_alone(text):
    assert tags(text) == text


@pytest.mark.parametrize("mark", [r"\n", r"\r\n", "<br>", "<br/>", "<BR />", "\r\n", "\r", "\u2028"])
def test_newlines(mark):
    assert newlines(f"a{mark}b") == "a\nb"


def test_newlines_leaves_other_markup():
    assert newlines(r"<b>a</b> \t <break>") == r"<b>a</b> \t <break>"


def test_blanks():
    assert blanks(" a \t\u00a0\u3000 b \n\n \u200b\n c\ufeff\n") == "a b\nc"
    assert blanks("#Person1#\u200b은") == "#Person1#은"
    assert blanks("👨\u200d👩\u200d👧") == "👨\u200d👩\u200d👧"
    assert blanks(" \n\t") == ""


def test_nfc():
    assert nfc("\u1112\u1161\u11ab글") == "한글"


def test_order_and_names():
    assert clean("Person1: a<br>b  c", DEFAULT) == ("#Person1#: a\nb c", ("newlines", "tags", "blanks"))
    assert clean("Person1  a", ["blanks"]) == ("Person1 a", ("blanks",))
    assert clean("그대로", DEFAULT) == ("그대로", ())
    assert clean(" a ", []) == (" a ", ())
    assert clean("", DEFAULT) == ("", ())
    with pytest.raises(KeyError):
        clean("a", ["sparkle"])


def test_a_step_may_uncover_work_for_an_earlier_one():
    assert clean("Person\u200b1: a\\\u200bn b", DEFAULT)[0] == "#Person1#: a\nb"


def test_the_registry_has_the_configured_names():
    assert set(STEPS) == set(DEFAULT)


@given(texts)
def test_cleaning_twice_changes_nothing(text):
    cleaned, _ = clean(text, DEFAULT)
    assert clean(cleaned, DEFAULT) == (cleaned, ())


@given(texts, st.sampled_from(list(itertools.permutations(DEFAULT))))
def test_neither_in_any_order(text, order):
    cleaned, _ = clean(text, order)
    assert clean(cleaned, order) == (cleaned, ())


@given(texts)
def test_cleaned_text_is_tidy(text):
    cleaned, changed = clean(text, DEFAULT)
    assert (cleaned != text) <= bool(changed)
    for line in cleaned.split("\n") if cleaned else []:
        assert line and line == line.strip() and "  " not in line
    assert "\\n" not in cleaned and "<br>" not in cleaned


@given(texts)
def test_tags_only_moves_marks(text):
    """Nothing but number signs and blanks beside a mark may change, and no correct tag is lost."""
    mended = tags(text)
    assert re.sub(r"[#\s]", "", mended) == re.sub(r"[#\s]", "", text)
    correct = re.compile(r"#[A-Za-z]+[0-9]*#")
    assert len(correct.findall(mended)) >= len(correct.findall(text))
