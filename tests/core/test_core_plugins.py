"""Plugins are found by listing folders and entry points; optional packages say how to get them."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest

from dlgsum.core import plugins
from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.core.optional import require


@pytest.fixture
def fresh_names():
    plugins.names.cache_clear()
    plugins._others.cache_clear()
    yield
    plugins.names.cache_clear()
    plugins._others.cache_clear()


@pytest.mark.parametrize("seam", plugins.SEAMS)
def test_every_module_of_a_seam_is_a_plugin(seam: str, fresh_names: None):
    folder = importlib.import_module(plugins.SEAMS[seam])
    modules = {module.name for module in pkgutil.iter_modules(folder.__path__) if module.name[0] != "_"}
    assert modules and set(plugins.names(seam)) == modules
    assert list(plugins.names(seam)) == sorted(plugins.names(seam))


@pytest.mark.parametrize("name", plugins.names("scorers"))
def test_a_plugin_is_loaded_by_its_name(name: str):
    assert plugins.load("scorers", name).name == name


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UsageError) as raised:
        plugins.load("scorers", "kiwj")
    assert raised.value.hint == "Did you mean 'kiwi'?"
    assert "char, google, kiwi" in raised.value.message
    with pytest.raises(UsageError) as raised:
        plugins.load("scorers", "xxxxxxxx")
    assert raised.value.hint == ""


@pytest.mark.parametrize("name", ["../kiwi", "kiwi.Kiwi", "os", "__init__"])
def test_a_name_is_never_an_import_path(name: str):
    with pytest.raises(UsageError):
        plugins.load("scorers", name)


def test_another_package_adds_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_names: None):
    (tmp_path / "theirs.py").write_text("class Theirs:\n    name = 'theirs'\n")
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dlgsum.scorers]\ntheirs = theirs:Theirs\n")
    assert "theirs" not in plugins.names("scorers")
    plugins.names.cache_clear()
    plugins._others.cache_clear()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "theirs" in plugins.names("scorers") and "kiwi" in plugins.names("scorers")
    assert "theirs" not in plugins.names("families")
    assert plugins.load("scorers", "theirs").__module__ == "theirs"
    with pytest.raises(UsageError, match="theirs"):
        plugins.load("scorers", "their_scorer")


def test_a_missing_package_says_how_to_install_it():
    with pytest.raises(EnvironmentProblem) as raised:
        require("no_such_package_here", extra="mecab", purpose="metrics.scorer=mecab")
    assert "metrics.scorer=mecab needs the package 'no_such_package_here'" in raised.value.message
    assert raised.value.hint == "Install it with: pip install 'dlgsum[mecab]'"
    assert raised.value.exit_code == 4


def test_a_package_that_is_there_is_returned():
    assert require("json", extra="x", purpose="x").loads("1") == 1


def test_an_extra_that_is_named_exists():
    """The install command above must work: the extra is declared."""
    import tomllib

    root = Path(__file__).resolve().parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    sources = [path.read_text(encoding="utf-8") for path in (root / "dlgsum").rglob("*.py")]
    named = {part.split('"')[0] for text in sources if "require(" in text for part in text.split('extra="')[1:]}
    assert named and named <= set(extras)
