"""Secrets reach neither the log file nor the console."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dlgsum.core.files import read_jsonl
from dlgsum.core.log import event_row, logging_to, route_transformers, show_warnings
from dlgsum.core.masking import masked, masked_values

SECRETS = [
    ("WANDB_API_KEY=s3cr3t", "WANDB_API_KEY=***"),
    ("api-key: s3cr3t", "api-key: ***"),
    ("token: s3cr3t", "token: ***"),
    ("HF_TOKEN=s3cr3t next", "HF_TOKEN=*** next"),
    ("Password = s3cr3t", "Password = ***"),
    ("client_secret=s3cr3t", "client_secret=***"),
    ("--token s3cr3t run", "--token *** run"),
    ("--wandb-api-key s3cr3t", "--wandb-api-key ***"),
    ("Authorization: Bearer s3cr3t", "Authorization: Bearer ***"),
    ('{"token": "s3cr3t"}', '{"token": "***'),
    ("{'api_key': 's3cr3t', 'seed': 1}", "{'api_key': '*** 'seed': 1}"),
    ("postgresql://user:s3cr3t@db/runs", "postgresql://***@db/runs"),
    ("https://s3cr3t@github.com/a/b", "https://***@github.com/a/b"),
    ("http://u:s3cr3t@s3cr3t@proxy:80", "http://***@proxy:80"),
    ("https://hooks.slack.com/services/T0/B0/s3cr3t", "https://hooks.slack.com/services/***"),
    ("https://discord.com/api/webhooks/1/s3cr3t", "https://discord.com/api/webhooks/***"),
    ("https://discordapp.com/api/webhooks/1/s3cr3t", "https://discordapp.com/api/webhooks/***"),
    ("https://canary.discord.com/api/webhooks/1/s3cr3t", "https://canary.discord.com/api/webhooks/***"),
    ("hf_" + "s3cr3tAbCd" * 3, "***"),
]

HARMLESS = [
    "training.tokens_per_batch=8192",
    "tokenizer.bos_token=</s>: must be text",
    "eos_token: null",
    "https://huggingface.co/digit82/kobart-summarization",
    "http://localhost:8080/@x",
    "https://example.com/a?mail=a@b",
    "hf_hub_download",
    "기온 3.5 token 하나",
]


@pytest.mark.parametrize(("text", "expected"), SECRETS)
def test_secrets_are_masked(text: str, expected: str):
    assert masked(text) == expected
    assert masked(f"앞 {text}").startswith("앞 ")
    assert "s3cr3t" not in masked(f"first line\n{text}\nlast line")


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_is_left_alone(text: str):
    assert masked(text) == text


def test_masking_a_long_text_takes_no_time():
    """A pattern that backtracks would take minutes here."""
    text = "a" * 200_000 + " " + "://" * 20_000 + "--" * 20_000
    assert masked(text) == text


@pytest.mark.parametrize("text", [text for text, _ in SECRETS])
def test_a_secret_reaches_neither_the_log_nor_the_console(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
):
    from dlgsum.core import console

    console.messages.cache_clear()
    path = tmp_path / "deep" / "training.log"
    log = logging.getLogger("somebody.else")
    with logging_to(path):
        log.info("info %s", text)
        log.warning("warning %s", text)
        try:
            raise ValueError(text)
        except ValueError:
            log.exception("failed")
    console.messages.cache_clear()
    written, shown = path.read_text(encoding="utf-8"), capsys.readouterr().err
    assert "s3cr3t" not in written and "s3cr3t" not in shown
    assert written.count("***") >= 3
    assert "Traceback" in written and "Traceback" not in shown
    assert "warning: warning" in shown and "error: failed" in shown and "info" not in shown


def test_logging_ends_with_the_block(tmp_path: Path):
    root = logging.getLogger()
    show_warnings()  # stays for the whole process; only the file comes and goes
    before, level = list(root.handlers), root.level
    with pytest.raises(RuntimeError), logging_to(tmp_path / "a.log"):
        assert len(root.handlers) == len(before) + 1
        logging.getLogger("a").info("안")
        raise RuntimeError
    assert (root.handlers, root.level) == (before, level)
    logging.getLogger("a").warning("밖")
    text = (tmp_path / "a.log").read_text(encoding="utf-8")
    assert "안" in text and "밖" not in text


def test_hub_requests_are_not_logged(tmp_path: Path):
    with logging_to(tmp_path / "a.log"):
        logging.getLogger("httpx").info("HTTP Request: HEAD")
        logging.getLogger("httpx").warning("slow")
    text = (tmp_path / "a.log").read_text()
    assert "HEAD" not in text and "slow" in text


def test_the_log_of_an_earlier_run_is_continued(tmp_path: Path):
    for number in (1, 2):
        with logging_to(tmp_path / "a.log"):
            logging.getLogger("a").info("run %d", number)
    assert (tmp_path / "a.log").read_text().count("run") == 2


# --- for machines ---


def test_records_are_rows_with_their_fields(tmp_path: Path) -> None:
    events = tmp_path / "deep" / "events.jsonl"
    log = logging.getLogger("somebody")
    with logging_to(tmp_path / "a.log", events=events):
        log.info("step %d", 3, extra={"step": 3, "loss": float("nan"), "rows": {"가": [1, Path("x")]}})
        assert len(events.read_text().splitlines()) == 1  # at once, not at the end
        try:
            raise ValueError("password=s3cr3t")
        except ValueError:
            log.exception("failed with token: s3cr3t", extra={"api_key": "s3cr3t", "max_tokens": 7, "told": True})
        log.warning("two\nlines", stack_info=True)
    first, second, third = read_jsonl(events)
    assert list(first) == ["time", "level", "logger", "event", "message", "fields"]
    assert (first["level"], first["logger"], first["event"], first["message"]) == ("info", "somebody", "log", "step 3")
    assert first["fields"] == {"step": 3, "loss": "NaN", "rows": {"가": [1, "x"]}}
    assert abs((datetime.now(UTC) - datetime.fromisoformat(first["time"])).total_seconds()) < 60
    assert second["level"] == "error" and second["fields"]["api_key"] == "***" and second["fields"]["max_tokens"] == 7
    assert second["fields"]["traceback"].endswith("ValueError: password=***") and "told" not in second["fields"]
    assert third["message"] == "two\nlines" and "test_records" in third["fields"]["stack"]
    assert "s3cr3t" not in events.read_text() + (tmp_path / "a.log").read_text()


def test_a_record_that_an_event_repeats_is_no_row(tmp_path: Path) -> None:
    with logging_to(tmp_path / "a.log", events=tmp_path / "e.jsonl"):
        logging.getLogger("a").info("as an event too", extra={"event": True, "step": 3})
        logging.getLogger("a").info("a row", extra={"event": False, "step": 4})
    [row] = read_jsonl(tmp_path / "e.jsonl")
    assert (row["message"], row["fields"]) == ("a row", {"step": 4})
    assert "as an event too" in (tmp_path / "a.log").read_text()


def test_events_of_a_run_have_the_same_form(tmp_path: Path) -> None:
    from dlgsum.tracking.run import RunFolder

    run = RunFolder(tmp_path)
    with logging_to(run.log, events=run.events):
        run.event("new_best", step=3, url="https://hooks.slack.com/services/T0/s3cr3t", token="s3cr3t")
        logging.getLogger("a").warning("hello")
        run.event("end", level="error", message="It failed", problems=["x"])
    best, log, end = read_jsonl(run.events)
    assert list(best)[:5] == list(log)[:5] == ["time", "level", "logger", "event", "message"]
    assert (best["event"], best["level"], best["step"]) == ("new_best", "info", 3)
    assert best["message"].startswith("new best, step 3, url https://hooks.slack.com/services/***")
    assert (end["level"], end["message"], end["problems"]) == ("error", "It failed", ["x"])
    assert best["time"] <= log["time"] <= end["time"] and "s3cr3t" not in run.events.read_text()


def test_what_has_the_name_of_a_secret_is_masked() -> None:
    given = {
        "token": "a",
        "bos_token": "</s>",
        "tokens": 3,
        "list": [{"password": 1, "x": "--token a b"}],
        "secret": "",
    }
    assert masked_values(given) == {
        "token": "***", "bos_token": "</s>", "tokens": 3, "list": [{"password": "***", "x": "--token *** b"}],
        "secret": "",
    }  # fmt: skip
    assert event_row("x", "y", time="then")["time"] == "then"


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_levels_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str], level: str, expected: int) -> None:
    log = logging.getLogger("somebody")
    root, quiet = logging.getLogger(), logging.getLogger("httpx")
    before = (root.level, quiet.level)
    with logging_to(tmp_path / "a.log", events=tmp_path / "e.jsonl", level=level, console_level="info"):
        for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            log.log(number, "said at %d", number)
    assert (root.level, quiet.level) == before
    assert (tmp_path / "a.log").read_text().count("said at") == expected
    assert sum(row["message"].startswith("said at") for row in read_jsonl(tmp_path / "e.jsonl")) == expected
    shown = capsys.readouterr().err
    assert "info: said at 20" in shown and "error: said at 40" in shown and "said at 10" not in shown
    log.warning("afterwards")
    log.info("silent afterwards")
    assert "silent" not in capsys.readouterr().err


# --- what libraries say ---


def test_warnings_of_python_are_logged_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        before = warnings.showwarning
        warnings.simplefilter("always")
        with logging_to(tmp_path / "a.log", events=tmp_path / "e.jsonl"):
            with logging_to(tmp_path / "inner.log"):
                warnings.warn("token=s3cr3t is old", UserWarning, stacklevel=1)
            warnings.warn("later", RuntimeWarning, stacklevel=1)
        assert warnings.showwarning is before
    [line] = (tmp_path / "inner.log").read_text().splitlines()
    assert "WARNING py.warnings: UserWarning: token=*** is old (" in line and "test_core_log.py:" in line
    assert "RuntimeWarning: later" in (tmp_path / "a.log").read_text()
    assert capsys.readouterr().err.count("warning: UserWarning: token=***") == 1


def test_warnings_that_are_errors_stay_errors(tmp_path: Path) -> None:
    with pytest.raises(UserWarning), logging_to(tmp_path / "a.log"):
        warnings.warn("x", stacklevel=1)


def test_prints_are_copied_and_messages_are_not_doubled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (sys.stdout, sys.stderr)
    with contextlib.suppress(KeyError), logging_to(tmp_path / "a.log", events=tmp_path / "e.jsonl"):
        handler = logging.StreamHandler()  # what a library may set up: it must not go round in circles
        logging.getLogger("chatty").addHandler(handler)
        sys.stdout.write("from a library, password=s3cr3t\n")
        sys.stderr.write("\r 1%\r 50%\r100%\n")
        logging.getLogger("chatty").warning("once")
        raise KeyError
    logging.getLogger("chatty").removeHandler(handler)
    assert (sys.stdout, sys.stderr) == before
    sys.stdout.write("outside\n")
    assert [line.split(" ", 2)[2] for line in (tmp_path / "a.log").read_text().splitlines()] == [
        "INFO stdout: from a library, password=***", "INFO stderr: 100%", "INFO stderr: once", "WARNING chatty: once",
    ]  # fmt: skip
    assert [row["logger"] for row in read_jsonl(tmp_path / "e.jsonl")] == ["stdout", "stderr", "stderr", "chatty"]
    written = capsys.readouterr()
    assert written.out == "from a library, password=s3cr3t\noutside\n"  # the console is as it would be without us
    assert written.err.startswith("\r 1%\r 50%\r100%\n")


def test_what_people_are_told_is_in_their_log_and_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    from dlgsum.core.console import messages

    table = Table("이름", "ROUGE")
    table.add_row("검증", "0.5")
    with logging_to(tmp_path / "a.log", events=tmp_path / "e.jsonl"):
        messages().print("run         outputs/[x], token=s3cr3t", markup=False)
        messages().print(table, "", style="red")
        logging.getLogger("a").warning("a warning")
    messages().print("outside")
    log = (tmp_path / "a.log").read_text()
    assert "INFO dlgsum: run         outputs/[x], token=***\n" in log and "INFO dlgsum: │ 검증 │ 0.5   │\n" in log
    assert log.count("a warning") == 1 and "outside" not in log
    assert [row["message"] for row in read_jsonl(tmp_path / "e.jsonl")] == ["a warning"]


@pytest.mark.slow
def test_libraries_are_heard_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import datasets.utils.logging
    import transformers.utils.logging

    for library in (datasets, transformers):
        name = f"{library.__name__}.somewhere"
        route_transformers()
        with logging_to(tmp_path / "a.log", events=tmp_path / "e.jsonl"):
            logging.getLogger(name).warning("of %s", library.__name__)
        assert capsys.readouterr().err == f"warning: of {library.__name__}\n"
    assert (tmp_path / "a.log").read_text().count(" of ") == 2 == len(list(read_jsonl(tmp_path / "e.jsonl")))


# --- files that cannot be written ---


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_said_once_and_stops_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("somebody")
    with logging_to(Path("/dev/full"), events=tmp_path / "e.jsonl"):
        for number in range(3):
            log.info("row %d", number)
    shown = capsys.readouterr().err
    assert shown.count("takes no more lines") == 1 and "No space left" in shown and "Traceback" not in shown
    assert [row["message"] for row in read_jsonl(tmp_path / "e.jsonl") if row["logger"] == "somebody"] == [
        "row 0", "row 1", "row 2",
    ]  # fmt: skip


def test_files_that_cannot_be_made_stop_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dlgsum.tracking.run import RunFolder

    (tmp_path / "file").write_text("")
    with logging_to(tmp_path / "file" / "a.log", events=tmp_path / "file" / "e.jsonl"):
        logging.getLogger("a").info("x")
        logging.getLogger("a").info("y")
        RunFolder(tmp_path / "file").event("start")
    assert capsys.readouterr().err.count("takes no more lines") == 3  # two files, and the event


def test_a_row_that_a_crash_tore_does_not_swallow_the_next(tmp_path: Path) -> None:
    events = tmp_path / "e.jsonl"
    events.write_text('{"torn": ')
    with logging_to(tmp_path / "a.log", events=events):
        logging.getLogger("a").info("next")
    assert json.loads(events.read_text().splitlines()[1])["message"] == "next"


def test_a_message_that_does_not_fit_its_arguments_stops_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no words")

    monkeypatch.setattr(logging, "raiseExceptions", False)
    with logging_to(tmp_path / "a.log", events=tmp_path / "e.jsonl"):
        logging.getLogger("a").info("%d", "x")
        logging.getLogger("a").info("bad field", extra={"bad": Bad()})
        logging.getLogger("a").warning("%d", "x")  # for people, too
        logging.getLogger("a").info("good")
    assert "good" in (tmp_path / "a.log").read_text() and "good" in (tmp_path / "e.jsonl").read_text()
