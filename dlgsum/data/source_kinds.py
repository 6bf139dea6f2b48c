"""The places that the rows of a split can come from: a file, or a split of a data set."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dlgsum.config.schema.data import Columns, Data
from dlgsum.core.errors import DataError
from dlgsum.data.hub import SPLIT_NAMES, Dataset
from dlgsum.data.tables import Table, read_table
from dlgsum.data.text_files import check_file

SAMPLE_FOLDER = Path(__file__).parent / "sample"


class Source(Protocol):
    """Where the rows of one split come from."""

    def describe(self) -> str:
        """Return the place in words, as messages and records name it."""

    def check(self) -> None:
        """Refuse what cannot be used, without opening it.

        Raises:
            DataError: it is not there, or of an unknown kind.
            EnvironmentProblem: it is on a hub that cannot be reached.
        """

    def present(self) -> bool:
        """Say whether there are rows; only a data set's optional test split can have none."""

    def settings(self, data: Data) -> Data:
        """Return the settings to read it with."""

    def open(self, data: Data) -> Table:
        """Return its records as a stream.

        Raises:
            DataError: it cannot be read.
        """


@dataclass(frozen=True, slots=True)
class FileSource:
    """The rows of one file."""

    path: Path

    @property
    def bundled(self) -> bool:
        """Whether the file came with dlgsum."""
        return self.path.parent == SAMPLE_FOLDER

    def describe(self) -> str:
        """Return the path."""
        return str(self.path)

    def check(self) -> None:
        """Refuse a path that cannot be a data file."""
        check_file(self.path)

    def present(self) -> bool:
        """Return True: a file that is named must be there."""
        return True

    def settings(self, data: Data) -> Data:
        """Return the settings, with the default columns and encoding for a bundled file."""
        return dataclasses.replace(data, columns=Columns(), encoding="utf-8") if self.bundled else data

    def open(self, data: Data) -> Table:
        """Return the file's records as a stream."""
        return read_table(self.path, data.encoding)


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """The rows of one split of a data set.

    Attributes:
        split: our name of it: ``train``, ``validation`` or ``test``.
    """

    dataset: Dataset
    split: str

    def describe(self) -> str:
        """Return data set and split."""
        return f"{self.dataset.describe()}, split {self.split}"

    def check(self) -> None:
        """Refuse a data set that is not there."""
        self.dataset.check()

    def present(self) -> bool:
        """Say whether the data set has the split; it is opened for that."""
        return self.dataset.find(self.split) is not None

    def settings(self, data: Data) -> Data:
        """Return the settings as they are."""
        return data

    def open(self, data: Data) -> Table:
        """Return the split's records as a stream."""
        own_name = self.dataset.find(self.split)
        if own_name is None:
            names = " or ".join(SPLIT_NAMES[self.split])
            raise DataError(
                f"{self.dataset.describe()} has no split {names}; it has {', '.join(self.dataset.splits) or 'none'}.",
                f"Take these rows from a file: data.{self.split}=FILE.",
            )
        return self.dataset.open(own_name, data.encoding)
