"""Tables as streams: broken quotes explained, cells that no spreadsheet runs, and bounded memory."""

from __future__ import annotations

import csv
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dlgsum.core.errors import DataError
from dlgsum.data import tables
from dlgsum.data.tables import inert, plain, read_table

HEADER = "fname,dialogue,summary\n"
HINT = "double each quote"

# What is in the file after the header, and what the message must say.
BROKEN = {
    "never closed": ('1,d,s\n2,"never closed,s\n3,d,s\n', ["begins on line 3", "opened on line 3 is never closed"]),
    "never closed, last line": ('1,d,s\n2,d,"s\n', ["opened on line 3 is never closed"]),
    "never closed, in a later line of its row": (
        '1,"a\nb","c\nd\n2,d,s\n',
        ["begins on line 2", "opened on line 3 is never closed"],
    ),
    "closed by the next row's quote": (
        '1,"a,s\n2,d,s\n3,"b",s\n',
        ["begins on line 2", "opened on line 2 is closed on line 4 before 'b\",s'", "line 2 lacks its closing quote"],
    ),
    "text behind a quoted cell": ('1,"d"x,s\n', ["line 2", "closed on line 2 before 'x,s'", "',' or the end"]),
    "a quote inside a quoted cell": (
        '1,"she said "yes" twice",s\n',
        ["closed on line 2 before 'yes\" twice\",s'", HINT],
    ),
    "a blank behind a quoted cell": ('1,"d" ,s\n', ["before ' ,s'"]),
    "after many good rows": ('1,"d\ne",s\n' * 40 + '2,"d"!,s\n', ["line 82", "before '!,s'"]),
    "a doubled quote that was meant to close": ('1,"d"",s\n2,d,s\n', ["opened on line 2 is never closed"]),
    "backslash instead of a doubled quote": ('1,"a \\"b\\" c",s\n', ["before 'b", HINT]),
    "Windows line ends": ('1,d,s\r\n2,"d"x,s\r\n', ["line 3", "before 'x,s'"]),
}


def problem(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        for _ in read_table(path, "auto").records:
            pass
    assert caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize("case", BROKEN)
def test_broken_quotes_are_explained(tmp_path, case):
    path = tmp_path / "a.csv"
    content, words = BROKEN[case]
    path.write_bytes((HEADER + content).encode())
    text = problem(path)
    assert "broken quoting" in text
    for word in words:
        assert word in text, text


def test_a_broken_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('fname,"dialogue"s,summary\n1,d,s\n')
    assert "begins on line 1" in problem(path)


def test_tabs_are_named(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('fname\tdialogue\n1\t"d"x\n')
    assert "where a tab or the end" in problem(path)


def test_an_unclosed_quote_does_not_take_the_file_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "LONGEST_CELL", 10_000)
    path = tmp_path / "a.csv"
    with path.open("w") as stream:
        stream.write(HEADER + '1,"never closed,s\n')
        stream.writelines(f"{number},d,s\n" for number in range(300_000))
    tracemalloc.start()
    text = problem(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "opened on line 2 is never closed" in text and peak < 8e6
    csv.field_size_limit(tables.LONGEST_CELL)


def test_wrong_shapes_are_told_with_their_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(HEADER + '1,"a\nb",s\n2,d\n3,d,s,more\n4,d,s,,\n')
    records = list(read_table(path, "auto").records)
    assert [(record.line, record.problem) for record in records] == [
        (2, ""),
        (4, "2 fields where the header has 3"),
        (5, "4 fields where the header has 3"),
        (6, ""),
    ]


def test_rows_are_read_as_they_are_taken(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "1,d,s\n" * 3 + '2,"d"x,s\n')
    records = read_table(path, "auto").records
    assert [next(records).line for _ in range(3)] == [2, 3, 4]
    with pytest.raises(DataError, match="line 5"):
        next(records)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_memory_does_not_grow_with_rows(tmp_path, suffix):
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"a{suffix}"
    row = {"fname": "가", "dialogue": "나" * 400, "summary": "다"}
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row] * 20_000), path, row_group_size=1000)
    elif suffix == ".jsonl":
        path.write_text((json.dumps(row, ensure_ascii=False) + "\n") * 20_000)
    else:
        path.write_text(HEADER + f"{','.join(row.values())}\n" * 20_000)
    read_table(path, "auto")  # what is imported on first use does not count
    tracemalloc.start()
    assert sum(1 for _ in read_table(path, "auto").records) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6, "the texts alone are 16 MB"


ANY = st.text(st.one_of(st.sampled_from("'=+-@\t\ra가 \n\""), st.characters(codec="utf-8")), max_size=12)


@given(ANY)
@example("=1")
@example("'=1")
@example("''\t")
@example("'a")
@example("")
def test_inert_is_undone_exactly(text):
    cell = inert(text)
    assert plain(cell) == text
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert cell in (text, f"'{text}")


@given(st.text("'=+-@\t\ra", max_size=6), st.text("'=+-@\t\ra", max_size=6))
def test_different_texts_have_different_cells(one, other):
    assert (inert(one) == inert(other)) == (one == other)


@given(st.lists(ANY.filter(lambda text: "\0" not in text), min_size=1, max_size=5))
def test_what_is_written_is_read(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("x") / "a.csv"
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerows([["fname", "summary"], *([str(number), inert(text)] for number, text in enumerate(texts))])
    path.write_bytes(buffer.getvalue().encode())
    table = read_table(path, "utf-8")
    assert table.inert and [plain(record.cells["summary"]) for record in table.records] == texts
