"""Alerts reach a real server, sum up repeats, and never get in the way."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlgsum.config.schema import Alerts as Settings
from dlgsum.config.schema.alerts import Rules
from dlgsum.monitoring.alerts import Alert, Alerts, Closed
from dlgsum.monitoring.alerts.target import Target
from dlgsum.monitoring.finding import Finding, Recovery
from tests.monitoring.alert_endpoint import SECRET, Endpoint, endpoint


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint() as one:
        yield one


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def spike(step: int, severity: Any = "warning", kind: str = "loss_spike") -> Finding:
    return Finding(
        kind=kind, severity=severity, step=step, epoch=0.5, message="손실이 튀었다: 9.3 is 3.1 times 3.0.",
        numbers={"loss": 9.3, "ema": 3.0}, causes=("a bad batch",), advice=("lower the learning rate", "look at it"),
        key="training.learning_rate",
    )  # fmt: skip


def recovery(step: int, first: int, last: int, count: int) -> Recovery:
    return Recovery(kind="loss_spike", step=step, first_step=first, last_step=last, count=count)


def build(tmp_path: Path, *urls: str, clock: Clock | None = None, mirrors: Any = (), **settings: Any) -> Alerts:
    return Alerts(
        Settings(urls=list(urls), **settings), record=tmp_path / "alerts.jsonl", source="실험 run1", mirrors=mirrors,
        clock=clock or Clock(),
    )  # fmt: skip


def rows(tmp_path: Path, kind: str = "alert") -> list[dict[str, Any]]:
    text = (tmp_path / "alerts.jsonl").read_text(encoding="utf-8")
    return [row for row in map(json.loads, text.splitlines()) if row["row"] == kind]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_finding_arrives_with_everything_one_needs_at_night(tmp_path: Path, server: Endpoint):
    alerts = build(tmp_path, server.url("ok"))
    alerts.finding(spike(120), nan_report="/x/보고서")
    assert alerts.close() == Closed(delivered=1)
    [(path, body)] = server.arrived
    assert path == f"/ok/{SECRET}"
    assert body["title"] == "[warning] 실험 run1: loss spike at step 120"
    first, *rest = body["message"].splitlines()
    assert first == "손실이 튀었다: 9.3 is 3.1 times 3.0."
    assert rest[:6] == [
        "Step 120, epoch 0.50", "Numbers: loss 9.3, ema 3", "Likely: a bad batch", "What to do:",
        "1. lower the learning rate", "2. look at it",
    ]  # fmt: skip
    assert rest[6:8] == ["Setting: training.learning_rate", "Nan report: /x/보고서"]
    assert rest[8].startswith("Run folder: ") and rest[8].endswith(f":{tmp_path}")
    [row], [answer] = rows(tmp_path), rows(tmp_path, "answer")
    assert (row["kind"], row["severity"], row["step"], row["epoch"]) == ("loss_spike", "warning", 120, 0.5)
    assert (row["numbers"], row["sent"], row["schema_version"]) == ({"loss": 9.3, "ema": 3.0}, "queued", 1)
    assert (answer["id"], answer["outcome"], answer["attempts"]) == (row["id"], "delivered", 1)


def test_slack_and_discord_get_it_as_they_want_it(tmp_path: Path, server: Endpoint, monkeypatch: pytest.MonkeyPatch):
    slack = f"https://hooks.slack.com/services/T12345678/B12345678/{SECRET}abcdefghijk"
    discord = f"https://discord.com/api/webhooks/123456789/{SECRET}"
    settings = Settings(slack_webhook_url=slack, discord_webhook_url=discord, urls=[slack])  # one twice
    from apprise.plugins.discord import NotifyDiscord
    from apprise.plugins.slack import NotifySlack

    monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{server.port}/services")
    monkeypatch.setattr(NotifyDiscord, "notify_url", f"http://127.0.0.1:{server.port}/discord")
    alerts = Alerts(settings, record=None, source="run1")
    alerts.send("complete", "info", "끝났다", "점수 <0.4> & *more*" + "가" * 3000, lifecycle=True)
    assert alerts.close() == Closed(delivered=2)
    told = {path.split("/")[1]: body for path, body in server.arrived}
    assert told["services"]["attachments"][0]["title"] == "[info] run1: 끝났다"
    assert told["services"]["attachments"][0]["text"].startswith("점수 &lt;0.4&gt; &amp; *more*")
    assert told["discord"]["content"].startswith("[info] run1: 끝났다\r\n점수 <0.4> & *more*")
    assert len(told["discord"]["content"]) < 2000 and told["discord"]["content"].endswith("…")
    assert "github" not in json.dumps(told), "no pictures from somewhere else"


def test_nobody_waits_for_an_endpoint_that_hangs(tmp_path: Path, server: Endpoint):
    alerts = build(tmp_path, server.url("hang"), server.url("ok"), timeout=60)
    for number in range(250):  # more than the queue takes
        alerts.send(f"kind{number}", "error", "a title", "a text")
    assert server.let_out == [], "all were taken while the server still hung"
    ok = f"/ok/{SECRET}"
    with server.change:  # the other target is not held up
        assert server.change.wait_for(lambda: [path for path, _ in server.arrived].count(ok) > 1, 20)
    assert [path for path, _ in server.arrived].count(f"/hang/{SECRET}") == 1
    closed = alerts.close(0.2)
    assert server.let_out == [], "nor does the end wait for it"
    assert closed.given_up >= 100 and closed.failed >= 150
    assert len(rows(tmp_path)) == 250
    outcomes = [row["outcome"] for row in rows(tmp_path, "answer")]
    assert outcomes.count("given up") == closed.given_up and outcomes.count("failed") == closed.failed
    assert len(outcomes) == 500 == closed.delivered + closed.failed + closed.given_up
    assert alerts.close(0) == closed


def test_failures_are_told_once_a_target_and_masked(tmp_path: Path, server: Endpoint, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    closed = f"json://user:{SECRET}@127.0.0.1:{free_port()}/{SECRET}?token={SECRET}"
    unknown = f"json://no-such-host.invalid/{SECRET}"
    alerts = build(tmp_path, server.url("bad"), closed, server.url("hang"), unknown, timeout=0.3, cooldown=0)
    alerts.finding(spike(1))
    alerts.finding(spike(2))
    assert alerts.close(20) == Closed(failed=8)
    warnings = [it.getMessage() for it in caplog.records if it.levelno >= logging.WARNING]
    assert len(warnings) == 4
    for part in ("HTTP 500", "connection refused", "timed out", "no such server"):
        assert sum(f"({part})" in line for line in warnings) == 1, (part, warnings)
    answers = rows(tmp_path, "answer")
    assert {row["detail"] for row in answers} == {"HTTP 500", "connection refused", "timed out", "no such server"}
    assert {row["attempts"] for row in answers} == {2}
    paths = [path for path, _ in server.arrived]
    assert paths.count(f"/bad/{SECRET}") == 4 and paths.count(f"/hang/{SECRET}") == 4
    told = caplog.text + (tmp_path / "alerts.jsonl").read_text(encoding="utf-8") + repr(alerts._settings)
    assert SECRET not in told
    assert f"json://127.0.0.1:{server.port}/***" in told


def test_addresses_that_are_in_the_text_are_masked_too(tmp_path: Path, server: Endpoint):
    slack = f"https://hooks.slack.com/services/T/B/{SECRET}"
    alerts = build(tmp_path, server.url("ok"))
    alerts.send("failed", "error", f"no answer from {slack}", f"seen: {slack}, {server.url('ok')}", lifecycle=True,
                reason=server.url("ok"))  # fmt: skip
    alerts.close()
    assert SECRET not in json.dumps(server.arrived[0][1]) + (tmp_path / "alerts.jsonl").read_text()


class TestCooldown:
    def test_repeats_are_counted_and_told_with_the_next(self, tmp_path: Path, server: Endpoint):
        clock = Clock()
        alerts = build(tmp_path, server.url("ok"), clock=clock)
        for step in (120, 121, 122, 140):
            clock.now += 50
            alerts.finding(spike(step))
        alerts.finding(spike(140, kind="divergence"))  # each kind has its own
        server.wait_for(2)
        clock.now += 1000
        alerts.finding(spike(200))
        alerts.close()
        assert server.titles() == ["loss spike at step 120", "divergence at step 140", "loss spike at step 200"]
        assert "(loss_spike: 3 more times since step 120, last at step 140)" in server.arrived[2][1]["message"]
        assert [row["sent"] for row in rows(tmp_path)] == ["queued", "held", "held", "held", "queued", "queued"]

    def test_what_was_held_back_is_told_when_the_time_is_over(self, tmp_path: Path, server: Endpoint):
        clock = Clock()
        alerts = build(tmp_path, server.url("ok"), clock=clock, cooldown=300)
        alerts.finding(spike(120))
        for step in range(121, 135):
            alerts.finding(spike(step))
        server.wait_for(1)
        clock.now = 301
        server.wait_for(2)
        assert server.titles()[1] == "loss_spike: 14 more times since step 120, last at step 134"
        assert "9.3 is 3.1 times" in server.arrived[1][1]["message"]
        alerts.finding(spike(135))  # the summary was a message too: it begins a new cool-down
        assert alerts.close() == Closed(delivered=3)
        assert server.titles()[2] == "loss_spike: 1 more time since step 134, last at step 135"

    def test_the_end_sums_up(self, tmp_path: Path, server: Endpoint):
        alerts = build(tmp_path, server.url("ok"))
        for step in (7, 8, 9):
            alerts.finding(spike(step))
        assert alerts.close() == Closed(delivered=2)
        assert server.titles() == ["loss spike at step 7", "loss_spike: 2 more times since step 7, last at step 9"]
        alerts.finding(spike(10))
        assert rows(tmp_path)[-1]["sent"] == "after the end"

    def test_what_is_worse_does_not_wait(self, tmp_path: Path, server: Endpoint):
        alerts = build(tmp_path, server.url("ok"))
        alerts.finding(spike(1))
        alerts.finding(spike(2, "error"))
        alerts.finding(spike(3))
        assert alerts.close() == Closed(delivered=3)
        assert [body["type"] for _, body in server.arrived] == ["warning", "failure", "warning"]

    def test_a_recovery_is_told_to_whoever_was_told_of_the_trouble(self, tmp_path: Path, server: Endpoint):
        clock = Clock()
        alerts = build(tmp_path, server.url("ok"), clock=clock)
        alerts.recovery(recovery(5, 1, 4, 4))  # nobody knows of it
        alerts.finding(spike(10))
        alerts.finding(spike(11))
        alerts.recovery(recovery(20, 10, 11, 2))
        alerts.finding(spike(30))  # held back
        alerts.recovery(recovery(40, 30, 30, 1))
        assert alerts.close() == Closed(delivered=3)
        assert server.titles() == [
            "loss spike at step 10", "loss spike has passed at step 20",
            "loss_spike: 1 more time since step 10, last at step 30; no longer there at step 40",
        ]  # fmt: skip
        text = "It was seen 2 times, between steps 10 and 11, and is no longer there at step 20."
        assert server.arrived[1][1]["message"].startswith(text)


def test_who_is_told_of_what(tmp_path: Path, server: Endpoint):
    rules = Rules(divergence="off", overfitting="error", complete="off")
    alerts = build(tmp_path, server.url("ok"), rules=rules, min_severity="error")
    alerts.finding(spike(1))
    alerts.finding(spike(2, "error", "divergence"))
    alerts.finding(spike(3, "info", "overfitting"))
    alerts.send("start", "info", "started", "…", lifecycle=True)
    alerts.send("complete", "info", "complete", "…", lifecycle=True)
    assert alerts.close() == Closed(delivered=2)
    assert [body["title"] for _, body in server.arrived] == [
        "[error] 실험 run1: overfitting at step 3", "[info] 실험 run1: started",
    ]  # fmt: skip
    assert [row["sent"] for row in rows(tmp_path)] == ["below min_severity", "off", "queued", "queued", "off"]


def test_without_an_address_everything_is_still_recorded(tmp_path: Path):
    alerts = build(tmp_path, lifecycle=False)
    alerts.finding(spike(1))
    alerts.send("start", "info", "started", "…", lifecycle=True, seconds=float("nan"))
    assert alerts.close() == Closed()
    assert [row["sent"] for row in rows(tmp_path)] == ["no target", "off"]
    assert not [one for one in threading.enumerate() if "alerts to" in one.name]


def test_a_row_is_in_the_file_before_the_server_has_answered(tmp_path: Path, server: Endpoint):
    alerts = build(tmp_path, server.url("hang"), timeout=60)
    alerts.finding(spike(1))
    assert [row["step"] for row in rows(tmp_path)] == [1]
    server.wait_for(1)
    assert alerts.close(0) == Closed(given_up=1)
    server.let_go.set()
    assert [row["outcome"] for row in rows(tmp_path, "answer")] == ["given up"]


def test_neither_a_disk_nor_a_mirror_nor_nonsense_stops_anything(
    tmp_path: Path, server: Endpoint, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "alerts.jsonl").mkdir()  # nothing can be appended to it
    taken: list[Alert] = []

    def broken(alert: Alert) -> None:
        raise OSError("W&B is gone")

    alerts = build(tmp_path, server.url("ok"), mirrors=[broken, taken.append], cooldown=0)
    alerts.finding(spike(1))
    alerts.finding(spike(2))
    alerts.finding(None)  # type: ignore[arg-type]
    alerts.send("x", "nonsense", "t", "t")  # type: ignore[arg-type]
    assert alerts.close().delivered == 2
    assert [one.headline for one in taken] == ["loss spike at step 1", "loss spike at step 2"]
    told = [it.getMessage() for it in caplog.records]
    assert sum("cannot be recorded" in line for line in told) == 1
    assert sum("do not reach mirror 1 (OSError)" in line for line in told) == 1
    assert sum("an alert was lost" in line for line in told) == 2


def test_a_log_that_fails_does_not_end_the_delivery(tmp_path: Path, server: Endpoint):
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise BrokenPipeError

    log, broken = logging.getLogger("dlgsum.monitoring.alerts"), Broken(logging.DEBUG)
    alerts = build(tmp_path, server.url("bad"), cooldown=0)
    log.addHandler(broken)
    try:
        for step in range(3):
            alerts.finding(spike(step))
        assert alerts.close(20) == Closed(failed=3)
    finally:
        log.removeHandler(broken)
    assert [row["outcome"] for row in rows(tmp_path, "answer")] == ["failed"] * 3


def test_a_mirror_that_hangs_holds_up_nobody(tmp_path: Path, server: Endpoint):
    let_out: list[str] = []

    def hang(alert: Alert) -> None:
        server.let_go.wait(60)
        let_out.append(alert.title)

    alerts = build(tmp_path, server.url("ok"), mirrors=[hang], cooldown=0)
    for step in range(3):
        alerts.finding(spike(step))
    server.wait_for(3)
    assert alerts.close(1.0) == Closed(delivered=3)
    assert let_out == []


def test_many_threads_at_once(tmp_path: Path, server: Endpoint):
    alerts = build(tmp_path, server.url("ok"))

    def work(number: int) -> None:
        for step in range(20):
            alerts.finding(spike(step, kind=f"kind{number % 2}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert alerts.close() == Closed(delivered=4)  # the first of each kind, and a summary
    assert sum(row["sent"] == "held" for row in rows(tmp_path)) == 78
    assert sum("39 more times" in title for title in server.titles()) == 2


@pytest.mark.parametrize(("timeout", "expected"), [(0.3, (0.3, 0.3)), (60.0, (4.0, 60.0))])
def test_the_timeout_is_that_of_the_request(timeout: float, expected: tuple[float, float]):
    assert Target("json://127.0.0.1:1/x", "x", timeout)._service.request_timeout == expected
