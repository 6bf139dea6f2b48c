"""Secrets of a configuration are in no text that is made of it, and come back from the environment."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlgsum.cli.app import app
from dlgsum.config.compose import compose, to_yaml
from dlgsum.config.diff import differences
from dlgsum.config.explain import explain
from dlgsum.config.masking import hidden_line, plain, secret_environment, secret_keys
from dlgsum.config.request import Request
from dlgsum.config.schema import Alerts as Settings
from dlgsum.config.schema import Config
from dlgsum.core.errors import ConfigError
from dlgsum.monitoring.alerts import Alerts
from dlgsum.recipes import wiring
from dlgsum.tracking.run import RunFolder

SECRET = "t0psecrettoken"
SLACK = f"https://hooks.slack.com/services/T12345678/B12345678/{SECRET}0123456789"
DISCORD = f"https://discord.com/api/webhooks/123456789/{SECRET}"
JSON = f"json://127.0.0.1:1/{SECRET}"
URLS = f"monitoring.alerts.urls=[{JSON}]"
VARIABLES = {"SLACK_WEBHOOK_URL": SLACK, "DISCORD_WEBHOOK_URL": DISCORD}


def composed(*overrides: str, **environ: str) -> Any:
    return compose(Request(overrides=overrides, environ=environ, secrets={}))


def saved(folder: Path, *overrides: str, **environ: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(to_yaml(composed(*overrides, **environ).config), encoding="utf-8")
    return path


def again(path: Path, **secrets: str) -> Settings:
    """Load a configuration as `dlgsum resume` does."""
    return compose(Request(base=path, environ={}, secrets=secrets)).config.monitoring.alerts


def test_the_schema_says_what_is_secret():
    alerts = "monitoring.alerts."
    addresses = {f"{alerts}urls", f"{alerts}slack_webhook_url", f"{alerts}discord_webhook_url"}
    assert secret_keys() == addresses | {"tracking.store", "tracking.mlflow.uri"}


def test_the_configuration_itself_has_them():
    settings = composed(URLS, **VARIABLES).config.monitoring.alerts
    assert settings.addresses == [SLACK, DISCORD, JSON]
    assert settings.lost == 0


def texts(composition: Any) -> Iterator[str]:
    config: Config = composition.config
    yield to_yaml(config)
    yield repr(config)
    yield json.dumps(plain(config))
    yield repr(explain("monitoring.alerts.urls", config, composition.history))
    yield repr(composition.history)
    yield repr(differences(composition, dataclasses.replace(composition, config=Config())))


def test_no_text_of_a_configuration_has_them(tmp_path: Path):
    (tmp_path / "a.yaml").write_text(f"monitoring: {{alerts: {{slack_webhook_url: '{SLACK}', urls: ['{JSON}']}}}}\n")
    for composition in (
        composed(URLS, **VARIABLES),
        composed("monitoring.alerts={cooldown: 7, urls: ['" + JSON + "']}"),
        composed(DLGSUM__MONITORING__ALERTS="{cooldown: 7, urls: ['" + JSON + "']}"),
        compose(Request(file=tmp_path / "a.yaml", overrides=[f"monitoring.alerts.urls=['{JSON}/2']"], environ={})),
    ):
        assert any(SECRET in one for one in composition.config.monitoring.alerts.addresses)
        for text in texts(composition):
            assert SECRET not in text
            assert "***" in text or text.startswith("Config(")


def test_two_secrets_differ_without_being_shown():
    [found] = differences(composed(URLS), composed(URLS.replace("]", "2]")))
    assert (found.key, found.left, found.right) == ("monitoring.alerts.urls", ["***"], ["***"])


def test_what_is_saved_comes_back_from_the_environment(tmp_path: Path):
    path = saved(tmp_path, URLS, "monitoring.alerts.cooldown=7", **VARIABLES)
    assert SECRET not in path.read_text()
    lost = again(path)
    assert (lost.addresses, lost.lost, lost.cooldown) == ([], 3, 7)
    found = again(path, **VARIABLES, DLGSUM__MONITORING__ALERTS__URLS=f"[{JSON}]", BATCH_SIZE="0", DLGSUM__NOSUCH="1")
    assert (found.addresses, found.lost) == ([SLACK, DISCORD, JSON], 0)
    # Saved once more without them, it still knows that it had them.
    path.write_text(to_yaml(compose(Request(base=path, environ={}, secrets={})).config))
    assert again(path, SLACK_WEBHOOK_URL=SLACK).addresses == [SLACK]
    override = compose(Request(base=path, environ={}, secrets=VARIABLES, overrides=[
        "monitoring.alerts.slack_webhook_url=null", "monitoring.alerts.discord_webhook_url=null", URLS]))  # fmt: skip
    assert override.config.monitoring.alerts.addresses == [JSON], "the command line has the last word"


def test_a_run_without_addresses_takes_none_later(tmp_path: Path):
    assert again(saved(tmp_path), **VARIABLES).addresses == []


def test_another_process_gets_them_by_variables(tmp_path: Path):
    config = composed(URLS, SLACK_WEBHOOK_URL=SLACK).config
    assert secret_environment(Config()) == {}
    path = saved(tmp_path, URLS, SLACK_WEBHOOK_URL=SLACK)
    assert again(path, **secret_environment(config)) == config.monitoring.alerts
    assert secret_environment(compose(Request(base=path, environ={}, secrets={})).config) == {}


def test_alerts_say_once_that_addresses_are_needed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for variables, count in (({}, 1), (VARIABLES, 0)):
        caplog.clear()
        settings = again(saved(tmp_path, **VARIABLES), **variables)
        Alerts(settings, record=None, source="run").close()
        told = [it.getMessage() for it in caplog.records if "SLACK_WEBHOOK_URL" in it.getMessage()]
        assert len(told) == count
    assert "not kept in the saved configuration" not in caplog.text


WRONG = {
    "scheme": ([f"monitoring.alerts.urls=[slakc://{SECRET}/b/c]"], "did you mean slack://?"),
    "https": ([f"monitoring.alerts.urls=[https://example.com/{SECRET}]"], "json:// or jsons://"),
    "cut off": ([f"monitoring.alerts.slack_webhook_url=https://hooks.slack.com/services/{SECRET}"], "***"),
    "token alone": ([f"monitoring.alerts.discord_webhook_url={SECRET}"], "Apprise"),
    "no list": ([f"monitoring.alerts.urls={JSON}"], "must be a list"),
    "list in the place of text": ([f"monitoring.alerts.slack_webhook_url=[{SLACK}]"], "must be text"),
    "mapping": ([f"monitoring.alerts.urls={{a: {SECRET}}}"], "monitoring.alerts.urls"),
    "section": ([f"monitoring.alerts={SLACK}"], "is a section"),
    "section above": ([f"monitoring={DISCORD}"], "monitoring=***: there is no such file"),
    "wrong key": ([f"monitoring.alerts.slack_webhook={SLACK}"], "did you mean monitoring.alerts.slack_webhook_url?"),
    "below a list": ([f"monitoring.alerts.urls.0={JSON}"], "monitoring.alerts.urls"),
    "unbalanced": ([f"monitoring.alerts.urls=[{JSON}"], "cannot be read"),
    "several": ([f"monitoring.alerts.slack_webhook_url={SLACK},{SLACK}"], "monitoring.alerts.slack_webhook_url"),
    "deleted": ([f"~monitoring.alerts.slack_webhook_url={SLACK}"], "cannot be deleted"),
    "no override": ([SLACK], "is not an override"),
    "package": ([f"monitoring.alerts.slack_webhook_url@x={SLACK}"], "slack_webhook_url"),
    "interpolation": ([f"monitoring.alerts.slack_webhook_url='${{nosuch}}/{SECRET}'"], "interpolation"),
    "blank": ([f"monitoring.alerts.urls gotify://h/{SECRET}?a=b"], "is not an override"),
    "wrong section, unbalanced": ([f"monitoring.alert.urls=[gotify://h/{SECRET}"], "cannot be read"),
    "wrong key, several": ([f"monitoring.alerts.url=gotify://h/{SECRET},b"], "gives several values"),
    "group": ([f"model=gotify://h/{SECRET}"], "model=gotify://***: there is no such file"),
    "package, other service": ([f"monitoring.alerts.urls@x=gotify://h/{SECRET}"], "package cannot be changed"),
    "package, https": ([f"monitoring.alerts.urls@x=https://h/{SECRET}"], "package cannot be changed"),
    "half an interpolation": ([f"monitoring.alerts.slack_webhook_url='{SLACK}${{x'"], "interpolation"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_an_error_about_a_secret_does_not_say_it(kind: str, caplog: pytest.LogCaptureFixture):
    overrides, part = WRONG[kind]
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError) as caught:
        composed(*overrides)
    assert part in str(caught.value)
    assert SECRET not in str(caught.value) + repr(caught.value.problems) + caplog.text


@pytest.mark.parametrize("text", [
    "monitoring: {{alerts: {{slack_webhook_url: '{0}'", "monitoring: {{alerts: {{urls: '{0}'}}}}",
    "monitoring: {{alerts: '{0}'}}", "monitoring:\n  alerts:\n    urls: [*x, '{0}'", "'{0}'", "monitoring: '{0}'",
    "monitoring: {{alerts: {{urls: [{{a: '{0}'}}]}}}}",
])  # fmt: skip
def test_nor_does_an_error_about_a_file(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture):
    (tmp_path / "a.yaml").write_text(text.format(f"slakc://{SECRET}/b"))
    with pytest.raises(ConfigError) as caught:
        compose(Request(file=tmp_path / "a.yaml", environ={}))
    assert SECRET not in str(caught.value) + caplog.text


def test_a_rule_for_a_kind_that_does_not_exist():
    with pytest.raises(ConfigError, match=r"rules\.loss_spik.*did you mean monitoring\.alerts\.rules\.loss_spike\?"):
        composed("monitoring.alerts.rules.loss_spik=off")
    with pytest.raises(ConfigError, match="must be 'off', 'info', 'warning' or 'error'"):
        composed("monitoring.alerts.rules.loss_spike=loud")


def test_off_is_off_however_yaml_reads_it(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("monitoring: {alerts: {rules: {loss_spike: off, divergence: 'off'}}}\n")
    rules = compose(Request(file=tmp_path / "a.yaml", environ={})).config.monitoring.alerts.rules
    assert (rules.loss_spike, rules.divergence, rules.non_finite) == ("off", "off", None)


def test_what_may_be_shown_of_an_argument():
    assert hidden_line(URLS) == "monitoring.alerts.urls=***"
    assert hidden_line("training.seed=3") == "training.seed=3"
    assert hidden_line("monitoring=quiet") == "monitoring=quiet"
    for shown in ("data.train=s3://b/k.csv", "HF://a/b", "file:///a", "tracking.uri=http://h:5000/x", "sqlite:///m.db"):
        assert hidden_line(shown) == shown
    assert hidden_line("a=postgresql://u:pw@h/db") == "a=postgresql://***@h/db"
    assert hidden_line("gotify://h/S=1 2") == "gotify://***"


def test_a_run_folder_and_the_commands_that_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    config = composed(URLS, f"general.output_dir={tmp_path / 'out'}", "model=kobart_mini", "data=sample", **VARIABLES)
    run: RunFolder = wiring.new_run(config.config)
    content = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert SECRET.encode() not in content and b"***" in content
    monkeypatch.chdir(tmp_path)
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)
    for arguments in (
        ["show", "--json", "--origin", "--config", str(run.config), URLS],
        ["explain", "monitoring.alerts", "--json", URLS],
        ["diff", str(run.config), URLS],
    ):
        app(["config", *arguments], standalone_mode=False)
        out, err = capsys.readouterr()
        assert SECRET not in out + err and "***" in out, arguments


def test_apprise_is_imported_only_where_there_is_an_address(monkeypatch: pytest.MonkeyPatch):
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "apprise"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "apprise", None)  # importing it fails
    assert composed().config.monitoring.alerts == Settings()
    with pytest.raises(ImportError):
        composed(URLS)


def test_the_frozen_settings_do_not_repeat_themselves():
    assert dataclasses.replace(Settings(), slack_webhook_url=SLACK, urls=[SLACK]).addresses == [SLACK]
