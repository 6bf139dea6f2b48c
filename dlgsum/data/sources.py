"""Which files or data set a run reads, and their rows: cleaned, counted, with a reason for each one passed over."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dlgsum.config.schema.data import Data
from dlgsum.core.errors import ConfigError
from dlgsum.data.hub import SPLIT_NAMES, Dataset
from dlgsum.data.reading import read_split
from dlgsum.data.rows import Split
from dlgsum.data.source_kinds import SAMPLE_FOLDER, DatasetSource, FileSource, Source
from dlgsum.data.text_files import exists

__all__ = [
    "SAMPLE_FOLDER", "DataFiles", "DatasetSource", "FileSource", "Source", "Splits",
    "load_file", "load_source", "load_splits", "resolve_files",
]  # fmt: skip

_FILES = {"train": "train", "validation": "dev", "test": "test"}


@dataclass(frozen=True, slots=True)
class DataFiles:
    """Where the rows of a run come from, and why from there.

    Attributes:
        sources: split name to its source: ``train``, ``validation`` and, where there can be one, ``test``.
        reason: one sentence for the user.
        bundled: whether training uses the dialogues that come with dlgsum.
    """

    sources: Mapping[str, Source]
    reason: str
    bundled: bool = False

    @property
    def train(self) -> Path | None:
        """The training file; None where the rows come from a data set."""
        return self._file("train")

    @property
    def validation(self) -> Path | None:
        """The validation file; None where the rows come from a data set."""
        return self._file("validation")

    @property
    def test(self) -> Path | None:
        """The test file; None where there is none, or the rows come from a data set."""
        return self._file("test")

    def check(self) -> None:
        """Refuse what cannot be used, without opening it.

        Raises:
            DataError: a file or data set is not there, or of an unknown kind.
            EnvironmentProblem: the hub cannot be reached.
        """
        for source in self.sources.values():
            source.check()

    def settled(self, data: Data) -> Data:
        """Return the settings with the concrete choice: a saved configuration reads the same rows from anywhere."""
        if all(isinstance(source, FileSource) and source.bundled for source in self.sources.values()):
            return dataclasses.replace(data, source="sample")
        files = {name: _text(self._file(name)) for name in SPLIT_NAMES}
        dataset = next((s.dataset for s in self.sources.values() if isinstance(s, DatasetSource)), None)
        if dataset is None:
            return dataclasses.replace(data, source="csv", **files)  # type: ignore[arg-type]
        return dataclasses.replace(data, source="hub", dataset=dataset.name, **files)  # type: ignore[arg-type]

    def replaced(self, data: Data, files: Mapping[str, str]) -> Data:
        """Return settings in which some files take the place of what was chosen here.

        The bundled test rows go with the bundled training rows: a model is not judged on them beside other files.

        Args:
            data: the settings that led to this choice.
            files: split name to path; with none, the choice stays.
        """
        if not files:
            return self.settled(data)
        kept = {
            name: source
            for name, source in self.sources.items()
            if not (name == "test" and isinstance(source, FileSource) and source.bundled)
        }
        new = {name: FileSource(Path(path)) for name, path in files.items()}
        return DataFiles({**kept, **new}, self.reason).settled(data)

    def _file(self, name: str) -> Path | None:
        source = self.sources.get(name)
        return source.path if isinstance(source, FileSource) else None


def resolve_files(data: Data, *, folder: Path) -> DataFiles:
    """Decide where the rows of a run come from; nothing is opened.

    Relative paths start at ``folder``. ``data.test`` is used with whatever was chosen for training, except
    with ``data.source=sample``, which uses nothing but the bundled files. A data set's splits can each be
    replaced by a file.

    Raises:
        ConfigError: a file is set without the one it needs, or ``data.source`` lacks what it reads.
    """
    if data.source == "sample":
        return _bundled(f"data.source=sample{_unused(data, 'train', 'validation', 'test', 'dataset')}")
    own = {name: FileSource(_path(folder, value)) for name in SPLIT_NAMES if (value := getattr(data, name))}
    if data.source == "hub" or (data.source == "auto" and data.dataset and not {"train", "validation"} <= own.keys()):
        return _dataset(data, own, folder)
    if {"train", "validation"} <= own.keys():
        return DataFiles(own, f"data.train and data.validation are set{_unused(data, 'dataset')}")
    if data.source == "csv":
        missing = [key for key in ("train", "validation") if key not in own]
        raise ConfigError(
            [f"data.source=csv needs data.{key}, which is not set" for key in missing],
            "Set " + " ".join(f"data.{key}=FILE" for key in missing) + ", or use data.source=auto.",
        )
    if "train" in own:
        raise ConfigError(
            [f"data.train={data.train} is set and data.validation is not; it chooses the best model"],
            "Set data.validation=FILE as well.",
        )
    if "validation" in own:
        raise ConfigError(
            [f"data.validation={data.validation} is set and data.train is not"],
            "Set data.train=FILE as well, or leave both out.",
        )
    return _found(folder, own)


def _dataset(data: Data, own: Mapping[str, Source], folder: Path) -> DataFiles:
    if not data.dataset:
        raise ConfigError(
            ["data.source=hub needs data.dataset, which is not set"],
            "Set data.dataset=NAME, a data set of the hub, or data.dataset=FOLDER.",
        )
    path = folder / Path(data.dataset).expanduser()
    dataset = Dataset(str(path) if exists(path) else data.dataset, data.dataset_config, data.dataset_revision)
    splits: dict[str, Source] = {name: DatasetSource(dataset, name) for name in SPLIT_NAMES}
    replaced = "".join(f"; data.{name} replaces its {name} split" for name in own)
    return DataFiles({**splits, **own}, f"data.dataset={data.dataset} is set{replaced}")


def _found(folder: Path, own: Mapping[str, Source]) -> DataFiles:
    paths = {name: folder / "data" / f"{file}.csv" for name, file in _FILES.items()}
    there = [name for name in ("train", "validation") if paths[name].is_file()]
    if len(there) == 2:
        names = [*there, *(["test"] if paths["test"].is_file() else [])]
        sources: dict[str, Source] = {name: FileSource(paths[name]) for name in names}
        return DataFiles({**sources, **own}, f"{paths['train']} and dev.csv exist")
    where = f"{folder / 'data'} has {paths[there[0]].name} only" if there else f"{folder / 'data'} has no train.csv"
    files = _bundled(f"no data.train is set and {where}: the bundled dialogues are used")
    return dataclasses.replace(files, sources={**files.sources, **own})


def _bundled(reason: str) -> DataFiles:
    sources = {name: FileSource(SAMPLE_FOLDER / f"{file}.csv") for name, file in _FILES.items()}
    return DataFiles(sources, reason, bundled=True)


def _unused(data: Data, *keys: str) -> str:
    return "".join(f"; data.{key} is not used" for key in keys if getattr(data, key) is not None)


@dataclass(frozen=True, slots=True)
class Splits:
    """The rows of a run."""

    train: Split
    validation: Split
    test: Split | None

    @property
    def all(self) -> list[Split]:
        """The splits that there are."""
        return [split for split in (self.train, self.validation, self.test) if split is not None]


def load_splits(files: DataFiles, data: Data, *, spool: Path | None = None) -> Splits:
    """Read, clean and limit the rows of a run; test rows may lack summaries.

    Args:
        spool: as ``load_source``.

    Raises:
        DataError: as ``load_file``.
        EnvironmentProblem: a data set is on a hub that cannot be reached.
    """

    def load(name: str, need_summary: bool | None, limit: int | None) -> Split:
        source = files.sources[name]
        return load_source(source, data, name=name, need_summary=need_summary, limit=limit, spool=spool)

    train = load("train", True, data.max_train_samples)
    validation = load("validation", True, data.max_eval_samples)
    has_test = "test" in files.sources and files.sources["test"].present()
    return Splits(train, validation, load("test", None, data.max_eval_samples) if has_test else None)


def load_file(path: Path, data: Data, *, name: str, need_summary: bool | None, limit: int | None = None) -> Split:
    """Read and clean one file.

    With ``need_summary=True`` a row without id, dialogue or summary, or of a wrong shape, is passed over. With
    False (summaries are ignored) and None (they are used where they exist) the file is there to be predicted,
    and a submission must hold each of its rows in order: none is passed over. A row with an empty dialogue
    then stays, to be predicted as empty text; a row that cannot be trusted is an error. Oddities of rows that
    stay are in ``skipped`` with ``kept=True``: an id that was there before, an empty dialogue, a missing
    summary where others have one. The bundled files are read with the default columns and encoding.

    Args:
        limit: use only the first so many usable rows; later rows are neither cleaned nor judged.

    Raises:
        DataError: the file cannot be read, lacks a column, or has no usable row.
    """
    return load_source(FileSource(path), data, name=name, need_summary=need_summary, limit=limit)


def load_source(
    source: Source,
    data: Data,
    *,
    name: str,
    need_summary: bool | None,
    limit: int | None = None,
    spool: Path | None = None,
) -> Split:
    """Read and clean the rows of a source, as ``load_file`` does with a file's.

    Args:
        spool: folder for rows that are too many for memory; None takes the system's temporary folder.

    Raises:
        DataError: as ``load_file``.
        EnvironmentProblem: a data set is on a hub that cannot be reached.
    """
    data = source.settings(data)
    return read_split(
        source.open(data),
        data,
        name=name,
        source=source.describe(),
        need_summary=need_summary,
        limit=limit,
        spool=spool,
    )


def _path(folder: Path, value: str) -> Path:
    """Return a path as people write it: from ``folder``, with ``~`` and ``..`` resolved, but no links."""
    return Path(os.path.normpath(folder / Path(value).expanduser()))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
