"""Which files a run reads, and their rows: cleaned, counted, with a reason for each one passed over."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlgsum.config.schema.data import Columns, Data
from dlgsum.core.errors import ConfigError, DataError, nearest
from dlgsum.data.clean import clean
from dlgsum.data.rows import Dialogue, Skipped, Split, fingerprint
from dlgsum.data.tables import Record, Table, read_table

SAMPLE_FOLDER = Path(__file__).parent / "sample"
_SHOWN = 5  # rows named in a message; the complete list travels in the split
_BROKEN = re.compile("[\0\ud800-\udfff]")  # JSON escapes can smuggle these in; tokenizers choke on them


@dataclass(frozen=True, slots=True)
class DataFiles:
    """The files of a run, and why it is these."""

    train: Path
    validation: Path
    test: Path | None
    reason: str
    bundled: bool


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


def resolve_files(data: Data, *, folder: Path) -> DataFiles:
    """Decide which files a run reads; nothing is opened.

    Relative paths start at ``folder``. ``data.test`` is used with whatever was chosen for training, except
    with ``data.source=sample``, which uses nothing but the bundled files.

    Raises:
        ConfigError: a file is set without the one it needs, or ``data.source=csv`` lacks one.
    """
    if data.source == "sample":
        ignored = [key for key in ("train", "validation", "test") if getattr(data, key) is not None]
        unused = "".join(f"; data.{key} is not used" for key in ignored)
        return _bundled(f"data.source=sample{unused}")
    train, validation, test = (_path(folder, value) for value in (data.train, data.validation, data.test))
    if train and validation:
        return DataFiles(train, validation, test, "data.train and data.validation are set", bundled=False)
    if data.source == "csv":
        missing = [key for key in ("train", "validation") if getattr(data, key) is None]
        raise ConfigError(
            [f"data.source=csv needs data.{key}, which is not set" for key in missing],
            "Set " + " ".join(f"data.{key}=FILE" for key in missing) + ", or use data.source=auto.",
        )
    if train:
        raise ConfigError(
            [f"data.train={data.train} is set and data.validation is not; it chooses the best model"],
            "Set data.validation=FILE as well.",
        )
    if validation:
        raise ConfigError(
            [f"data.validation={data.validation} is set and data.train is not"],
            "Set data.train=FILE as well, or leave both out.",
        )
    return _found(folder, test)


def _found(folder: Path, test: Path | None) -> DataFiles:
    own = {name: folder / "data" / f"{name}.csv" for name in ("train", "dev", "test")}
    there = [name for name in ("train", "dev") if own[name].is_file()]
    if len(there) == 2:
        test = test or (own["test"] if own["test"].is_file() else None)
        return DataFiles(own["train"], own["dev"], test, f"{own['train']} and dev.csv exist", bundled=False)
    where = f"{folder / 'data'} has {there[0]}.csv only" if there else f"{folder / 'data'} has no train.csv"
    files = _bundled(f"no data.train is set and {where}: the bundled dialogues are used")
    return dataclasses.replace(files, test=test) if test else files


def _bundled(reason: str) -> DataFiles:
    train, validation, test = (SAMPLE_FOLDER / f"{name}.csv" for name in ("train", "dev", "test"))
    return DataFiles(train, validation, test, reason, bundled=True)


def _path(folder: Path, value: str | None) -> Path | None:
    return folder / Path(value).expanduser() if value else None


def load_splits(files: DataFiles, data: Data) -> Splits:
    """Read, clean and limit the files of a run; a test file may lack summaries.

    Raises:
        DataError: as ``load_file``.
    """
    test = None
    train = load_file(files.train, data, name="train", need_summary=True, limit=data.max_train_samples)
    limit = data.max_eval_samples
    validation = load_file(files.validation, data, name="validation", need_summary=True, limit=limit)
    if files.test is not None:
        test = load_file(files.test, data, name="test", need_summary=None, limit=limit)
    return Splits(train, validation, test)


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
    if path.parent == SAMPLE_FOLDER:
        data = dataclasses.replace(data, columns=Columns(), encoding="utf-8")
    table = read_table(path, data.encoding)
    _check_columns(path, table, data.columns, need_summary=need_summary)
    reader = _RowReader(data, need_summary)
    for record in table.records:
        if limit is not None and len(reader.rows) >= limit:
            break
        reader.add(record)
    _check_rows(path, reader)
    rows = tuple(reader.rows)
    skipped = tuple(sorted([*reader.skipped, *reader.unscored()], key=lambda row: row.line))
    return Split(name, str(path), rows, skipped, reader.cleaning, fingerprint(rows))


class _RowReader:
    """Turns records into dialogues, and remembers what it passed over."""

    def __init__(self, data: Data, need_summary: bool | None) -> None:
        self.columns = data.columns
        self.steps: tuple[str, ...] = tuple(data.cleaning)
        self.need_summary = need_summary
        self.rows: list[Dialogue] = []
        self.lines: list[int] = []
        self.skipped: list[Skipped] = []
        self.cleaning = dict.fromkeys(self.steps, 0)
        self._first_line: dict[str, int] = {}

    def add(self, record: Record) -> None:
        """Make a row of a record, or note why not."""
        identifier, problem = _text(record.cells.get(self.columns.id), "id")
        try:
            if problem or record.problem:
                raise _Unusable(record.problem or problem)
            if not identifier.strip():
                raise _Unusable("no id")
            row, changes = self._dialogue(identifier, record)
        except _Unusable as error:
            printable = identifier.encode("utf-8", "replace").decode()
            self.skipped.append(Skipped(printable, record.line, str(error)))
            return
        for step in changes:
            self.cleaning[step] += 1
        first = self._first_line.setdefault(identifier, record.line)
        if first != record.line:
            reason = f"the id is also on line {first}"
            self.skipped.append(Skipped(identifier, record.line, reason, kept=True))
        if not row.dialogue:
            reason = "empty dialogue: predicted as empty text"
            self.skipped.append(Skipped(identifier, record.line, reason, kept=True))
        self.rows.append(row)
        self.lines.append(record.line)

    def unscored(self) -> list[Skipped]:
        """Return the rows that keep an otherwise summarised file from being scored."""
        if not any(row.references for row in self.rows):
            return []
        reason = "no summary: the file is predicted, not scored"
        pairs = zip(self.rows, self.lines, strict=True)
        return [Skipped(row.id, line, reason, kept=True) for row, line in pairs if not row.references]

    def _dialogue(self, identifier: str, record: Record) -> tuple[Dialogue, list[str]]:
        changes: list[str] = []
        dialogue = self._clean(record.cells.get(self.columns.dialogue), "dialogue", changes)
        if not dialogue and self.need_summary:
            raise _Unusable("empty dialogue")
        references = []
        for value in [] if self.need_summary is False else self._references(record):
            reference = self._clean(value, "summary", changes)
            if reference:
                references.append(reference)
        if self.need_summary and not references:
            raise _Unusable("no summary")
        topic, problem = _text(record.cells.get(self.columns.topic), "topic")
        return Dialogue(identifier, dialogue, tuple(references), "" if problem else topic.strip()), changes

    def _references(self, record: Record) -> list[Any]:
        names = dict.fromkeys([self.columns.summary, *self.columns.extra_summaries])
        values: list[Any] = []
        for value in (record.cells.get(name) for name in names):
            values += value if isinstance(value, list) else [value]
        return values

    def _clean(self, value: Any, what: str, changes: list[str]) -> str:
        text, problem = _text(value, what)
        if problem:
            raise _Unusable(problem)
        text, changed = clean(text, self.steps)
        changes += changed
        # Whatever the cleaning steps, a text of nothing but blanks is no text.
        return text if text.strip() else ""


class _Unusable(Exception):
    """A record that cannot become a row; its text is the reason."""


def _text(value: Any, what: str) -> tuple[str, str]:
    """Return a cell as text, and what is wrong with it ("" when nothing is)."""
    if value is None:
        return "", ""
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=True), f"the {what} is a JSON {type(value).__name__}, not text"
    text = str(value)
    return text, f"the {what} has a broken character" if _BROKEN.search(text) else ""


def _check_columns(path: Path, table: Table, columns: Columns, *, need_summary: bool | None) -> None:
    wanted = {"id": columns.id, "dialogue": columns.dialogue}
    if need_summary:
        wanted["summary"] = columns.summary
    missing = {key: name for key, name in wanted.items() if name not in table.columns}
    if not missing:
        return
    free = [name for name in table.columns if name not in wanted.values()]
    by_lower = {name.lower(): name for name in free}
    hints = []
    for key, name in missing.items():
        close = nearest(name.lower(), by_lower)
        hints.append(f"data.columns.{key}={by_lower[close] if close else 'NAME'}")
    names = " and ".join(f"{name!r}" for name in missing.values())
    there = ", ".join(table.columns) or "none with a name"
    hint = f"If it has another name, set {' '.join(hints)}."
    if len(table.columns) == 1 and (separator := re.search(r"[;\t|,]", table.columns[0])):
        reads = "tabs in .tsv and commas in .csv files"
        hint = f"Its fields seem to be separated by {separator.group()!r}; dlgsum reads {reads}: convert it."
    raise DataError(f"{path} has no column {names}. Its columns: {there}.", hint)


def _check_rows(path: Path, reader: _RowReader) -> None:
    dropped = [row for row in reader.skipped if not row.kept]
    if reader.need_summary:
        if reader.rows:
            return
        counts = Counter(row.reason for row in dropped).most_common(_SHOWN)
        reasons = "; ".join(f"{count:,} × {reason}" for reason, count in counts)
        raise DataError(
            f"{path} has no usable row. Of {len(dropped):,} rows: {reasons}.",
            "A usable row has an id, a dialogue and a summary; check data.columns.",
        )
    if dropped:
        shown = "; ".join(f"line {row.line:,} ({row.id or 'no id'}): {row.reason}" for row in dropped[:_SHOWN])
        more = f"; and {len(dropped) - _SHOWN:,} more" if len(dropped) > _SHOWN else ""
        raise DataError(
            f"{path} has {len(dropped):,} rows that cannot be predicted: {shown}{more}.",
            "Each row of this file is predicted, so none may be passed over: correct these rows.",
        )
