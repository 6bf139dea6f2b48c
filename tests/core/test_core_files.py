"""Files are whole or absent, rows survive a crash, and what JSON cannot hold is said in words."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlgsum.core.files import (
    append_jsonl,
    disk_is_full,
    dumps,
    existing_parent,
    new_folder,
    read_json,
    read_jsonl,
    remove_folder,
    sha256_file,
    sha256_text,
    sweep_leftovers,
    sync_file,
    sync_folder,
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


# --- killed writers ---

# Replaces a model, forked once for every change to the files, and killed before it.
KILL = """
import os, signal, sys
from pathlib import Path
from dlgsum.core.files import new_folder, sweep_leftovers

folder = Path(sys.argv[1])
target = folder / "best_model"
CHANGES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree"}

def kill_before(number):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

def export(text):
    with new_folder(target) as temporary:
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (temporary / name).write_text(text)

number, gone, seen = 0, 0, set()
export("0")
while True:
    number += 1
    before, after = str(number - 1), str(number)
    child = os.fork()
    if not child:
        kill_before(number)
        export(after)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    gone += not target.exists()
    sweep_leftovers(folder)
    assert [path.name for path in folder.iterdir()] == ["best_model"], (number, list(folder.iterdir()))
    whole = {path.name: path.read_text() for path in target.iterdir()}
    assert len(whole) == 3 and len(set(whole.values())) == 1, (number, whole)
    seen |= {{before: "old", after: "new"}[whole["config.json"]]}
    export(after)
    assert [path.name for path in folder.iterdir()] == ["best_model"]
    if not killed:
        break
print(number, gone, sorted(seen))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is of POSIX")
def test_an_export_killed_at_any_moment_leaves_a_whole_folder_and_can_be_repeated(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    kills, gone, seen = done.stdout.split(" ", 2)
    # Between the two renames the target is gone for a moment: that one must have been among them.
    assert int(kills) > 10 and int(gone) == 1 and seen.strip() == "['new', 'old']"


def test_only_leftovers_of_ours_are_swept(tmp_path: Path):
    others = [
        ".hidden",
        ".model.tmp",
        "model.0a1b2c3d.tmp",
        ".model.0a1b2c3d.new",
        ".model.xyz12345.tmp",
        ".cache.1.tmp",
    ]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / ".a.json.0a1b2c3d.tmp").write_text("{")
    (tmp_path / ".model.0a1b2c3d.tmp" / "deep").mkdir(parents=True)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "kept").write_text("kept")
    (tmp_path / ".link.0a1b2c3d.tmp").symlink_to(tmp_path / "linked")
    told = sweep_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*others, "linked"}
    assert contents(tmp_path / "linked") == {"kept": "kept"}
    assert len(told) == 3 and all("was removed" in line for line in told)
    assert sweep_leftovers(tmp_path) == [] == sweep_leftovers(tmp_path / "none")


def test_what_was_moved_aside_comes_back_only_where_nothing_took_its_place(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / f".{name}.0a1b2c3d.old" / name).mkdir(parents=True)
        (tmp_path / f".{name}.0a1b2c3d.old" / name / "text").write_text("old")
    (tmp_path / ".c.0a1b2c3d.old").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "text").write_text("new")
    assert sweep_leftovers(tmp_path) == [f"{tmp_path / 'a'} was put back: its replacement had been cut short"]
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    assert (contents(tmp_path / "a"), contents(tmp_path / "b")) == ({"text": "old"}, {"text": "new"})


def test_a_swap_that_cannot_be_undone_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "model"
    with new_folder(target) as folder:
        (folder / "a").write_text("1")
    real, calls = Path.replace, []

    def replace(self: Path, destination: Path) -> Path:
        calls.append(destination)
        if len(calls) > 1:
            _full()
        return real(self, destination)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="No space left"), new_folder(target) as folder:
        (folder / "b").write_text("2")
    monkeypatch.undo()
    assert not target.exists()
    sweep_leftovers(tmp_path)
    assert contents(target) == {"a": "1"} and list(tmp_path.iterdir()) == [target]


