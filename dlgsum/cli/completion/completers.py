"""What can stand in an argument or behind an option: functions for ``autocompletion=`` of Typer's parameters.

Each takes the context and what was typed so far, and returns ``(whole word, description)`` pairs. A word that ends
with ``=``, ``.`` or ``/`` is not finished, and the shell adds no space to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import typer

from dlgsum.cli.completion.listing import (
    Candidate,
    conf_folders,
    list_groups,
    list_paths,
    list_runs,
    set_in,
    variables_of,
)

DIALOGUES: Final = (".csv", ".tsv", ".jsonl", ".parquet")
YAML: Final = (".yaml", ".yml")
FILES: Final = ("data.train", "data.validation", "data.test")
FOLDERS: Final = ("general.output_dir", "data.cache_dir", "model.checkpoint", "general.model_name")
CHECKPOINTS: Final = ("model.checkpoint", "general.model_name")
# What metrics.best can name without further settings; their home, the metric suite, needs numpy. A test compares.
METRICS: Final = (
    "rouge1_f1", "rouge2_f1", "rougeL_f1", "rouge_combined_f1", "bleu",
    "pred_chars", "empty_share", "distinct_share", "loss",
)  # fmt: skip


def complete_override(ctx: typer.Context, incomplete: str) -> list[Candidate]:
    """Complete ``GROUP=NAME`` and ``SECTION.KEY=VALUE``."""
    key, equals, value = incomplete.partition("=")
    if equals:
        return [(f"{key}={text}", help) for text, help in _fitting(_values(ctx, key, value), value)]
    groups = {} if "." in incomplete else list_groups(conf_folders(_config_dir(ctx)))
    candidates = [
        (f"{name}=", f"one of {len(files)} files: {', '.join(file for file, _ in files)}")
        for name, files in groups.items()
    ]
    return _fitting([*candidates, *_keys(incomplete, after="=")], incomplete)


def complete_keys(ctx: typer.Context, incomplete: str) -> list[Candidate]:
    """Complete the name of a setting, of a section, or of a group that has no section."""
    candidates = _keys(incomplete, after="")
    if "." not in incomplete:
        sections = {name.partition(".")[0]: help for name, help in candidates}
        groups = list_groups(conf_folders(_config_dir(ctx)))
        candidates += [(group, "configuration group") for group in groups if group not in sections]
        # A section by itself is finished only once its whole name stands there; before, its settings are meant.
        candidates += [(incomplete, sections[incomplete])] if incomplete in sections else []
    return _fitting(candidates, incomplete)


def complete_run(ctx: typer.Context, incomplete: str) -> list[Candidate]:
    """Complete the name of a run: latest, best, an id (newest first), models:NAME, or a folder."""
    runs = list_runs(_output_dir(ctx), incomplete)
    named = [("latest", "the newest run with a model"), ("best", "the run with the best combined score")]
    if incomplete.startswith("models:"):
        from dlgsum.tracking.registry.names import model_names

        return _fitting([(f"models:{name}", help) for name, help in model_names(_output_dir(ctx))], incomplete)
    # Folders only when they are asked for: among runs, those of the working directory are noise.
    folders = list_paths(incomplete, folders_only=True) if incomplete[:1] in (".", "~") or "/" in incomplete else []
    return [*_fitting(named, incomplete), *runs, *folders]


def complete_config_name(ctx: typer.Context, incomplete: str) -> list[Candidate]:
    """Complete what names a configuration: a run, an experiment, or a YAML file."""
    experiments = list_groups(conf_folders(_config_dir(ctx))).get("experiment", [])
    files = list_paths(incomplete, suffixes=YAML)
    return list(dict.fromkeys([*_fitting(experiments, incomplete), *complete_run(ctx, incomplete), *files]))


def complete_input(ctx: typer.Context, incomplete: str) -> list[Candidate]:
    """Complete a file of dialogues, or an override, where the file may be left out."""
    return [*list_paths(incomplete, suffixes=DIALOGUES), *(complete_override(ctx, incomplete) if incomplete else [])]


def complete_yaml(incomplete: str) -> list[Candidate]:
    """Complete a YAML file."""
    return list_paths(incomplete, suffixes=YAML)


def complete_dialogues(incomplete: str) -> list[Candidate]:
    """Complete a file of dialogues."""
    return list_paths(incomplete, suffixes=DIALOGUES)


def complete_folder(incomplete: str) -> list[Candidate]:
    """Complete a folder."""
    return list_paths(incomplete, folders_only=True)


def _keys(incomplete: str, *, after: str) -> list[Candidate]:
    """Return the keys one level below the section typed so far; a sub-section ends with its dot."""
    from dlgsum.cli.completion.schema_source import read_keys

    section = incomplete.rpartition(".")[0]
    return [
        (f"{name}.", key.help) if key.is_section else (f"{name}{after}", key.help)
        for name, key in read_keys().items()
        if name.rpartition(".")[0] == section
    ]


def _values(ctx: typer.Context, name: str, typed: str) -> Iterable[Candidate]:
    """Return what can stand behind ``name=``."""
    folders = conf_folders(_config_dir(ctx))
    groups = list_groups(folders) if "." not in name else {}
    if name in groups:
        return groups[name]
    if name == "metrics.scorer":
        from dlgsum.core import plugins

        return [(scorer, "") for scorer in plugins.names("scorers")]
    if name == "metrics.best":
        return [(metric, "") for metric in METRICS]
    if name in FILES:
        return list_paths(typed, suffixes=DIALOGUES)
    if name in FOLDERS:
        known = set_in(folders, "model", "checkpoint") if name in CHECKPOINTS else []
        return [*((checkpoint, "") for checkpoint in known), *list_paths(typed, folders_only=True)]
    return _enumerated(name, typed)


def _enumerated(name: str, typed: str) -> Iterator[Candidate]:
    from dlgsum.cli.completion.schema_source import read_keys

    key = read_keys().get(name)
    if key is None:
        return
    # A help text such as "samples: rows of like length; tokens: …" explains each value.
    said = dict(part.split(": ", 1) for part in key.help.rstrip(".").split("; ") if ": " in part)
    if not key.is_list:
        yield from ((value, said.get(value, "")) for value in key.values)
        return
    head = typed[: max(typed.rfind("["), typed.rfind(",")) + 1] or "["
    yield from ((head + value, "") for value in key.values if value not in head[1:].split(","))


def _fitting(candidates: Iterable[Candidate], incomplete: str) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate[0].startswith(incomplete)]


def _config_dir(ctx: typer.Context) -> str | None:
    value = ctx.params.get("config_dir")
    return str(value) if value else None


def _overrides(ctx: typer.Context) -> Mapping[str, str]:
    """Return the overrides on the line, whichever argument they were taken for; the last one of a key wins."""
    words = [word for value in ctx.params.values() for word in (value if isinstance(value, (list, tuple)) else [value])]
    return {str(word).partition("=")[0]: str(word).partition("=")[2] for word in words if "=" in str(word)}


def _output_dir(ctx: typer.Context) -> Path:
    """Return the folder of all results as far as it can be known without composing: line, environment, default."""
    from dlgsum.cli.completion.schema_source import read_keys

    key = "general.output_dir"
    variables = variables_of(conf_folders(_config_dir(ctx)), key)
    default = read_keys()[key].default if key in read_keys() else "outputs"
    typed = [_overrides(ctx).get(key), *(os.environ.get(variable) for variable in variables), default]
    return Path(next(filter(None, typed)))
