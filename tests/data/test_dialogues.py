"""Rows in memory and on disk: the same sequence, whatever its size."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlgsum.core.files import sha256_text
from dlgsum.data import dialogues
from dlgsum.data.dialogues import BATCH_ROWS, Dialogue, RowView, RowWriter, StoredRows
from dlgsum.data.rows import Fingerprint, Split, fingerprint, make_split
from dlgsum.data.spool import Spool

MEMORY, DISK = 2**60, 0


def row(number: int) -> Dialogue:
    references = tuple(f"요약 {number}.{index}" for index in range(number % 4))
    return Dialogue(f"id_{number}", f"대화 {number}\n" * (number % 5 + 1), references, "주제" if number % 2 else "")


def stored(count: int, limit: int, folder=None) -> StoredRows:
    writer = RowWriter(folder, memory_limit=limit)
    for number in range(count):
        writer.add(row(number))
    assert len(writer) == count
    return writer.finish()


@pytest.mark.parametrize("limit", [MEMORY, DISK, 100_000])
@pytest.mark.parametrize("count", [0, 1, BATCH_ROWS - 1, BATCH_ROWS, 3 * BATCH_ROWS + 7])
def test_the_same_as_a_tuple(tmp_path, limit, count):
    rows, expected = stored(count, limit, tmp_path), tuple(row(number) for number in range(count))
    assert len(rows) == count and rows == expected and expected == rows
    assert bool(rows) == bool(count) and tuple(rows) == tuple(rows) == expected
    for index in {0, 1, -1, count // 2, count - 1} & set(range(-count, count)):
        assert rows[index] == expected[index]
    for part in (slice(3), slice(2, None, 700), slice(None, None, -1), slice(-5, None)):
        assert rows[part] == expected[part] and len(rows[part]) == len(expected[part])
    for index in (count, -count - 1):
        with pytest.raises(IndexError, match=f"no row {index}"):
            rows[index]
    assert list(zip(rows, range(count), strict=True)) == list(zip(expected, range(count), strict=True))
    assert rows.summarised == sum(bool(found.references) for found in expected)


def test_unequal():
    rows = stored(3, MEMORY)
    assert rows != stored(2, MEMORY) and rows != [row(0), row(1), row(3)] and rows != 3 and rows != "abc"
    assert "3 dialogues" in repr(rows)


def test_random_access_on_disk(tmp_path):
    rows = stored(9 * BATCH_ROWS, DISK, tmp_path)
    assert rows.on_disk and not stored(9, MEMORY).on_disk
    for number in range(0, 9 * BATCH_ROWS, 997):
        place = number * 7919 % (9 * BATCH_ROWS)
        assert rows[place] == row(place)


def test_the_file_has_no_name(tmp_path):
    rows = stored(2 * BATCH_ROWS, DISK, tmp_path / "spool")
    assert rows.on_disk and list((tmp_path / "spool").iterdir()) == [], "nothing is left behind, whatever happens"


def test_pickled_rows_are_the_same(tmp_path):
    rows = stored(2 * BATCH_ROWS + 1, DISK, tmp_path)
    assert pickle.loads(pickle.dumps(rows)) == rows  # noqa: S301


def test_a_full_disk_leaves_rows_in_memory(tmp_path, monkeypatch, caplog):
    written = []

    def full(self, data):
        written.append(data)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    real = Spool.append
    monkeypatch.setattr(Spool, "append", full)
    with caplog.at_level(logging.WARNING):
        rows = stored(5 * BATCH_ROWS, DISK, tmp_path)
    assert not rows.on_disk and rows == [row(number) for number in range(5 * BATCH_ROWS)]
    assert caplog.text.count("stay in memory") == 1 and "No space left" in caplog.text


def test_a_folder_that_cannot_be(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        rows = stored(BATCH_ROWS, DISK, tmp_path / "file" / "spool")
    assert len(rows) == BATCH_ROWS and "stay in memory" in caplog.text


def test_forked_processes_read_side_by_side(tmp_path):
    """A position that they share would mix up their bytes."""
    rows = stored(20 * BATCH_ROWS, DISK, tmp_path)
    children = []
    for child in range(3):
        process = os.fork()
        if not process:
            wrong = any(rows[place] != row(place) for place in range(child, 20 * BATCH_ROWS, 613))
            os._exit(int(wrong))
        children.append(process)
    assert [os.waitpid(process, 0)[1] for process in children] == [0, 0, 0]


def test_memory_stays_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(dialogues, "MEMORY_LIMIT", 2**20)
    text = "가" * 400
    tracemalloc.start()
    writer = RowWriter(tmp_path)
    for number in range(20_000):
        writer.add(Dialogue(str(number), text + str(number), (text,)))
    rows = writer.finish()
    assert sum(len(found.dialogue) for found in rows) > 8e6
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows.on_disk and peak < 12e6, "the texts alone are 48 MB"


@given(st.lists(st.integers(0, 49), max_size=20))
def test_views(order):
    view = RowView(stored(50, MEMORY), order)
    expected = [row(number) for number in order]
    assert view == expected and list(view) == expected and len(view) == len(order)
    assert view[1:] == expected[1:] and view[::-1] == expected[::-1]


texts = st.text(st.characters(codec="utf-8"), max_size=6)


@settings(max_examples=50)
@given(st.lists(st.builds(Dialogue, texts, texts, st.lists(texts, max_size=3).map(tuple), texts), max_size=6))
def test_the_fingerprint_is_what_caches_and_records_know(rows):
    parts = [part for r in rows for part in (r.id, r.dialogue, str(len(r.references)), *r.references)]
    assert fingerprint(rows) == sha256_text(*parts) == make_split("x", "y", rows).fingerprint
    assert make_split("x", "y", rows).rows == rows
    assert (Fingerprint().hexdigest() == fingerprint(rows)) == (not rows)


def test_known_digest():
    """Whoever changes this makes every cache and every comparison by fingerprint worthless."""
    assert fingerprint([Dialogue("a", "가", ("나", "다"), "t")]) == (
        "5aa7c2e9716ea5b6b0147d4403533d484fa488b252ba3abec746112ec8587862"
    )


def test_has_summaries():
    with_all, without = Dialogue("a", "b", ("c",)), Dialogue("a", "b", ())
    for rows, expected in (([], False), ([with_all], True), ([with_all, without], False), ([without], False)):
        assert make_split("x", "", rows).has_summaries is expected
        assert Split("x", "", tuple(rows), (), {}, "").has_summaries is expected
