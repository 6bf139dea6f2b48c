"""W&B's own files are read as far as they go; what is missing is said."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from wandb.proto import wandb_internal_pb2 as messages

from dlgsum.tracking.wandb_file import read_offline

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)


def record(**said: object) -> bytes:
    return messages.Record(**said).SerializeToString()  # type: ignore[attr-defined, no-any-return]


def chunk(data: bytes, kind: int) -> bytes:
    return struct.pack("<IHB", zlib.crc32(bytes([kind]) + data), len(data), kind) + data


def file_of(path: Path, records: list[bytes]) -> Path:
    """Write records as LevelDB does: split where a block of 32 KiB ends."""
    content = HEADER
    for data in records:
        first = True
        while True:
            left = 32_768 - len(content) % 32_768
            if left < 7:
                content += b"\0" * left
                left = 32_768
            part, data = data[: left - 7], data[left - 7 :]
            content += chunk(part, (1 if first else 4) if not data else (2 if first else 3))
            first = False
            if not data:
                break
    path.write_bytes(content)
    return path


def row(step: int, text: str = "x") -> bytes:
    items = [{"key": "a", "value_json": str(step)}, {"nested_key": ["b", "c"], "value_json": f'"{text}"'}]
    return record(history={"item": items})


RUN = record(run={"run_id": "r1", "project": "p", "tags": ["t"]})
END = record(exit={"exit_code": 3})


def test_records_over_several_blocks(tmp_path: Path):
    long = "가" * 40_000  # 120 KB: a first, middle and last part
    run = read_offline(file_of(tmp_path / "run.wandb", [RUN, row(1), row(2, long), *map(row, range(3, 2000)), END]))
    assert (run.id, run.project, run.tags, run.problem) == ("r1", "p", ["t"], "")
    assert [each["a"] for each in run.history] == list(range(1, 2000)) and run.history[1]["b"]["c"] == long
    assert run.complete and run.exit_code == 3


def test_a_file_cut_anywhere_gives_what_is_there_and_never_passes_for_whole(tmp_path: Path):
    whole = file_of(tmp_path / "run.wandb", [RUN, row(1), row(2), END]).read_bytes()
    path, seen = tmp_path / "cut.wandb", set()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        run = read_offline(path)
        assert not run.complete and (run.problem or run.exit_code is None)
        seen.add(len(run.history))
    assert seen == {0, 1, 2}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (HEADER, "no run"),
        (b":W", "not a file"),
        (b"\0" * 100, "not a file"),
        (b"text" * 9, "not a file"),
    ],
)
def test_what_holds_no_run(tmp_path: Path, content: bytes, problem: str):
    path = tmp_path / "run.wandb"
    path.write_bytes(content)
    run = read_offline(path)
    assert problem in run.problem and run.history == [] and not run.complete


def test_a_bit_that_flipped_is_noticed(tmp_path: Path):
    path = file_of(tmp_path / "run.wandb", [RUN, row(1), row(2), END])
    content = bytearray(path.read_bytes())
    place = content.index(b'"x"', content.index(b'"x"') + 1)
    content[place + 1] ^= 1
    path.write_bytes(content)
    run = read_offline(path)
    assert "damaged at byte" in run.problem and [each["a"] for each in run.history] == [1]


def test_a_record_that_is_none(tmp_path: Path):
    run = read_offline(file_of(tmp_path / "run.wandb", [RUN, b"\xff\xff\xff", END]))
    assert "cannot be read" in run.problem and run.id == "r1" and not run.complete


def test_a_run_without_its_end(tmp_path: Path):
    run = read_offline(file_of(tmp_path / "run.wandb", [RUN, row(1)]))
    assert run.problem == "" and not run.complete


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_offline(tmp_path / "run.wandb")
