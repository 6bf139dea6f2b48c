"""Read the file that W&B keeps of a run: a LevelDB log of protobuf records, ``run-<id>.wandb``.

The format is that of https://github.com/google/leveldb/blob/main/doc/log_format.md: blocks of 32 KiB with chunks of a
checksum (4 bytes), a length (2), a kind (1) and the data. W&B puts a header of 7 bytes in front: ``:W&B``, a magic
number and a version. Its Python package has no reader of it.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK = 32_768
_HEADER = 7  # bytes of the file's header, and of a chunk's
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class Artifact:
    """An artifact that a run logged.

    Attributes:
        files: name in the artifact to the file on this machine; empty for one that is known by name only.
    """

    name: str
    type: str
    aliases: list[str]
    metadata: dict[str, Any]
    files: dict[str, Path]


@dataclass
class OfflineRun:
    """What a file of W&B holds of a run.

    Attributes:
        config: the configuration; what W&B adds, such as the charts of the run's page, is under ``_wandb``.
        history: the rows that were logged, in order; a table or an image is a dictionary with its ``path``.
        defined: metric, or pattern of metrics, to the one that it is drawn over.
        media: files beside the run's, such as ``media/images/x.png``, in the folder ``files``.
        exit_code: None where the run's end is not in the file.
        problem: why the file is not whole; empty where it is.
    """

    path: Path
    id: str = ""
    project: str = ""
    entity: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    notes: str = ""
    tags: list[str] = field(default_factory=list)
    resumed: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    defined: dict[str, str] = field(default_factory=dict)
    media: list[Path] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    exit_code: int | None = None
    problem: str = ""

    @property
    def complete(self) -> bool:
        """Whether the file is whole and the run's end is in it."""
        return not self.problem and self.exit_code is not None

    @property
    def missing_files(self) -> list[Path]:
        """Files that an upload would need and that are not there any more."""
        needed = [*self.media, *(file for artifact in self.artifacts for file in artifact.files.values())]
        return [path for path in needed if not path.is_file()]


class _Torn(Exception):
    """The file ends, or is damaged, here."""


def read_offline(path: Path) -> OfflineRun:
    """Read a file of W&B as far as it goes; one that is torn or damaged says so in ``problem``.

    Raises:
        OSError: it cannot be read.
    """
    from wandb.proto import wandb_internal_pb2 as messages

    run, content = OfflineRun(path), path.read_bytes()
    try:
        for data in _records(content):
            record = messages.Record()  # type: ignore[attr-defined]
            record.ParseFromString(data)
            _take(run, record)
    except _Torn as error:
        run.problem = str(error)
    except Exception as error:  # protobuf's, of data that are none
        run.problem = f"a record cannot be read: {type(error).__name__}"
    if not run.problem and not run.id:
        run.problem = "it holds no run"
    return run


def _records(content: bytes) -> Iterator[bytes]:
    """Yield whole records.

    Raises:
        _Torn: the file ends within one, or a chunk is not what was written.
    """
    if content[:4] != b":W&B":
        raise _Torn("it is not a file of W&B" if content else "it is empty")
    at, parts, inside = _HEADER, b"", False
    while at < len(content):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:  # too short for a chunk: filled with zeros
            at += left
            continue
        if at + _HEADER > len(content):
            raise _Torn("it ends within a record")
        checksum, length, kind = struct.unpack("<IHB", content[at : at + _HEADER])
        data = content[at + _HEADER : at + _HEADER + length]
        if len(data) < length:
            raise _Torn("it ends within a record")
        if checksum != zlib.crc32(content[at + 6 : at + _HEADER + length]) or kind not in (1, 2, 3, 4):
            raise _Torn(f"it is damaged at byte {at:,}")
        at += _HEADER + length
        parts = data if kind in (_WHOLE, _FIRST) else parts + data
        inside = kind in (_FIRST, _MIDDLE)
        if not inside:
            yield parts
    if inside:
        raise _Torn("it ends within a record")


def _take(run: OfflineRun, record: Any) -> None:
    """Add what one record says."""
    kind = record.WhichOneof("record_type")
    taker = _TAKERS.get(kind)
    if taker is not None:
        taker(run, getattr(record, kind))


def _value(item: Any) -> Any:
    try:
        return json.loads(item.value_json)
    except ValueError:
        return item.value_json


def _put(into: dict[str, Any], item: Any) -> None:
    """Set a value at its place: a name, or a path of names."""
    *parents, last = item.nested_key or [item.key]
    for name in parents:
        inner = into.get(name)
        into = into.setdefault(name, {}) if isinstance(inner, dict) or inner is None else into
    into[last] = _value(item)


def _take_run(run: OfflineRun, said: Any) -> None:
    run.id, run.project, run.entity = said.run_id, said.project, said.entity
    run.name, run.group, run.job_type = said.display_name, said.run_group, said.job_type
    run.notes, run.tags, run.resumed = said.notes, list(said.tags), said.resumed
    _take_config(run, said.config)


def _take_config(run: OfflineRun, said: Any) -> None:
    for item in said.update:
        _put(run.config, item)


def _take_history(run: OfflineRun, said: Any) -> None:
    row: dict[str, Any] = {}
    for item in said.item:
        _put(row, item)
    run.history.append(row)


def _take_summary(run: OfflineRun, said: Any) -> None:
    for item in said.update:
        _put(run.summary, item)
    for item in said.remove:
        run.summary.pop(item.key, None)


def _take_metric(run: OfflineRun, said: Any) -> None:
    run.defined[said.name or said.glob_name] = said.step_metric


def _take_files(run: OfflineRun, said: Any) -> None:
    media = [item.path for item in said.files if item.path.startswith("media/")]
    run.media.extend(run.path.parent / "files" / name for name in media)


def _take_artifact(run: OfflineRun, said: Any) -> None:
    run.artifacts.append(
        Artifact(
            said.name,
            said.type,
            list(said.aliases),
            json.loads(said.metadata or "{}"),
            {entry.path: Path(entry.local_path) for entry in said.manifest.contents if entry.local_path},
        )
    )


def _take_exit(run: OfflineRun, said: Any) -> None:
    run.exit_code = int(said.exit_code)


_TAKERS = {
    "run": _take_run, "config": _take_config, "history": _take_history, "summary": _take_summary,
    "metric": _take_metric, "files": _take_files, "artifact": _take_artifact, "exit": _take_exit,
}  # fmt: skip
