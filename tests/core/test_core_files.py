"""Files are whole or absent, rows survive a crash, and what JSON cannot hold is said in words."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlgsum.core.files import (
    append_jsonl,
    dumps,
    new_folder,
    read_json,
    read_jsonl,
    sha256_file,
    sha256_text,
    write_json,
    write_text_atomic,
)

# --- values ---


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, '"NaN"'),
        (math.inf, '"Infinity"'),
        (-math.inf, '"-Infinity"'),
        (np.float32("nan"), '"NaN"'),
        (torch.tensor(math.inf), '"Infinity"'),
        (np.float64(0.5), "0.5"),
        (np.int64(3), "3"),
        (np.bool_(True), "true"),
        (torch.tensor(2), "2"),
        (np.array([1.5, math.nan]), '[1.5, "NaN"]'),
        (torch.tensor([[1], [2]]), "[[1], [2]]"),
        (True, "true"),
        (None, "null"),
        ({"가": (1, 2)}, '{"가": [1, 2]}'),
        ({1: {2: 3}}, '{"1": {"2": 3}}'),
        (Path("a/b"), '"a/b"'),
        (frozenset({1}), "[1]"),
    ],
)
def test_everything_becomes_strict_json(value: object, text: str):
    assert dumps(value) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(json_values)
def test_whatever_is_written_is_strict_json_in_utf8(value: object):
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = dumps(value)
    json.loads(text.encode("utf-8"), parse_constant=refuse)
    assert "\n" not in text


def test_a_file_name_that_is_not_utf8_can_be_written(tmp_path: Path):
    name = os.fsdecode(b"\xb0\xa1.csv")
    write_json(tmp_path / "a.json", {"name": name})
    assert read_json(tmp_path / "a.json")["name"] == name


# --- atomic files ---


def test_an_object_is_stamped_and_read_back(tmp_path: Path):
    path = tmp_path / "new" / "deep" / "a.json"
    write_json(path, {"요약": 1})
    assert read_json(path) == {"schema_version": 1, "요약": 1}
    assert path.read_text(encoding="utf-8").endswith("}\n") and "요약" in path.read_text(encoding="utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


class _Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_while_turning_into_text_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, {"n": 1})
    with pytest.raises(RuntimeError):
        write_json(path, {"n": _Unprintable()})
    assert read_json(path)["n"] == 1
    assert list(tmp_path.iterdir()) == [path]


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("broken", ["fsync", "write", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str):
    path = tmp_path / "a.json"
    write_json(path, {"n": 1})
    if broken == "fsync":
        monkeypatch.setattr(os, "fsync", _full)
    elif broken == "replace":
        monkeypatch.setattr(Path, "replace", _full)
    else:
        real = Path.open

        def opened(*arguments: object, **options: object) -> object:
            stream = real(*arguments, **options)  # type: ignore[call-overload]
            stream.write = _full
            return stream

        monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"n": 2})
    monkeypatch.undo()
    assert read_json(path)["n"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_while_writing_leaves_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text_atomic(tmp_path / "a.txt", "x")
    assert list(tmp_path.iterdir()) == []


def test_line_ends_are_written_as_given(tmp_path: Path):
    write_text_atomic(tmp_path / "a.txt", "a\r\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == b"a\r\nb\n"


@pytest.mark.parametrize("text", ["[1]", '"a"', "3", "null", "", "{", "{'a': 1}"])
def test_what_is_not_an_object_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError):
        read_json(path)


def test_a_missing_or_foreign_file_is_an_error(tmp_path: Path):
    with pytest.raises(OSError):
        read_json(tmp_path / "none.json")
    (tmp_path / "cp949.json").write_bytes('{"a": "가"}'.encode("cp949"))
    with pytest.raises(ValueError):
        read_json(tmp_path / "cp949.json")


# --- rows ---


def test_rows_are_on_disk_at_once_and_appended(tmp_path: Path):
    path = tmp_path / "new" / "rows.jsonl"
    append_jsonl(path, {"n": 1, "text": "가\n나"})
    assert list(read_jsonl(path)) == [{"n": 1, "text": "가\n나"}]
    append_jsonl(path, {"n": math.nan})
    assert [row["n"] for row in read_jsonl(path)] == [1, "NaN"]
    assert path.read_bytes().count(b"\n") == 2


def test_a_row_torn_anywhere_costs_only_itself(tmp_path: Path):
    """At each byte: also in the middle of a Korean character."""
    first, second = dumps({"n": 1}).encode() + b"\n", dumps({"text": "요약"}).encode() + b"\n"
    for cut in range(len(second)):
        path = tmp_path / f"{cut}.jsonl"
        path.write_bytes(first + second[:cut])
        complete = [{"n": 1}] + ([{"text": "요약"}] if cut == len(second) - 1 else [])
        assert list(read_jsonl(path)) == complete
        append_jsonl(path, {"n": 3})
        assert list(read_jsonl(path)) == [*complete, {"n": 3}]


def test_lines_that_are_no_objects_are_passed_over(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'[1]\n3\n\n\x00\x00\n{"n": 1}\n\xff\xfe\n{"n": 2}')
    assert [row["n"] for row in read_jsonl(path)] == [1, 2]


# --- folders ---


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_new_folder_appears_whole(tmp_path: Path):
    target = tmp_path / "deep" / "model"
    with new_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert contents(target) == {"a": "1"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_is_replaced_not_merged(tmp_path: Path):
    target = tmp_path / "model"
    for name in ("a", "b"):
        with new_folder(target) as folder:
            (folder / name).write_text(name)
    assert contents(target) == {"b": "b"}
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_keeps_the_old_folder(tmp_path: Path, error: type[BaseException]):
    target = tmp_path / "model"
    with new_folder(target) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(error), new_folder(target) as folder:
        (folder / "b").write_text("2")
        raise error
    assert contents(target) == {"a": "1"}
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("failing", [1, 2], ids=["moving the old away", "moving the new in"])
def test_a_failed_swap_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int):
    target = tmp_path / "model"
    with new_folder(target) as folder:
        (folder / "a").write_text("1")
    real, calls = Path.replace, []

    def replace(self: Path, destination: Path) -> Path:
        calls.append(destination)
        if len(calls) == failing:
            _full()
        return real(self, destination)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="No space left"), new_folder(target) as folder:
        (folder / "b").write_text("2")
    assert contents(target) == {"a": "1"}
    assert [path.name for path in tmp_path.iterdir() if path != target and any(path.iterdir())] == []


# --- hashes ---


def test_hashes_tell_texts_apart(tmp_path: Path):
    assert sha256_text("ab", "c") != sha256_text("a", "bc") != sha256_text("abc")
    assert sha256_text() != sha256_text("")
    assert sha256_text("\udc80") == sha256_text("\udc80") != sha256_text("\udc81")
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_temporary_files_lie_beside_their_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A rename is atomic only within one file system."""
    renamed: list[Path] = []
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda source, target: [renamed.append(source), real(source, target)][1])
    write_text_atomic(tmp_path / "a.txt", "x")
    assert [path.parent for path in renamed] == [tmp_path]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_umask_says_who_may_read_what_is_written(tmp_path: Path):
    before = os.umask(0o077)
    try:
        write_text_atomic(tmp_path / "private.json", "{}")
        with new_folder(tmp_path / "folder"):
            pass
        os.umask(0o022)
        write_text_atomic(tmp_path / "public.json", "{}")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("private.json", "folder", "public.json")]
    assert modes == [0o600, 0o700, 0o644]