def test_a_folder_is_removed_under_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Half of it must not be found under its own."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").write_text("1")
    monkeypatch.setattr("shutil.rmtree", lambda path, ignore_errors: None)  # killed before it began
    remove_folder(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    monkeypatch.undo()
    sweep_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []
    remove_folder(tmp_path / "none")


# --- the disk ---


def test_files_and_folders_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a"
    path.write_text("content")
    inodes: list[int] = []
    real = os.fsync

    def sync(descriptor: int) -> None:
        inodes.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    sync_file(path)
    sync_folder(tmp_path)
    assert inodes == [path.stat().st_ino, tmp_path.stat().st_ino]
    assert path.read_text() == "content"


@pytest.mark.parametrize(("number", "passed_over"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_sync_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, passed_over: bool
):
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else None
    if passed_over:
        sync_folder(tmp_path)
    else:
        with pytest.raises(OSError, match="Input/output"):
            sync_folder(tmp_path)
    assert before is None or len(list(Path("/proc/self/fd").iterdir())) == before, "the descriptor is closed"


def test_where_folders_cannot_be_opened_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> int:
        raise PermissionError

    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        windows.setattr(os, "open", refuse)
        sync_folder(tmp_path)


TORCH = "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EIO, "No space left on device"), False),
        (PermissionError(errno.EACCES, "x"), False),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("Error while serializing: I/O error: 장치에 남은 공간이 없음 (os error 28)"), True),
        (RuntimeError("Error while serializing: I/O error: Disk quota exceeded (os error 122)"), True),
        (RuntimeError("Error while serializing: I/O error: File too large (os error 27)"), False),
        (RuntimeError("write(): fd 3 failed with No space left on device"), True),
        (OSError("Not enough disk space. Needed: 3 GB"), True),
        (OSError("Not enough free space to write 40000000 bytes after offset 128"), True),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), True),
        (RuntimeError("CUDA out of memory"), False),
        (RuntimeError(TORCH), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_errors_that_say_why(error: BaseException, full: bool):
    assert disk_is_full(error) is full


@pytest.mark.parametrize(
    "text",
    [TORCH, "[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/0: failed",
     "basic_ios::clear: iostream error", "1000000 requested and 262112 written"],
)  # fmt: skip
def test_errors_that_do_not_say_why_are_judged_by_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str):
    folder = tmp_path / "removed" / "already"

    def free(bytes_left: int) -> None:
        def usage(path: Path) -> object:
            assert path == tmp_path
            return type("usage", (), {"free": bytes_left})

        monkeypatch.setattr("shutil.disk_usage", usage)

    free(4096)
    assert disk_is_full(RuntimeError(text), folder) and not disk_is_full(RuntimeError(text))
    assert not disk_is_full(RuntimeError("something else"), folder)
    free(2**30)
    assert not disk_is_full(RuntimeError(text), folder)


def test_what_led_to_an_error_counts():
    full = OSError(errno.ENOSPC, "x")

    def raised(inner: BaseException, **how: object) -> BaseException:
        try:
            try:
                raise inner
            except BaseException as error:
                if "cause" in how:
                    raise RuntimeError("outer") from (error if how["cause"] else None)
                raise RuntimeError("outer")  # noqa: B904
        except RuntimeError as outer:
            return outer

    assert disk_is_full(raised(full, cause=True)) and disk_is_full(raised(full))
    assert not disk_is_full(raised(full, cause=None)), "the one who raised it says that it has nothing to do with it"
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert not disk_is_full(first)


def test_the_nearest_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert existing_parent(tmp_path / "a" / "b") == tmp_path == existing_parent(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert existing_parent(Path("a/b")) == tmp_path


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    write_text_atomic(pipe, "요약\n")
    reader.join(10)
    assert got == ["요약\n"] and pipe.is_fifo()
