"""Encoding: order, cache, and a disk that fails."""

from __future__ import annotations

import errno
import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from dlgsum.core.files import sha256_file
from dlgsum.data import encode
from dlgsum.data.encode import EncodedSplit, Restore, encode_split
from dlgsum.data.rows import Dialogue, Split, fingerprint


class Letters:
    """One number a letter, with an end mark."""

    def __init__(self, fingerprint: str = "letters", longest: int = 40) -> None:
        self.fingerprint = fingerprint
        self.longest = longest
        self.calls = 0

    def encode_sources(self, texts: list[str]) -> list[list[int]]:
        self.calls += 1
        return [[*[ord(letter) for letter in text[: self.longest - 1]], 1] for text in texts]

    def encode_targets(self, texts: list[str]) -> list[list[int]]:
        return self.encode_sources(texts)


def make_split(*pairs: tuple[str, str]) -> Split:
    rows = tuple(Dialogue(str(i), text, (summary,) if summary else ()) for i, (text, summary) in enumerate(pairs))
    return Split("train", "memory", rows, (), {}, fingerprint(rows))


class Cutting(Letters):
    """Also says how long the texts were."""

    def measure_sources(self, texts: list[str]) -> tuple[list[list[int]], list[int]]:
        return self.encode_sources(texts), [len(text) + 1 for text in texts]

    measure_targets = measure_sources


SPLIT = make_split(("가나다", "가"), ("나", "나다라"), ("라마바사아", ""), ("", "마"))


def contents(encoded: EncodedSplit) -> list[dict[str, list[int]]]:
    return [encoded[index] for index in range(len(encoded))]


def only_folder(cache: Path) -> Path:
    (folder,) = cache.iterdir()
    return folder


def test_rows_lengths_and_items():
    encoded = encode_split(SPLIT, Letters(), cache_dir=None)
    assert len(encoded) == 4 and encoded.rows == SPLIT.rows and encoded.split is SPLIT and not encoded.reused
    assert encoded[0] == {"input_ids": [ord("가"), ord("나"), ord("다"), 1], "labels": [ord("가"), 1]}
    assert encoded[2]["labels"] == [] and encoded[3]["input_ids"] == [1]
    assert encoded.source_lengths.tolist() == [4, 2, 6, 1] and encoded.source_lengths.dtype == np.int32
    assert encoded.target_lengths.tolist() == [2, 4, 0, 2] and encoded.target_lengths.dtype == np.int32
    assert encoded[-1] == encoded[3] and encoded[np.int64(1)] == encoded[1]
    with pytest.raises(IndexError):
        encoded[4]


def test_lengths_before_cutting(tmp_path):
    for cache in (None, tmp_path, tmp_path):
        encoded = encode_split(SPLIT, Cutting(longest=3), cache_dir=cache)
        assert encoded.source_lengths.tolist() == [3, 2, 3, 1] and encoded.target_lengths.tolist() == [2, 3, 0, 2]
        assert encoded.full_source_lengths.tolist() == [4, 2, 6, 1]
        assert encoded.full_target_lengths.tolist() == [2, 4, 0, 2]
        assert encoded.full_source_lengths.dtype == encoded.full_target_lengths.dtype == np.int32
        view, _ = encoded.longest_first()
        assert view.full_source_lengths.tolist() == [4, 6, 2, 1]
    assert encoded.reused
    uncut = encode_split(SPLIT, Letters(longest=3), cache_dir=None)
    assert uncut.full_source_lengths.tolist() == uncut.source_lengths.tolist(), "nothing else is known"


def test_rows_are_looked_up_not_copied():
    rows = make_split(*[(f"대화 {number}", "") for number in range(5)])
    encoded = encode_split(rows, Letters(), cache_dir=None)
    assert encoded.rows[3] is rows.rows[3] and encoded.select(2).rows[1] is rows.rows[1]


def test_many_uncached_rows_go_to_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "MEMORY_ROWS", 2)
    monkeypatch.setattr(encode.tempfile, "tempdir", str(tmp_path))
    encoded = encode_split(SPLIT, Letters(), cache_dir=None)
    assert contents(encoded) == contents(encode_split(SPLIT, Letters(), cache_dir=tmp_path / "cache"))
    assert [path.name for path in tmp_path.iterdir()] == ["cache"], "nothing is left behind"


