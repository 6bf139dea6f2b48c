"""Divide one data file into training, validation and test files; write the bundled files out."""

from __future__ import annotations

import dataclasses
import secrets
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlgsum.config.request import Request
from dlgsum.config.schema.data import Columns, Data
from dlgsum.core.errors import DataError, UsageError
from dlgsum.data.clean import clean
from dlgsum.data.columns import known_columns
from dlgsum.data.keys import NONE, as_keys, same_text, text_key
from dlgsum.data.raw_files import RawFile, raw_file
from dlgsum.data.sources import SAMPLE_FOLDER
from dlgsum.data.split import PartSummary, check_shares, divide, stratified_topics, summarise
from dlgsum.data.text_files import check_file
from dlgsum.recipes.settle import compose_checked

Progress = Callable[[int, int], None]
_NAMES = {"train": "train", "dev": "validation", "test": "test"}
_REPLACED = ("data.source", "data.encoding", *(f"data.{name}" for name in _NAMES.values()))


@dataclass(frozen=True)
class SplitResult:
    """What was written.

    Attributes:
        files: part to the file's path.
        parts: what each part is like.
        stratified: how many topics were kept in proportion; rarer ones were taken together.
        settings: overrides with which a run reads these files as this one was read; those of a configuration file
            are not among them.
        misfits: rows copied although they have another number of fields than the header; training leaves them out.
        misfit_lines: the lines of the source on which the first few of them begin.
    """

    source: str
    seed: int
    files: dict[str, str]
    parts: list[PartSummary]
    stratified: int
    settings: list[str]
    misfits: int = 0
    misfit_lines: list[int] = dataclasses.field(default_factory=list)


