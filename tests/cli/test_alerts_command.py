"""`dlgsum alerts test`: one message to each address, and what came back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_start_up import run
from tests.monitoring.alert_endpoint import SECRET, Endpoint, endpoint


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint() as one:
        yield one


def urls(*given: str) -> str:
    return f"monitoring.alerts.urls=[{','.join(given)}]"


def test_each_address_is_tried_and_named_without_its_secret(tmp_path: Path, server: Endpoint):
    refused = f"json://user:{SECRET}@127.0.0.1:1/{SECRET}"
    config = tmp_path / "내것.yaml"
    config.write_text("meta: {experiment_name: 실험}\nmonitoring: {alerts: {timeout: 0.5}}\n", encoding="utf-8")
    given = urls(server.url("ok"), server.url("bad"), server.url("hang"), refused)
    code, out, err, heavy = run("alerts", "test", given, "--config", config.name, folder=tmp_path)
    assert (code, err, heavy) == (4, "", "")
    said = [line.rpartition(" (")[0] for line in out.splitlines()]
    same = f"json://127.0.0.1:{server.port}/***"
    assert said == [
        f"{same} (no. 1): delivered", f"{same} (no. 2): HTTP 500", f"{same} (no. 3): timed out",
        "json://127.0.0.1:1/***: connection refused",
    ]  # fmt: skip
    assert SECRET not in out
    assert [path.split("/")[1] for path, _ in server.arrived] == ["ok", "bad", "hang"], "once each"
    assert server.arrived[0][1]["title"] == "[info] 실험: a test of alerts"
    assert "알림이 여기에 도착합니다." in server.arrived[0][1]["message"]


def test_json_for_machines(tmp_path: Path, server: Endpoint):
    code, out, err, _ = run("alerts", "test", urls(server.url("ok")), "--json", folder=tmp_path)
    assert (code, err) == (0, "")
    [one] = json.loads(out)["targets"]
    assert json.loads(out)["delivered"] is True
    assert {**one, "seconds": 0} == {
        "target": f"json://127.0.0.1:{server.port}/***", "delivered": True, "detail": "delivered", "seconds": 0,
    }  # fmt: skip


def test_nobody_to_tell(tmp_path: Path):
    code, out, err, heavy = run("alerts", "test", folder=tmp_path)
    assert (code, out, heavy) == (2, "", "")
    assert "no address is set" in err and "SLACK_WEBHOOK_URL" in err
    assert "dlgsum alerts test 'monitoring.alerts.urls=[json://HOST/PATH]'\n" in err
    # As a run's saved configuration has it.
    (tmp_path / "config.yaml").write_text("monitoring: {alerts: {urls: ['***'], slack_webhook_url: '***'}}\n")
    code, _, err, _ = run("alerts", "test", "--config", "config.yaml", folder=tmp_path)
    assert code == 2 and "were not saved with it" in err


def test_a_webhook_that_is_no_text(tmp_path: Path):
    code, _, err, _ = run("alerts", "test", "monitoring.alerts.slack_webhook_url=3", folder=tmp_path)
    assert code == 2 and "monitoring.alerts.slack_webhook_url=***: *** is no address" in err


def test_a_wrong_address_is_found_before_anything_is_sent(tmp_path: Path, server: Endpoint):
    wrong = f"slakc://{SECRET}/b/c"
    code, out, err, heavy = run("alerts", "test", urls(server.url("ok"), wrong), folder=tmp_path)
    assert (code, out, heavy) == (2, "", "")
    assert "monitoring.alerts.urls.1=***: slakc://*** is no address" in err and "did you mean slack://?" in err
    assert SECRET not in err and server.arrived == []
