"""How a watched run looks in a terminal of any width, in a pipe, and as JSON."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from dlgsum.cli import watch_view
from dlgsum.recipes.watch_state import Best, Evaluation, Note, Point, RunState

SCORES = {"loss": 2.1, "rouge1_f1": 0.3012, "rouge2_f1": 0.12, "rougeL_f1": 0.28, "rouge_combined_f1": 0.2331}
NOTE = Note(
    1,
    None,
    "warning",
    "loss_spike",
    "[warning] 실험: 이름 20261121_161200_abc12345: loss spike at step 7",
    "손실 5.12 는 평균의 2.5배\nmore",
    7,
)
STATE = RunState(
    run="20261121_161200_abc12345", folder="outputs", condition="running", phase="evaluating", step=120, total=400,
    epoch=1.0, seconds=720.0, seconds_left=1680.0, points=(Point(1, 3.0, None), Point(2, 2.0, None)),
    latest={
        "train/learning_rate": 3e-5, "train/grad_norm": 1.234, "throughput/tokens_per_sec": 12345.6,
        "throughput/step_time_ms": 123.4, "throughput/data_loading_share": 0.03, "gpu/memory_allocated_gb": 12.34,
        "gpu/memory_total_gb": 79.6, "gpu/memory_peak_gb": 20.1, "host/rss_gb": 3.21, "host/ram_used_gb": 40.2,
    },
    evaluation=Evaluation(1, 100, 1.0, SCORES, True), best=Best("rouge_combined_f1", 0.2331, 100), notes=(NOTE,),
)  # fmt: skip
SILENT = dataclasses.replace(
    STATE, condition="silent", phase="", silence=312.0, reason="nothing was reported for 312 s",
    resume="dlgsum resume 20261121_161200_abc12345",
)  # fmt: skip


def shown(state: RunState, width: int = 80, height: int = 24) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, record=True)
    console.print(watch_view.table(state, height))
    return console.export_text()


def test_everything_is_on_one_small_terminal() -> None:
    text = shown(STATE)
    for part in (
        "120/400  30 %", "epoch 1.00", "12 min since its start", "28 min left", "2  █▁", "3e-05", "norm 1.23",
        "R1 30.12  R2 12.00  RL 28.00  combined 23.31", "step 100", "12,346 tokens/s", "123 ms a step", "data 3 %",
        "GPU 12.3 of 79.6 GB", "peak 20.1 GB", "process 3.2 GB", "[warning] loss spike at step 7: 손실 5.12",
        "running, evaluating",
    ):  # fmt: skip
        assert part in text, part
    text = shown(SILENT)
    for part in ("silent", "nothing was reported for 312 s", SILENT.resume, "last report 5 min ago"):
        assert part in text, part


@pytest.mark.parametrize("state", [STATE, SILENT], ids=["running", "silent"])
@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_row_is_wider_than_the_terminal(state: RunState, width: int) -> None:
    notes = tuple(dataclasses.replace(NOTE, number=n, text="아주 긴 설명 " * 30) for n in range(20))
    lines = shown(dataclasses.replace(state, notes=notes), width).splitlines()
    assert {cell_len(line) for line in lines} == {width}
    assert len(lines) <= 23 or width < 60
    inside = "".join(line[1:-1].strip() for line in lines).replace(" ", "")
    assert state.resume.replace(" ", "") in inside, "a command is never cut"


def test_a_run_of_which_nothing_is_known() -> None:
    bare = RunState(run="r", folder="r", condition="preparing")
    assert "preparing" in shown(bare)
    assert json.loads(json.dumps(watch_view.as_plain(bare)))["loss"] is None


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    evil = "\x1b[2J[red]x[/red]\r\n\x07"
    state = dataclasses.replace(
        SILENT, run=f"r{evil}", condition=f"odd{evil}", reason=evil, notes=(dataclasses.replace(NOTE, text=evil),)
    )
    lines: list[str] = []
    watch_view.Lines(lines.append, 0.0, as_json=False).take(state)
    for text in (shown(state), *lines):
        assert not any(sign in text for sign in ("\x1b", "\r", "\x07"))
        assert "[red]x[/red]" in text


@pytest.mark.parametrize(
    ("values", "curve"),
    [
        ([], ""),
        ([1.0], "▁"),
        ([2.0, 2.0], "▁▁"),
        ([0.0, 7.0, 3.5], "▁█▅"),
        ([math.nan, 1.0, math.inf, 2.0], "×▁×█"),
        ([math.nan], "×"),
        ([-1.7e308, 1.7e308], "▁█"),
    ],
)
def test_the_curve(values: list[float], curve: str) -> None:
    assert watch_view.sparkline(values) == curve


def lines_of(states: list[tuple[float, RunState]], **settings: Any) -> list[str]:
    written: list[str] = []
    now = [0.0]
    lines = watch_view.Lines(written.append, 10.0, clock=lambda: now[0], **{"as_json": False, **settings})
    with lines:
        for seconds, state in states:
            now[0] = seconds
            lines.take(state)
    return written


def test_lines_are_written_for_news_and_now_and_then() -> None:
    at = [(float(second), dataclasses.replace(STATE, step=120 + second)) for second in range(25)]
    written = lines_of(at)
    for part, line in zip(("running", "evaluation at step 100", "loss spike at step 7"), written, strict=False):
        assert part in line
    assert [line.split("step ")[1].split("/")[0] for line in written[3:]] == ["130", "140"]
    assert lines_of([(0, STATE), (100, STATE), (200, STATE)])[3:] == [], "nothing new is nothing to say"
    news = lines_of([(0, STATE), (1, SILENT), (2, dataclasses.replace(SILENT, silence=313.0)), (3, STATE)])[3:]
    assert len(news) == 2 and "312 s" in news[0] and f"go on with: {SILENT.resume}" in news[0] and "running" in news[1]


def test_json_lines_hold_the_whole_state() -> None:
    nan = dataclasses.replace(STATE, points=(Point(3, math.nan, None),))
    first, second = (json.loads(line) for line in lines_of([(0, nan), (1, SILENT)], as_json=True))
    assert (first["condition"], first["loss"], first["evaluation"]["scores"]) == ("running", "NaN", SCORES)
    assert (second["condition"], second["resume"], second["ended"]) == ("silent", SILENT.resume, False)
    assert first["notes"][0]["kind"] == "loss_spike" and "points" not in first
