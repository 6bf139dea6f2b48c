"""What completion finds by listing folders: paths, configuration files, runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlgsum.config.comments import first_comment
from dlgsum.config.folders import packaged_conf, search_path
from dlgsum.core.errors import ConfigError

Candidate = tuple[str, str]

# Two screens of runs; older ones are still found once a part of their name is typed.
MOST_RUNS = 100


def list_paths(typed: str, *, suffixes: Sequence[str] = (), folders_only: bool = False) -> list[Candidate]:
    """Return the files and folders that a partly typed path can become; folders end with a slash.

    Args:
        typed: the path so far; ``~`` stays as it was typed.
        suffixes: the endings that a file may have, in lower case; empty: any.
        folders_only: leave out all files.
    """
    head, slash, start = typed.rpartition("/")
    head += slash
    found = []
    for entry in _entries(_folder(head)):
        name = entry.name
        if not name.startswith(start) or (name.startswith(".") and not start.startswith(".")) or not name.isprintable():
            continue
        if _is_folder(entry):
            found.append((f"{head}{name}/", ""))
        elif not folders_only and (not suffixes or name.lower().endswith(tuple(suffixes))):
            found.append((head + name, ""))
    return found


def conf_folders(config_dir: str | None) -> list[Path]:
    """Return the folders of configuration files, the user's own first; of one that is not there nothing is said."""
    try:
        return search_path(_folder(config_dir) if config_dir else None)
    except (ConfigError, OSError):
        return [packaged_conf()]


def list_groups(folders: Sequence[Path]) -> dict[str, list[Candidate]]:
    """Return each configuration group with its files, each with the first line of its comment."""
    groups: dict[str, list[Candidate]] = {}
    for group in sorted(entry.name for entry in _entries(folders[-1]) if _is_folder(entry)) if folders else ():
        files: dict[str, str] = {}
        for folder in folders:
            for entry in _entries(folder / group):
                if entry.name.endswith(".yaml"):
                    files.setdefault(entry.name.removesuffix(".yaml"), entry.path)
        if files:
            groups[group] = [(name, first_comment(Path(path))) for name, path in sorted(files.items())]
    return groups


def list_runs(output_dir: Path, typed: str) -> list[Candidate]:
    """Return the runs whose id begins with what was typed, newest first, with their state."""
    names = [
        entry.name
        for entry in _entries(output_dir / "experiments")
        if entry.name.startswith(typed) and Path(entry.path, "config.yaml").is_file()
    ]
    return [(name, _state(output_dir / "experiments" / name)) for name in sorted(names, reverse=True)[:MOST_RUNS]]


def set_in(folders: Sequence[Path], group: str, key: str) -> list[str]:
    """Return the plain values that a group's files give to a key, such as the checkpoints that we know."""
    found = []
    for folder in folders:
        for entry in _entries(folder / group):
            for line in _lines(Path(entry.path)) if entry.name.endswith(".yaml") else ():
                name, colon, value = line.partition("#")[0].partition(":")
                if colon and name.strip() == key and value.strip().strip("\"'"):
                    found.append(value.strip().strip("\"'"))
    return list(dict.fromkeys(found))


def variables_of(folders: Sequence[Path], key: str) -> list[str]:
    """Return the environment variables that set a key, the strongest first: ours, then those of env.yaml."""
    lines = _lines(folders[-1] / "env.yaml") if folders else []
    known = [line.partition(":")[0].strip() for line in lines if line.partition(":")[2].strip() == key]
    return [f"DLGSUM__{key.upper().replace('.', '__')}", *known]


def _state(run: Path) -> str:
    """Say how a run ended, and with which score."""
    import json

    words = []
    try:
        words.append(str(json.loads((run / "status.json").read_bytes())["status"]))
        score = json.loads((run / "training_results.json").read_bytes())["best_metrics"]["rouge_combined_f1"]
        words.append(f"combined {100 * score:.2f}")
    except (OSError, ValueError, KeyError, TypeError):
        pass  # a run that is not finished, or not ours
    return ", ".join(words)


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (OSError, ValueError):  # not there, not ours to read, or no possible name
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _folder(typed: str) -> Path:
    try:
        return Path(typed or ".").expanduser()
    except RuntimeError:  # ~nobody
        return Path(typed)
