"""What is masked in a text, and what only looks like a secret."""

from __future__ import annotations

import pytest

from dlgsum.core.masking import masked

HINT = "dlgsum alerts test 'monitoring.alerts.urls=[json://HOST/PATH]'"


@pytest.mark.parametrize("text", [
    HINT, "monitoring.alerts.urls=***: must be a list", "monitoring.alerts.slack_webhook_url=***: must be text",
    "'monitoring.alerts.urls=***': the value", "alerts.urls=[***]", "alerts.urls=['***'] (from the command line)",
    "/data/services/team_a/dialogues.csv", "/data/services/Team/Base/x.csv", "/services/TEAM/B/x",
])  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(("text", "shown"), [
    ("alerts.urls=[json://HOST/PATHX]", "alerts.urls=***"),
    ("alerts.urls=[***,gotify://h/s]", "alerts.urls=***"),
    ("alerts.slack_webhook_url = s3cr3t", "alerts.slack_webhook_url = ***"),
    ("url: /services/T12345678/B12345678/s3cr3t refused", "url: /services/*** refused"),
    ("run --wandb-api-key s3cr3t", "run --wandb-api-key ***"), ("--token s3cr3t", "--token ***"),
])  # fmt: skip
def test_what_is_one_does_not(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_dashes_within_a_line_begin_no_option() -> None:
    rule = "-" * 60 + "token x"  # looked for at each of a million dashes, an option would take seconds
    assert masked(rule) == rule
