"""Completion reads the schema's source and lists folders by itself; here both are compared with the real thing."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from dlgsum.cli.completion import completers
from dlgsum.cli.completion.listing import conf_folders, list_groups, variables_of
from dlgsum.cli.completion.schema_source import read_keys
from dlgsum.config import groups
from dlgsum.config.explain import group_files
from dlgsum.config.schema import Config, Metrics, key_names


def _allowed(kind: Any) -> list[str]:
    if kind is bool:
        return ["true", "false"]
    if kind is type(None):
        return ["null"]
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    if get_origin(kind) in (Union, types.UnionType, list):
        return [value for part in get_args(kind) for value in _allowed(part)]
    return []


def _real_keys(kind: Any = Config, prefix: str = "") -> Iterator[tuple[str, str, bool, list[str]]]:
    hints = get_type_hints(kind)
    for name, field in kind.__pydantic_fields__.items():
        section = hasattr(hints[name], "__pydantic_fields__")
        values = [] if section else _allowed(hints[name])
        yield f"{prefix}{name}", field.description, section, [] if values == ["null"] else values
        if section:
            yield from _real_keys(hints[name], f"{prefix}{name}.")


def test_the_source_of_the_schema_is_read_as_the_schema_is():
    assert list(read_keys()) == list(key_names())
    read = [(name, key.help, key.is_section, list(key.values)) for name, key in read_keys().items()]
    assert read == list(_real_keys())
    assert read_keys()["training.batching"].values == ("samples", "tokens", "random")
    assert [name for name, key in read_keys().items() if key.is_list and key.values] == ["data.cleaning"]
    assert read_keys()["general.output_dir"].default == Config().general.output_dir


def test_folders_and_groups_are_those_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path
    (folder / "conf" / "training").mkdir(parents=True)
    (folder / "conf" / "training" / "mine.yaml").write_text("{}")
    (folder / "conf" / "foreign").mkdir()
    (folder / "conf" / "foreign" / "other.yaml").write_text("{}")
    (folder / "other" / "model").mkdir(parents=True)
    (folder / "other" / "model" / "big.yaml").write_text("{}")
    assert conf_folders("nosuch") == [groups.packaged_conf()], "a wrong folder is no reason to complete nothing"
    for config_dir in (None, "other"):
        real = groups.search_path(None if config_dir is None else Path(config_dir).resolve())
        assert conf_folders(config_dir) == real
        listed = {group: [name for name, _ in files] for group, files in list_groups(conf_folders(config_dir)).items()}
        assert listed == groups.group_options(real)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# @package _global_\n#x y \na: 1  # no\n# z\n", "x y"),
        ("#\n## 소개\na: 1\n", "소개"),
        ("a: 1  # beside\n  # within\n", ""),
    ],
)
def test_the_comment_of_a_file_is_the_same_everywhere(tmp_path: Path, text: str, expected: str):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(text, encoding="utf-8")
    assert list_groups([tmp_path]) == {"model": [("mine", expected)]}
    assert group_files([tmp_path], "model", ["mine"]) == {"mine": expected}


def test_metrics_are_those_that_the_settings_promise():
    from dlgsum.metrics.suite import known_metric_names
    from dlgsum.recipes.wiring import NOT_SCORES

    assert set(completers.METRICS) == {*known_metric_names(Metrics()), *NOT_SCORES}


def test_settings_that_are_files_exist():
    assert {*completers.FILES, *completers.FOLDERS, *completers.CHECKPOINTS} <= set(key_names())
    assert set(completers.CHECKPOINTS) <= set(completers.FOLDERS)


def test_variables_of_the_output_folder():
    assert variables_of(conf_folders(None), "general.output_dir") == ["DLGSUM__GENERAL__OUTPUT_DIR", "OUTPUT_DIR"]
