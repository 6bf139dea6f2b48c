"""Finding the encoding of a file, however large, and saying what was found."""

from __future__ import annotations

import csv
import json
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlgsum.config.schema.data import Data
from dlgsum.core.errors import DataError
from dlgsum.data import encodings
from dlgsum.data.encodings import Encoding, find_encoding
from dlgsum.data.sources import load_file
from dlgsum.data.text_files import open_text

TEXT = "fname,dialogue,summary\n가,#Person1#: 안녕하세요. 반갑습니다.,두 사람이 인사를 나눈다.\n"


def found(path: Path, content: bytes) -> Encoding:
    path.write_bytes(content)
    return find_encoding(path, "auto")


def problem(path: Path, content: bytes, encoding: str = "auto") -> str:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        find_encoding(path, encoding)
    assert caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "name", "note"),
    [
        ("utf-8", "utf-8", ""),
        ("utf-8-sig", "utf-8", ""),
        ("utf-16", "utf-16", "read as utf-16"),
        ("utf-16-le", "utf-16-le", "read as utf-16-le"),
        ("utf-16-be", "utf-16-be", "read as utf-16-be"),
        ("utf-32", "utf-32", "read as utf-32"),
        ("cp949", "cp949", "read as cp949"),
        ("euc-kr", "cp949", "read as cp949"),
    ],
)
@pytest.mark.parametrize("times", [1, 500])
def test_what_korean_files_come_in(tmp_path, monkeypatch, written, name, note, times):
    monkeypatch.setattr(encodings, "CHUNK", 1001)  # odd: characters are cut in two
    path = tmp_path / "a.csv"
    assert found(path, (TEXT * times).encode(written)) == Encoding(name, note)
    with open_text(path, "auto") as (stream, said):
        assert stream.read() == TEXT * times and said == note


def test_ascii_alone_is_utf8(tmp_path):
    assert found(tmp_path / "a.csv", b"fname,dialogue\n1,hello\n") == Encoding("utf-8")


def test_the_note_travels_with_the_split(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT.encode("cp949"))
    split = load_file(path, Data(), name="x", need_summary=True)
    assert split.notes == ("read as cp949",) and split.rows[0].id == "가"
    assert split.describe()["notes"] == ["read as cp949"]
    assert load_file(path, Data(encoding="cp949"), name="x", need_summary=True).notes == ()
    line = json.dumps({"fname": "가", "dialogue": "안녕", "summary": "인사"}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_bytes(line.encode("utf-16"))
    assert load_file(tmp_path / "a.jsonl", Data(), name="x", need_summary=True).notes == ("read as utf-16",)


def test_bytes_that_are_neither(tmp_path):
    text = problem(tmp_path / "a.csv", b"fname\n\xff\xff\xff")
    assert "is not utf-8: byte 7 (line 2)" in text and "nor is it Korean in cp949" in text
    assert "data.encoding=NAME" in text


def test_latin_text_is_not_taken_for_korean(tmp_path):
    """cp949 decodes it, into syllables that no Korean text has."""
    content = ("fname,dialogue\n" + "1,l'été à la forêt près de l'hôtel\n" * 9).encode("latin-1")
    assert "nor is it Korean" in problem(tmp_path / "a.csv", content)


def test_damaged_utf8_is_not_taken_for_cp949(tmp_path, monkeypatch):
    monkeypatch.setattr(encodings, "CHUNK", 64)
    good = (TEXT * 20).encode()
    text = problem(tmp_path / "a.csv", good + b"1,\xb0\xa1,s\n")
    assert f"is UTF-8, but damaged: byte {len(good) + 3:,} (line 41)" in text and "Correct that line" in text
    assert "damaged" in problem(tmp_path / "a.csv", b"\xef\xbb\xbffname\n\xb0\xa1\n"), "a mark says UTF-8"


@pytest.mark.parametrize("encoding", ["utf-8", "cp949", "utf-16-le", "ascii"])
@pytest.mark.parametrize("before", [0, 1, 63, 64, 65, 500])
def test_the_place_is_exact_whatever_the_chunks(tmp_path, monkeypatch, encoding, before):
    monkeypatch.setattr(encodings, "CHUNK", 64)
    bad = b"\x00\xd8\x00\x00" if encoding == "utf-16-le" else b"\xff\xff"
    content = ("a\n" * before).encode(encoding) + bad
    text = problem(tmp_path / "a.csv", content, encoding)
    assert f"byte {len(content) - len(bad) + 1:,} (line {before + 1:,})" in text


def test_a_file_that_ends_in_the_middle_of_a_character(tmp_path):
    content = ("가나다\n" * 50).encode()[:-2]
    assert f"byte {len(content) - 1:,} (line 50)" in problem(tmp_path / "a.csv", content)
    assert "utf-16" in problem(tmp_path / "a.csv", "가나다".encode("utf-16")[:-1])


@settings(max_examples=200)
@given(st.text(st.characters(codec="cp949", exclude_characters="\0"), max_size=60))
def test_any_korean_text_reads_as_it_was_written(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("x") / "a.csv"
    padded = "사람이 말한다" + text
    for encoding in ("utf-8", "utf-16"):
        path.write_bytes(padded.encode(encoding))
        with open_text(path, "auto") as (stream, _):
            assert stream.read() == padded


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w", encoding="cp949", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["fname", "dialogue", "summary"])
        syllables = "가나다라마바사아자차카타파하 \n"
        dialogue = "".join(random.Random(1).choices(syllables, k=400))
        for number in range(20_000):
            writer.writerow([number, dialogue, "요약"])
    assert path.stat().st_size > 12e6
    tracemalloc.start()
    assert find_encoding(path, "auto").name == "cp949"
    with open_text(path, "auto") as (stream, _):
        assert sum(1 for _ in stream) > 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 9e6
