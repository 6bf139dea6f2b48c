"""The file written last into a checkpoint: what it holds, with checksums, and what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dlgsum.core.errors import EnvironmentProblem
from dlgsum.core.files import read_json, sha256_file, write_json

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1


@dataclass(frozen=True)
class FileFacts:
    """A file's size in bytes and the SHA-256 of its content."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds.

    Attributes:
        step: optimizer steps taken.
        world_size: processes that trained.
        files: all files except the manifest, by their path in the checkpoint, with ``/`` between its parts.
        fingerprints: of data, tokenizer and whatever else must be the same on resuming, by name.
        versions: of dlgsum and the libraries that wrote it, by name.
        saved_at: when it was written; for people only, nothing is decided by it.
    """

    step: int
    world_size: int
    files: Mapping[str, FileFacts]
    fingerprints: Mapping[str, str]
    versions: Mapping[str, str]
    saved_at: str = ""

    @classmethod
    def of(
        cls,
        folder: Path,
        *,
        step: int,
        world_size: int,
        fingerprints: Mapping[str, str] | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Take down the files that lie in a folder, in any depth, and our own version.

        Raises:
            OSError: a file cannot be read.
        """
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return cls(
            step=step,
            world_size=world_size,
            files={
                path.relative_to(folder).as_posix(): FileFacts(path.stat().st_size, sha256_file(path))
                for path in paths
                if path != folder / MANIFEST
            },
            fingerprints=dict(fingerprints or {}),
            versions={"dlgsum": version("dlgsum"), **(versions or {})},
            saved_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder, atomically."""
        write_json(folder / MANIFEST, {"schema_version": MANIFEST_VERSION, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a checkpoint; what else it may hold is passed over.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not a manifest.
            EnvironmentProblem: it was written by a later dlgsum, in a form that this one does not know.
        """
        content = read_json(folder / MANIFEST)
        _refuse_later(content, folder)
        try:
            manifest = cls(
                step=_number(content, "step"),
                world_size=_number(content, "world_size"),
                files={
                    str(name): FileFacts(_number(facts, "size"), str(facts["sha256"]))
                    for name, facts in content["files"].items()
                },
                fingerprints=_texts(content["fingerprints"]),
                versions=_texts(content["versions"]),
                saved_at=str(content.get("saved_at", "")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{MANIFEST} is not in the form of one: {type(error).__name__}: {error}") from error
        if manifest.world_size < 1:
            raise ValueError(f"{MANIFEST} gives world_size={manifest.world_size}; at least 1 process trains")
        return manifest


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say in words how two sets of fingerprints differ; an empty list when they are the same.

    Args:
        before: as recorded in the checkpoint.
        now: as they are on resuming.
    """
    told = []
    for name in sorted({*before, *now}):
        if name not in now:
            told.append(f"{name}: the checkpoint was written with {before[name][:12]}, now there is none")
        elif name not in before:
            told.append(f"{name}: the checkpoint was written without it, now it is {now[name][:12]}")
        elif before[name] != now[name]:
            told.append(f"{name} changed: {_shown(before[name], now[name])}")
    return told


def _shown(before: str, now: str) -> str:
    # Fingerprints differ early; other texts, such as paths, may do so only late.
    length = 12 if before[:12] != now[:12] else max(len(before), len(now))
    return f"{before[:length]} when the checkpoint was written, {now[:length]} now"


def _refuse_later(content: Mapping[str, Any], folder: Path) -> None:
    version = _number(content, "schema_version")
    if version > MANIFEST_VERSION:
        versions = content.get("versions")
        writer = versions.get("dlgsum") if isinstance(versions, dict) else None
        raise EnvironmentProblem(
            f"{folder / MANIFEST} has schema_version {version}; this dlgsum reads up to {MANIFEST_VERSION}.",
            f"Resume with dlgsum {writer} or later, which wrote it." if writer else "Resume with a later dlgsum.",
        )


def _number(content: Mapping[str, Any], name: str) -> int:
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{MANIFEST} gives {name}={value!r}; a whole number from 0 was expected")
    return value


def _texts(content: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in content.items()}