@pytest.mark.parametrize("cached", [True, False])
def test_an_encoded_split_can_be_sent_to_another_process(tmp_path, cached):
    encoded = encode_split(SPLIT, Letters(), cache_dir=tmp_path if cached else None)
    data = pickle.dumps(encoded)
    again = pickle.loads(data)  # noqa: S301
    assert contents(again) == contents(encoded) and again.rows == encoded.rows


def test_the_first_reference_is_the_target():
    rows = (Dialogue("a", "가", ("나", "다")),)
    encoded = encode_split(Split("x", "", rows, (), {}, ""), Letters(), cache_dir=None)
    assert encoded[0]["labels"] == [ord("나"), 1]


def test_fingerprints_tell_texts_apart():
    def of(*references: str, text: str = "가") -> str:
        return fingerprint([Dialogue("a", text, references, "topic")])

    different = [of(), of("나"), of("나", "다"), of("다", "나"), of("나다"), of("나", text="다")]
    assert len(set(different)) == len(different)
    one = [Dialogue("a", "b", ("c", "d", "e")), Dialogue("f", "g", ())]
    two = [Dialogue("a", "b", ("c",)), Dialogue("d", "e", ("f", "g"))]
    assert fingerprint(one) != fingerprint(two)
    same = [Dialogue("a", "b", ("c",), topic) for topic in ("x", "y")]
    assert fingerprint(same[:1]) == fingerprint(same[1:])


def test_an_empty_split(tmp_path):
    for cache in (None, tmp_path):
        encoded = encode_split(make_split(), Letters(), cache_dir=cache)
        assert len(encoded) == 0 and encoded.source_lengths.tolist() == []
        assert encoded.longest_first()[1]([]) == []


def test_chunks_and_progress():
    split = make_split(*[(f"{i}", "요약") for i in range(2500)])
    seen: list[tuple[int, int]] = []
    encoder = Letters()
    encoded = encode_split(split, encoder, cache_dir=None, progress=lambda done, all: seen.append((done, all)))
    assert seen == [(1000, 2500), (2000, 2500), (2500, 2500)] and encoder.calls == 6
    assert encoded[2345]["input_ids"] == [*map(ord, "2345"), 1]


def test_the_cache_is_reused(tmp_path, capfd):
    first = encode_split(SPLIT, Letters(), cache_dir=tmp_path)
    encoder = Letters()
    again = encode_split(SPLIT, encoder, cache_dir=tmp_path)
    assert (first.reused, again.reused, encoder.calls) == (False, True, 0)
    assert contents(first) == contents(again) == contents(encode_split(SPLIT, encoder, cache_dir=None))
    assert again.target_lengths.tolist() == [2, 4, 0, 2]
    captured = capfd.readouterr()
    assert captured.out == captured.err == "", "no progress bars"


def test_the_key_follows_rows_encoder_and_format(tmp_path, monkeypatch):
    encode_split(SPLIT, Letters(), cache_dir=tmp_path)
    assert not encode_split(SPLIT, Letters("other"), cache_dir=tmp_path).reused
    assert not encode_split(make_split(("가나다", "나")), Letters(), cache_dir=tmp_path).reused
    monkeypatch.setattr(encode, "FORMAT_VERSION", 99)
    assert not encode_split(SPLIT, Letters(), cache_dir=tmp_path).reused
    assert len(list(tmp_path.iterdir())) == 4


def truncate(folder: Path) -> None:
    (file,) = folder.glob("*.arrow")
    file.write_bytes(file.read_bytes()[:-40])


def change_a_token(folder: Path) -> None:
    """Arrow reads such a file without complaint."""
    (file,) = folder.glob("*.arrow")
    before, after = (np.array([ord(letter)], dtype=np.int32).tobytes() for letter in "나너")
    content = file.read_bytes()
    assert before in content
    file.write_bytes(content.replace(before, after, 1))


def drop_tokens(folder: Path) -> None:
    (file,) = folder.glob("*.arrow")
    file.unlink()


def another_format(folder: Path) -> None:
    """A file whose sum is right, but whose columns are not ours."""
    (file,) = folder.glob("*.arrow")
    table = pa.table({"input_ids": [[1]] * 4})
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    record = json.loads((folder / "cache.json").read_text())
    record["sha256"] = {file.name: sha256_file(file)}
    (folder / "cache.json").write_text(json.dumps(record))


def drop_record(folder: Path) -> None:
    (folder / "cache.json").unlink()


