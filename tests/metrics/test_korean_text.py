"""Tags, normal form and word splitting."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlgsum.metrics.korean import TAG, normalise, split_tags, visible_length, words_without_punctuation


@pytest.mark.parametrize("tag", ["#Person1#", "#Person12#", "#PhoneNumber#", "#Address#", "#SSN#"])
def test_a_tag_is_found_whole_in_front_of_a_josa(tag: str) -> None:
    assert TAG.findall(f"{tag}은 {tag}에게") == [tag, tag]


@pytest.mark.parametrize("text", ["#은", "#해시태그#", "# Person1 #", "#1#", "Person1", "##", "#Person1"])
def test_other_number_signs_are_not_tags(text: str) -> None:
    assert TAG.search(text) is None


def test_text_is_cut_around_tags() -> None:
    assert split_tags("어제 #Person1#은 #Person2##Person3#") == [
        ("어제 ", False),
        ("#Person1#", True),
        ("은 ", False),
        ("#Person2#", True),
        ("#Person3#", True),
    ]


@given(st.text(alphabet="#Pe1가 ."))
def test_the_pieces_give_the_text_again(text: str) -> None:
    pieces = split_tags(text)
    assert "".join(piece for piece, _ in pieces) == text
    assert all(piece for piece, _ in pieces)


def test_decomposed_hangul_is_composed() -> None:
    assert normalise(unicodedata.normalize("NFD", "안녕")) == "안녕"


def test_a_lone_surrogate_is_replaced() -> None:
    assert normalise("가\ud83d나") == "가\ufffd나"


def test_words_lose_case_and_punctuation_but_keep_symbols() -> None:
    assert words_without_punctuation("#Person1#은, 『KoBART』를 좋아해~!") == [
        "person1",
        "은",
        "kobart",
        "를",
        "좋아해~",
    ]
    assert words_without_punctuation("… ?! #") == []


def test_visible_length_skips_all_white_space() -> None:
    assert visible_length(" 가\u3000나\n") == 2
    assert visible_length("") == 0
