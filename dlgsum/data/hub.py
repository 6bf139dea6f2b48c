"""Data sets of the hub, or of a folder laid out like one: found, checked and read without running any of their code."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dlgsum.core.errors import DataError, EnvironmentProblem
from dlgsum.core.files import is_file
from dlgsum.core.network import ask
from dlgsum.data.tables import Table, batch_records, not_empty, read_table
from dlgsum.data.text_files import PACKED, exists

SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "dev", "val", "valid"), "test": ("test",)}
PATIENCE = 10.0  # seconds that the hub has to answer
_BATCH_ROWS = 1000
# `datasets` reads these without code of the data set's own. Others can hold pickles (webdataset, pandas) or no text.
_SAFE_KINDS = ("csv", "json", "parquet", "arrow", "cache")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?", re.ASCII)


@dataclass(frozen=True)
class Dataset:
    """A data set by the name that ``datasets.load_dataset`` takes; nothing is touched before it is asked for.

    Attributes:
        name: a hub name, or a folder: saved by ``save_to_disk``, or with data files named like its splits.
        config: which of its configurations; None where there is one.
        revision: branch, tag or commit on the hub; None for the newest.
    """

    name: str
    config: str | None = None
    revision: str | None = None
    _ready: list[bool] = field(default_factory=list, repr=False, compare=False)

    @property
    def folder(self) -> Path | None:
        """The folder, where the name is one."""
        path = Path(self.name)
        return path if exists(path) and path.is_dir() else None

    def describe(self) -> str:
        """Return the data set in words, as messages name it."""
        config = f" ({self.config})" if self.config else ""
        return f"{self.name}{config}{f' at {self.revision}' if self.revision else ''}"

    def check(self) -> None:
        """Find out once, within ``PATIENCE`` seconds, whether the data set is there, without downloading it.

        Raises:
            DataError: no such folder or data set, no access to it, or packed files.
            EnvironmentProblem: it is not in the local cache, and the hub cannot be reached.
        """
        if self._ready:
            return
        self.check_name()
        if self.folder is None and not _is_cached(self.name):
            _ask_hub(self)
        self._ready.append(True)

    def check_name(self) -> None:
        """Refuse what cannot be a data set, without asking the hub.

        Raises:
            DataError: neither a folder nor a name that the hub could have, or packed files.
        """
        if self.folder is not None:
            _refuse_packed(self.folder)
        elif is_file(Path(self.name)):
            raise DataError(
                f"data.dataset={self.name} is a file; a hub name or a folder is wanted.",
                "Set data.train, data.validation and data.test to use single files.",
            )
        elif not _HUB_NAME.fullmatch(self.name):
            raise DataError(
                f"data.dataset={self.name}: there is no such folder, and a hub name looks like owner/name.",
                f"Relative paths start at {Path.cwd()}.",
            )

    @cached_property
    def splits(self) -> Mapping[str, Any]:
        """The splits by their own names, as `datasets` gives them; a hub data set is downloaded once.

        Raises:
            DataError: as ``check``, and for one that cannot be read without running its code.
            EnvironmentProblem: as ``check``.
        """
        self.check()
        import datasets

        try:
            with _quiet():
                if self.folder is not None and (self.folder / "dataset_dict.json").is_file():
                    return dict(datasets.load_from_disk(str(self.folder)))
                if self.folder is not None and (self.folder / "state.json").is_file():
                    return {"train": datasets.load_from_disk(str(self.folder))}
                return self._built()
        except (DataError, EnvironmentProblem):
            raise
        except ConnectionError as error:
            raise _unreachable(self.describe(), str(error)) from error
        except Exception as error:  # datasets, its readers and the hub's client raise dozens of kinds
            raise self._unreadable(error) from error

    def find(self, name: str) -> str | None:
        """Return the data set's own name of our split ``train``, ``validation`` or ``test``; None without one."""
        return next((known for known in SPLIT_NAMES[name] if known in self.splits), None)

    def open(self, own_name: str, encoding: str) -> Table:
        """Return the rows of a split, batch by batch.

        Args:
            own_name: as ``find`` returns it.
            encoding: of CSV files in a folder; `datasets` reads the rest, as UTF-8.

        Raises:
            DataError: it has no row or, while rows are taken, one that cannot be read.
        """
        found = self.splits[own_name]
        if isinstance(found, list):
            return _chained([read_table(Path(file), encoding) for file in found])
        batches = self._batches(found)
        first = next(batches, {})
        columns = tuple(found.column_names or first)

        def rows() -> Iterator[list[dict[str, Any]]]:
            for batch in itertools.chain([first], batches):
                yield [dict(zip(batch, cells, strict=True)) for cells in zip(*batch.values(), strict=True)]

        return not_empty(f"{self.describe()}, split {own_name!r},", Table(columns, batch_records(rows())))

    def _batches(self, found: Any) -> Iterator[dict[str, list[Any]]]:
        try:
            yield from found.iter(batch_size=_BATCH_ROWS)
        except Exception as error:  # as above
            raise self._unreadable(error) from error

    def _built(self) -> Mapping[str, Any]:
        import datasets

        builder = datasets.load_dataset_builder(self.name, self.config, revision=self.revision)
        kind = builder.__module__.rpartition(".")[2]
        files = {str(name): [str(file) for file in files] for name, files in (builder.config.data_files or {}).items()}
        packed = [file for group in files.values() for file in group if file.lower().endswith(PACKED)]
        if packed:
            raise DataError(f"{self.describe()} holds packed files, such as {packed[0]}.", "Unpack it first.")
        if kind not in _SAFE_KINDS:
            raise DataError(
                f"{self.describe()} holds data of the kind {kind!r}; CSV, JSON, Parquet and Arrow are read.",
                "Convert it to one of these.",
            )
        if self.folder is None:
            builder.download_and_prepare()
            return dict(builder.as_dataset())
        if kind == "csv" and builder.config.sep == ",":
            # Our own reader knows lines, keeps ids such as 007, and takes "None" for a word.
            return files
        # Streamed: no copy of the folder goes to a cache, which would be stale when the folder changes.
        return dict(builder.as_streaming_dataset())

    def _unreadable(self, error: Exception) -> DataError:
        text = " ".join(str(error).split()) or type(error).__name__
        hint = "Check data.dataset, data.dataset_config and data.dataset_revision."
        if "Config name is missing" in text or "BuilderConfig" in text:
            hint = "Choose one with data.dataset_config=NAME."
        elif "scripts are no longer supported" in text:
            hint = "Use a data set of plain files; dlgsum runs no code of a data set."
        return DataError(f"{self.describe()} cannot be read ({type(error).__name__}: {text[:500]}).", hint)


