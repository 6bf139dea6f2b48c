"""Secrets reach neither the log file nor the console."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dlgsum.core.log import logging_to, masked, show_warnings

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
