"""Whatever is typed and whatever a file holds: a message and the right exit code, never a traceback."""

from __future__ import annotations

import contextlib
import io
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dlgsum.cli.app import main
from dlgsum.config.groups import group_options, packaged_conf
from dlgsum.config.schema import key_names
from dlgsum.data.sources import SAMPLE_FOLDER

COUNT = [25, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    """Run the command line in this process; return its exit code and everything it printed."""
    output = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["dlgsum", *arguments])
    code: object = 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            main()
        except SystemExit as done:
            code = done.code
    return (code if isinstance(code, int) else 0 if code is None else 1), output.getvalue()


# --- overrides ---

VALUES = (
    "0", "-1", "1", "1e-5", "1e999", "nan", "inf", "true", "false", "null", "", "[]", "{}", "[1,2", "{a:1}", "{a", "'",
    '"', "'a", "a b", "대화.csv", "안녕", "\\", "\\n", "${general.seed}", "${nosuch}", "${", "$", "#", "@", "%", "a,b",
    "a=b", "=", "~", "!", "(", ")", "*", "choice(1,2)", "range(1,3)", "auto", "kiwi", "kobart", "t5", "loss",
    "/nosuch/file.csv", "../..", "𝟙", "\u200b", "\ud83d", "9" * 40, "a" * 3000, "steps", "[가,나]", "{가:1}", "cpu",
    "fp16", "1_000", "0x10", "01", "1.5", "+1", "None", "- ", "'\\''", "[[1]]", "[{a:1}]", "${oc.env:HOME}", "\t",
)  # fmt: skip
PREFIXES = ("", "", "", "", "", "+", "++", "~", "-", "--", "@", " ", "=")


def an_override(draw: random.Random, keys: list[str]) -> str:
    key = draw.choice(keys)
    if draw.random() < 0.2:  # a typo
        place = draw.randrange(len(key))
        key = key[:place] + draw.choice(["", "x", ".", "가", "/", "@", key[place] * 2]) + key[place + 1 :]
    if draw.random() < 0.05:
        return draw.choice(["", "=", key, f"{key}:", f"{key}==1", f"{key}.x.y=1", "a.b.c", "\x00=1", "--", "-"])
    return f"{draw.choice(PREFIXES)}{key}={draw.choice(VALUES)}"


@pytest.mark.parametrize("count", COUNT)
def test_random_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    keys = [*key_names(), *group_options([packaged_conf()])]
    draw = random.Random(20261121)
    codes: dict[int, int] = {}
    wrong = []
    data = tmp_path / "dev.csv"
    data.write_text("fname,dialogue,summary\na,#Person1#: 네.,요약\n", encoding="utf-8")
    commands = [["config", "validate"]] * 7 + [
        ["config", "show"], ["config", "explain", "training"], ["data", "check", str(data), "--no-tokens"],
    ]  # fmt: skip
    for _ in range(count):
        overrides = [an_override(draw, keys) for _ in range(draw.choice((1, 1, 1, 2, 4)))]
        command = draw.choice(commands)
        code, output = run(monkeypatch, *command, *overrides)
        if code not in (0, 2, 3) or "Traceback" in output or "fault in dlgsum" in output or not output.strip():
            wrong.append((code, command, [override[:80] for override in overrides], output[-500:]))
        codes[code] = codes.get(code, 0) + 1
    assert wrong == []
    assert codes.get(0) and codes.get(2), "both good and bad ones were among them"
    assert list(tmp_path.iterdir()) == [data], "nothing is written"


# --- files ---


def _at(draw: random.Random, data: bytes) -> int:
    return draw.randrange(len(data) + 1)


def _insert(piece: bytes) -> Callable[[random.Random, bytes], bytes]:
    def mangle(draw: random.Random, data: bytes) -> bytes:
        place = _at(draw, data)
        return data[:place] + piece + data[place:]

    return mangle


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: _at(draw, data)]


def _drop(draw: random.Random, data: bytes) -> bytes:
    place = _at(draw, data)
    return data[:place] + data[place + draw.randint(1, 40) :]


def _flip(draw: random.Random, data: bytes) -> bytes:
    mangled = bytearray(data)
    for _ in range(min(len(mangled), draw.randint(1, 8))):
        mangled[draw.randrange(len(mangled))] = draw.randrange(256)
    return bytes(mangled)


def _encoded(name: str) -> Callable[[random.Random, bytes], bytes]:
    return lambda draw, data: data.decode("utf-8", "ignore").encode(name, "ignore")


def _header(draw: random.Random, data: bytes) -> bytes:
    header, _, rest = data.partition(b"\n")
    names = header.split(b",")
    which = draw.randrange(len(names))
    names[which] = draw.choice([b"", b"dialog", b"Dialogue", b"fname", b'"', "대화".encode()])
    return b",".join(names) + b"\n" + rest


def _repeat(draw: random.Random, data: bytes) -> bytes:
    return data + data[_at(draw, data) :]


MANGLES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *map(_insert, (b'"', b'""', b",", b"\n", b"\r", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\t", b"=1,", b"\xed\xa0")),
    _cut, _drop, _flip, _encoded("cp949"), _encoded("utf-16"), _encoded("utf-16-le"), _encoded("utf-8-sig"),
    _header, _repeat,
    lambda draw, data: data.replace(b"\n", b"\r\n"),
    lambda draw, data: data.replace(b",", draw.choice([b";", b"\t", b"|"])),
    lambda draw, data: data.replace(b'"', draw.choice([b"", b"'"])),
    lambda draw, data: b"\n".join(draw.sample(lines := data.split(b"\n"), len(lines))),
    lambda draw, data: data[:200] + b"x" * 300_000 + data[200:],
    lambda draw, data: b"",
)  # fmt: skip


@pytest.mark.parametrize("count", COUNT)
def test_mangled_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    whole = (SAMPLE_FOLDER / "dev.csv").read_bytes()
    rows = whole.split(b"\ndev_")
    good = b"\ndev_".join(rows[:12]) + b"\n"
    draw = random.Random(20261121)
    codes: dict[int, int] = {}
    wrong = []
    for number in range(count):
        data = good
        for _ in range(draw.randint(1, 3)):
            data = draw.choice(MANGLES)(draw, data)
        path = Path(draw.choice(["train.csv", "test.csv", "dev.tsv", "대화.csv", "train.jsonl", "test.parquet"]))
        path.write_bytes(data)
        code, output = run(monkeypatch, "data", "check", str(path), "--no-tokens")
        told = str(path) in output or code == 0
        if code not in (0, 3) or "Traceback" in output or "fault in dlgsum" in output or not told:
            kept = path.rename(tmp_path / f"mangled_{number}{path.suffix}")
            wrong.append((code, str(kept), output[-500:]))
        codes[code] = codes.get(code, 0) + 1
        path.unlink(missing_ok=True)
    assert wrong == []
    assert codes.get(0) and codes.get(3), "both usable and useless ones were among them"