def _chained(tables: list[Table]) -> Table:
    """Return several files as one; lines are those of each file."""
    columns = dict.fromkeys(column for table in tables for column in table.columns)
    notes = dict.fromkeys(note for table in tables for note in table.notes)
    records = (record for table in tables for record in table.records)
    return Table(tuple(columns), records, tables[0].delimiter, tables[0].inert, tuple(notes))


def _refuse_packed(folder: Path) -> None:
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.suffix.lower() in PACKED and not hidden:
            raise DataError(f"{folder} holds a packed file, {file.name}.", "Unpack it first.")


def _is_cached(name: str) -> bool:
    from huggingface_hub import constants

    cache = os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets"
    return (Path(cache) / name.replace("/", "___")).is_dir()


def _ask_hub(dataset: Dataset) -> None:
    """Ask the hub whether it has a data set, for at most ``PATIENCE`` seconds."""
    from huggingface_hub import constants, get_token

    if constants.is_offline_mode():
        raise _unreachable(dataset.describe(), "the hub is switched off by HF_HUB_OFFLINE")
    hub = constants.ENDPOINT
    url = f"{hub}/api/datasets/{dataset.name}" + (f"/revision/{dataset.revision}" if dataset.revision else "")
    status, why = ask(url, PATIENCE)
    if status is None or status >= 500:
        raise _unreachable(dataset.describe(), why)
    # The question carries no token, so a user who has one may well have access.
    if status in (401, 403, 404) and not get_token():
        raise DataError(
            f"data.dataset={dataset.describe()} is neither a folder nor a data set that {hub} shows (status {status}).",
            "Check the name; a private or gated one needs `hf auth login` and access to it.",
        )


def _unreachable(name: str, why: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"The data set {name} is not in the local cache, and the hub cannot be used: {why}.",
        "Check the connection, or name a folder that holds the data set: data.dataset=FOLDER.",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the progress bars of ``datasets`` off the screen."""
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
