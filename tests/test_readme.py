"""The README says nothing that the repository does not have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dlgsum.config.groups import group_options, packaged_conf
from dlgsum.core import plugins

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_group_table_lists_every_file() -> None:
    for group, files in group_options([packaged_conf()]).items():
        row = re.search(rf"^\| `{group}` \| (.*) \|$", README, re.MULTILINE)
        assert row is not None, group
        assert set(files) <= set(re.findall(r"`([\w.]+)`", row[1])), group


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_every_scorer_is_listed(name: str) -> None:
    listed = re.search(
        r"metrics\.scorer=`[^:`]*: `([^`]+)`", (ROOT / name).read_text(encoding="utf-8").replace("\n", " ")
    )
    assert listed is not None
    assert sorted(listed[1].split()) == sorted(plugins.names("scorers"))


def test_every_detector_is_in_the_guide() -> None:
    guide = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", guide, re.MULTILINE) == [name for name in _detectors() if name != "extra"]
    assert "Twelve detectors" in README and len(plugins.names("detectors")) == 12


def _detectors() -> list[str]:
    from dlgsum.config.schema import Detectors

    return list(Detectors.__dataclass_fields__)


def test_the_eight_stops_exist() -> None:
    stops = re.findall(r"^\| (\d) \| (.*?) \|", README, re.MULTILINE)
    assert [number for number, _ in stops] == [str(number) for number in range(1, 9)]
    for _, where in stops:
        path, *names = re.findall(r"`([^`]+)`", where)
        source = (ROOT / "dlgsum" / path).read_text(encoding="utf-8")
        for name in names:
            for part in name.split("."):
                assert re.search(rf"(def|class) {part}\b", source), f"{path}: {part}"


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", README)) | {"train", "test"} <= targets


def test_every_setting_named_in_the_readme_exists() -> None:
    from dlgsum.config.schema import key_names

    known = set(key_names())
    sections = {key for key in known if "." not in key}
    named = {
        name for name in re.findall(r"\b([a-z]+\.[a-z_]+(?:\.[a-z_]+)?)=", README) if name.split(".")[0] in sections
    }
    wrong_on_purpose = {"training.learning_rat"}
    assert named - wrong_on_purpose <= known
    assert len(named) > 8