def split_file(
    file: Path,
    request: Request,
    *,
    validation: float,
    test: float | None,
    seed: int,
    folder: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> SplitResult:
    """Divide a file into train, dev and, where wanted, test, in its own format with all its columns.

    See ``divide`` for how; dialogues are compared as training sees them, cleaned by ``data.cleaning`` and with all
    blanks alike, so that none is in two parts. Rows without a dialogue are kept, each for itself. Rows stay in the
    order of the file. The text is read twice and never all in memory. All files are there in the end, or none.

    Args:
        request: gives the columns, encoding and cleaning (``data.*``).
        folder: where the files go; None takes ``<name of the file>_split`` beside it.
        force: overwrite files that exist; never the file that is read.
        progress: called with the megabytes read and all of them, in two passes.

    Raises:
        UsageError: a share that cannot be, too few rows, or files that would be overwritten.
        DataError: the file cannot be read or has no such column.
    """
    shares = check_shares(validation, test)
    check_file(file)
    folder = folder or file.parent / f"{file.stem}_split"
    targets = {name: folder / f"{name}{file.suffix}" for name in shares}
    check_targets(list(targets.values()), force=force, source=file)
    data = _data(request, request.overrides)
    bundled = file.parent == SAMPLE_FOLDER
    columns = Columns() if bundled else data.columns
    texts = [columns.dialogue, columns.summary, *columns.extra_summaries]
    source = raw_file(file, "utf-8" if bundled else data.encoding, texts)
    keys, lengths, topics = _read(source, data, columns, progress)
    parts = divide(keys, topics, lengths, shares, seed=seed)
    with new_files(targets) as paths, ExitStack() as stack:
        writers = [stack.enter_context(source.writer(paths[name])) for name in shares]
        for part, (_, row) in zip(parts.tolist(), source.rows(progress), strict=True):
            writers[part](row)
    files = {name: str(path) for name, path in targets.items()}
    return SplitResult(
        str(file), seed, files, summarise(parts, keys, topics, lengths, shares),
        len(stratified_topics(topics, shares)), _settings(request, files), source.misfits, source.misfit_lines,
    )  # fmt: skip


def file_settings(files: Mapping[str, str]) -> list[str]:
    """Return the overrides that name these files, by their part: train, dev, test."""
    return [f"data.{name}={files[part]}" for part, name in _NAMES.items() if part in files]


def _settings(request: Request, files: Mapping[str, str]) -> list[str]:
    kept = [line for line in request.overrides if _says_how_to_read(line)]
    # A group of their own, or a file's, may hold what is needed, so another group must not take its place.
    own = request.file or request.config_dir or any("." not in line.partition("=")[0] for line in kept)
    settings = ["data.source=csv" if own else "data=csv", *kept]
    # What is written is UTF-8, whatever encoding a configuration file names.
    if _data(request, kept).encoding.lower() not in ("auto", "utf-8", "utf8"):
        settings.append("data.encoding=utf-8")
    return [*settings, *file_settings(files)]


def _says_how_to_read(override: str) -> bool:
    key = override.partition("=")[0].lstrip("+").strip()
    return (key == "data" or key.startswith("data.")) and key not in _REPLACED


def _data(request: Request, overrides: Sequence[str]) -> Data:
    """Return the settings for reading; the files of the configuration need not exist."""
    asked = dataclasses.replace(request, overrides=[*overrides, "data.source=sample"])
    return compose_checked(asked).config.data


def write_sample(folder: Path, *, force: bool = False) -> list[Path]:
    """Copy the bundled train.csv, dev.csv and test.csv into a folder, and return their paths.

    Raises:
        UsageError: one of them is there already and ``force`` is not given.
    """
    files = [SAMPLE_FOLDER / f"{name}.csv" for name in ("train", "dev", "test")]
    targets = {file.name: folder / file.name for file in files}
    check_targets(list(targets.values()), force=force)
    with new_files(targets) as paths:
        for file in files:
            paths[file.name].write_bytes(file.read_bytes())
    return list(targets.values())


def check_targets(targets: list[Path], *, force: bool, source: Path | None = None) -> None:
    """Refuse to overwrite.

    Raises:
        UsageError: a target exists and ``force`` is not given, a target is the source, or a file is in the way.
    """
    folder = targets[0].parent
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a folder is wanted", "Name a folder.")
    for target in targets:
        if source is not None and target.exists() and target.samefile(source):
            raise UsageError(f"{target} is the file that is read; it is never overwritten", "Name another folder.")
    there = [target.name for target in targets if target.exists()]
    if there and not force:
        raise UsageError(
            f"{folder} has {', '.join(there)} already; nothing was written", "Name another folder, or add --force."
        )


@contextmanager
def new_files(targets: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Give a path to write for each target; in the end all take their places, after an exception none does.

    The files get the permissions that the user's umask gives new files.
    """
    with ExitStack() as stack:
        paths = {}
        for name, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            paths[name] = target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
            paths[name].touch(exist_ok=False)
            stack.callback(paths[name].unlink, missing_ok=True)
        yield paths
        for name, target in targets.items():
            paths[name].replace(target)


def _read(
    source: RawFile, data: Data, columns: Columns, progress: Progress | None
) -> tuple[np.ndarray[Any, np.dtype[np.uint64]], np.ndarray[Any, np.dtype[np.int64]], list[str]]:
    """Return key, length and topic of each row; no dialogue is kept."""
    keys, lengths = array("Q"), array("q")
    topics: list[str] = []
    known: dict[str, str] = {}  # one text for each topic, not one for each row
    seen: set[str] = set()
    for cells, row in source.rows(progress):
        if not topics:
            columns, _ = known_columns(columns, tuple(cells), with_summaries=False)
        seen.update(cells)
        dialogue, _ = clean(_text(cells.get(columns.dialogue)), data.cleaning)
        key = text_key(dialogue)
        # Rows without a dialogue would all be one group.
        keys.append(key if key != NONE else text_key("no dialogue", row if isinstance(row, str) else repr(cells)))
        lengths.append(len(same_text(dialogue)))
        topic = _text(cells.get(columns.topic)).strip()
        topics.append(known.setdefault(topic, topic))
    if not topics:
        raise DataError(f"{source.path} holds a header and no row.", "Name a file with at least one row.")
    if columns.dialogue not in seen:
        raise DataError(
            f"{source.path} has no column {columns.dialogue!r}. Its columns: {', '.join(sorted(filter(None, seen)))}.",
            "If it has another name, set data.columns.dialogue=NAME.",
        )
    return as_keys(keys), np.asarray(lengths, dtype=np.int64), topics


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)
