"""How detectors are built from the configuration, those of other packages too, and what advice names."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from dlgsum.config.schema import key_names
from dlgsum.config.schema.detectors import ClipRatio, Detectors, LossSpike
from dlgsum.config.validate import build_config
from dlgsum.core import plugins
from dlgsum.core.errors import ConfigError, UsageError
from dlgsum.monitoring.advice import advice_for
from dlgsum.monitoring.detector import Detector, build_detectors
from dlgsum.monitoring.readings import EvaluationReading, StepReading

NAMES = plugins.names("detectors")


class Visitor(Detector):
    """A detector of another package, which checks its own options."""

    name = "visitor"

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        unknown = set(options) - {"limit"}
        if unknown:
            raise UsageError(f"monitoring.detectors.extra.visitor.{unknown.pop()}: there is no such option")

    def judges(self, reading: StepReading | EvaluationReading) -> bool:
        return False

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


class Point:
    """An entry point, as importlib.metadata gives it."""

    def __init__(self, name: str, loaded: type[Any] | Exception) -> None:
        self.name, self._loaded = name, loaded

    def load(self) -> type[Any]:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """Install detectors of another package."""

    def install(*points: Point) -> None:
        monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "dlgsum.detectors" else ())
        plugins.names.cache_clear()
        plugins._others.cache_clear()

    yield install
    monkeypatch.undo()
    plugins.names.cache_clear()
    plugins._others.cache_clear()


def test_all_are_built_and_each_can_be_turned_off():
    assert [it.name for it in build_detectors(Detectors())] == list(NAMES)
    fewer = Detectors(loss_spike=LossSpike(enabled=False), clip_ratio=ClipRatio(enabled=False))
    assert {*NAMES} - {it.name for it in build_detectors(fewer)} == {"loss_spike", "clip_ratio"}


def test_options_come_from_the_configuration():
    config = build_config({"monitoring": {"detectors": {"loss_spike": {"factor": 3.0}}}})
    [spike] = [it for it in build_detectors(config.monitoring.detectors) if it.name == "loss_spike"]
    assert spike.options.factor == 3.0
    with pytest.raises(ConfigError, match=r"monitoring\.detectors\.loss_spike\.factor=1\.0: must be greater than 1"):
        build_config({"monitoring": {"detectors": {"loss_spike": {"factor": 1.0}}}})


def test_a_detector_of_another_package_gets_its_options(installed: Any):
    installed(Point("visitor", Visitor))
    config = build_config({"monitoring": {"detectors": {"extra": {"visitor": {"limit": 3}}}}})
    visitor = {it.name: it for it in build_detectors(config.monitoring.detectors)}["visitor"]
    assert visitor.options == {"limit": 3}
    assert {it.name for it in build_detectors(Detectors())} == {*NAMES, "visitor"}


def test_a_detector_of_another_package_refuses_what_it_does_not_know(installed: Any):
    installed(Point("visitor", Visitor))
    with pytest.raises(UsageError, match=r"monitoring\.detectors\.extra\.visitor\.limt: there is no such option"):
        build_detectors(Detectors(extra={"visitor": {"limt": 3}}))


def test_a_detector_of_another_package_can_be_turned_off(installed: Any):
    installed(Point("visitor", Visitor))
    built = build_detectors(Detectors(extra={"visitor": {"enabled": False, "limt": 3}}))
    assert [it.name for it in built] == list(NAMES)
    with pytest.raises(UsageError, match="enabled=2: must be true or false"):
        build_detectors(Detectors(extra={"visitor": {"enabled": 2}}))


def test_a_detector_of_another_package_that_is_broken_is_left_out(installed: Any, caplog: pytest.LogCaptureFixture):
    installed(Point("visitor", ImportError("no module named torch_next")))
    with caplog.at_level(logging.WARNING):
        assert [it.name for it in build_detectors(Detectors())] == list(NAMES)
    assert len(caplog.records) == 1 and "visitor is left out" in caplog.text and "torch_next" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loss_spik", r"extra\.loss_spik: there is no such detector[\s\S]*Did you mean 'loss_spike'"),
        ("weather", r"extra\.weather: there is no such detector[\s\S]*package installed"),
        ("loss_spike", r"extra\.loss_spike: this detector has a section of its own"),
    ],
)
def test_extra_options_for_what_is_not_there(name: str, message: str):
    with pytest.raises(UsageError, match=message):
        build_detectors(Detectors(extra={name: {}}))


# --- advice ---

SETTING = re.compile(r"\b(?:training|generation|data|model|tokenizer|monitoring|metrics|general)\.[a-z_.]*[a-z]")


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_that_advice_names_exists(name: str):
    known = advice_for(name)
    assert known is not None
    named = {key for text in (*known.causes, *known.advice, known.key) for key in SETTING.findall(text)}
    assert known.key in named and named <= set(key_names())
    assert not any(text.endswith(".") for text in (*known.causes, *known.advice))


def test_the_commands_that_advice_names_exist():
    from typer.testing import CliRunner

    from dlgsum.cli.app import app

    texts = [text for name in NAMES for text in (advice_for(name) or pytest.fail(name)).advice]
    commands = {line for text in texts for line in re.findall(r"`dlgsum ([^`]+)`", text)}
    assert commands
    for command in commands:
        words = command.split()
        known = [word for word in words[:2] if word != "training"]
        assert CliRunner().invoke(app, [*known, "--help"]).exit_code == 0, command


def test_nothing_is_known_of_a_kind_of_another_package():
    assert advice_for("visitor") is None
    assert Visitor({}).finding(StepReading(step=1), "info", "Hello").advice == ()
