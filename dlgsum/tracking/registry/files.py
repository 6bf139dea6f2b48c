"""The files of a registered model: their hashes, where they are now, and what became of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dlgsum.core.errors import UsageError
from dlgsum.core.files import sha256_file, sha256_text
from dlgsum.core.text import plural
from dlgsum.tracking.registry.model import RegisteredModel

Progress = Callable[[int, int], None]


def files_of(folder: Path) -> list[str]:
    """Return the paths of all files in a folder and below, relative to it; hidden ones are left out.

    So are links that lead nowhere, and what is no file, such as a pipe.
    """
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(base) / name for name in names if not name.startswith(".")]
        found += [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
    return sorted(found)


def hashed(folder: Path) -> dict[str, dict[str, Any]]:
    """Return ``{"sha256", "size"}`` of each file of a model's folder, by its path inside it.

    Raises:
        UsageError: it is no folder, or an empty one.
        OSError: a file cannot be read.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"A model cannot be registered from {folder}: it {what}", "Name the model's folder.")
    names = files_of(folder)
    if not names:
        raise UsageError(f"A model cannot be registered from {folder}: the folder is empty")
    return {
        name: {"sha256": sha256_file(folder / name), "size": (folder / name).stat().st_size} for name in names
    }  # fmt: skip


def placed(checkpoint: str, folder: Path) -> str:
    """Return a checkpoint absolute where it is a folder, as seen from another; a name on the hub stays as it is."""
    place = folder / Path(checkpoint).expanduser()
    return str(place.absolute()) if checkpoint and place.is_dir() else checkpoint


def digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the SHA-256 of a list of files: of their names and their hashes."""
    return sha256_text(*(part for name in sorted(files) for part in (name, str(files[name]["sha256"]))))


def find_folder(model: RegisteredModel, output_dir: Path) -> Path | None:
    """Return where a model's folder is now; None where it is nowhere.

    A model that was registered in this outputs folder, and lies inside it, is looked for in the folder as it is now,
    which may have been moved or copied, and then where it was.
    """
    places = [Path(model.path)]
    of_here = (output_dir / "models" / f"{model.id}.json").is_file()
    if of_here and Path(model.path).is_relative_to(model.output_dir):
        places.insert(0, output_dir.absolute() / Path(model.path).relative_to(model.output_dir))
    for place in places:
        try:
            if place.is_dir():
                return place
        except OSError:
            continue
    return None


@dataclass(frozen=True)
class FilesState:
    """What became of a model's files, as far as names and sizes tell.

    Attributes:
        state: ``there``; ``changed`` where files are missing or have another size; ``gone`` with the folder;
            ``elsewhere`` where another machine has registered it and this one does not see the folder.
        words: the same for people.
        folder: where they are; None where they are not.
    """

    state: Literal["there", "changed", "gone", "elsewhere"]
    words: str
    folder: Path | None


def look_at(model: RegisteredModel, output_dir: Path) -> FilesState:
    """Say what became of a model's files, without reading them."""
    folder = find_folder(model, output_dir)
    if folder is None:
        if model.host != socket.gethostname():
            return FilesState("elsewhere", f"on {model.host}, not seen from here", None)
        return FilesState("gone", "files are gone", None)
    missing = [name for name in model.files if not (folder / name).is_file()]
    if len(missing) == len(model.files):
        return FilesState("gone", "files are gone", None)
    if missing:
        return FilesState("changed", f"{plural(len(missing), 'file')} of {len(model.files)} gone", folder)
    changed = [name for name, known in model.files.items() if _size(folder / name) != known["size"]]
    if changed:
        return FilesState("changed", f"{plural(len(changed), 'file')} changed", folder)
    return FilesState("there", "there", folder)


@dataclass(frozen=True)
class FilesCheck:
    """What reading every file of a model has shown: names of files; all three are empty where all is as it was."""

    changed: list[str]
    missing: list[str]
    additional: list[str]

    @property
    def good(self) -> bool:
        """Whether each file that was registered is there and the same; files that were added do no harm."""
        return not self.changed and not self.missing


def check_files(model: RegisteredModel, folder: Path, on_progress: Progress | None = None) -> FilesCheck:
    """Compare the hash of each file with the registered one.

    Args:
        on_progress: called with the bytes read and all bytes; a file that cannot be read counts as changed.
    """
    changed, missing, done = [], [], 0
    for name, known in model.files.items():
        path = folder / name
        if not path.is_file():
            missing.append(name)
        elif _size(path) != known["size"] or _hash(path) != known["sha256"]:
            changed.append(name)
        done += int(known["size"])
        if on_progress is not None:
            on_progress(done, model.size)
    return FilesCheck(changed, missing, [name for name in files_of(folder) if name not in model.files])


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _hash(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None