def tear_record(folder: Path) -> None:
    (folder / "cache.json").write_text("{")


def another_split(folder: Path) -> None:
    other = folder.parent / "other"
    encode_split(make_split(("가", "나")), Letters(), cache_dir=other)
    for file in only_folder(other).iterdir():
        file.replace(folder / file.name)


@pytest.mark.parametrize(
    "damage", [truncate, change_a_token, drop_tokens, another_format, drop_record, tear_record, another_split]
)
def test_a_damaged_cache_is_made_again(tmp_path, caplog, damage):
    cache = tmp_path / "cache"
    expected = contents(encode_split(SPLIT, Letters(), cache_dir=cache))
    folder = only_folder(cache)
    damage(folder)
    with caplog.at_level(logging.WARNING):
        mended = encode_split(SPLIT, Letters(), cache_dir=cache)
    assert not mended.reused and contents(mended) == expected
    assert "damaged" in caplog.text and str(folder) in caplog.text
    assert encode_split(SPLIT, Letters(), cache_dir=cache).reused


def test_a_full_disk_keeps_rows_in_memory(tmp_path, caplog, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(encode, "write_shards", full)
    with caplog.at_level(logging.WARNING):
        encoded = encode_split(SPLIT, Letters(), cache_dir=tmp_path)
    assert not encoded.reused and encoded[1]["labels"][-1] == 1
    assert "stay in memory" in caplog.text and "No space left" in caplog.text
    assert list(tmp_path.iterdir()) == [], "nothing half-written is left"


def test_a_cache_folder_that_cannot_be(tmp_path, caplog):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with caplog.at_level(logging.WARNING):
        assert len(encode_split(SPLIT, Letters(), cache_dir=blocker / "cache")) == 4
    assert "stay in memory" in caplog.text


def test_an_encoder_that_loses_rows():
    class Lossy(Letters):
        def encode_targets(self, texts: list[str]) -> list[list[int]]:
            return super().encode_targets(texts)[1:]

    with pytest.raises(ValueError, match="2 rows for 3 texts"):
        encode_split(SPLIT, Lossy(), cache_dir=None)


def test_select():
    encoded = encode_split(SPLIT, Letters(), cache_dir=None)
    assert contents(encoded.select(2)) == contents(encoded)[:2] and encoded.select(2).rows == SPLIT.rows[:2]
    assert len(encoded.select(9)) == 4 and len(encoded.select(0)) == 0
    with pytest.raises(ValueError, match="count=-1"):
        encoded.select(-1)


def test_longest_first():
    split = make_split(("가", "나"), ("가나다", "나"), ("가나다", "나다"), ("다", "라"))
    encoded = encode_split(split, Letters(), cache_dir=None)
    view, restore = encoded.longest_first()
    assert [row.id for row in view.rows] == ["2", "1", "0", "3"]
    assert view.source_lengths.tolist() == [4, 4, 2, 2] and view.target_lengths.tolist() == [3, 2, 2, 2]
    assert restore([row.id for row in view.rows]) == ["0", "1", "2", "3"]
    assert [row.id for row in view.select(2).longest_first()[0].rows] == ["2", "1"]
    with pytest.raises(ValueError, match="3 values for 4 rows"):
        restore(["a", "b", "c"])


@settings(max_examples=30)
@given(st.lists(st.tuples(st.text("가나", max_size=9), st.text("가나", max_size=5)), max_size=12))
def test_restore_puts_everything_back(pairs):
    encoded = encode_split(make_split(*pairs), Letters(), cache_dir=None)
    view, restore = encoded.longest_first()
    lengths = list(zip(view.source_lengths.tolist(), view.target_lengths.tolist(), strict=True))
    assert lengths == sorted(lengths, reverse=True)
    assert restore(contents(view)) == contents(encoded) and restore(list(view.rows)) == list(encoded.rows)


@given(st.permutations(range(10)))
def test_restore_inverts_any_order(order):
    assert Restore(np.array(order))(order) == list(range(10))


def test_workers_can_carry_a_mapped_split(tmp_path):
    encode_split(SPLIT, Letters(), cache_dir=tmp_path)
    encoded = encode_split(SPLIT, Letters(), cache_dir=tmp_path)
    loader = DataLoader(encoded, batch_size=2, collate_fn=list, num_workers=1, multiprocessing_context="fork")
    assert [row for batch in loader for row in batch] == contents(encoded)
