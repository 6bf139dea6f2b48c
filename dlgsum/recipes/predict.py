"""Write summaries for dialogues: a submission file, JSON lines, or text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dlgsum.core.errors import UsageError
from dlgsum.core.files import dumps, write_text_atomic
from dlgsum.data.clean import clean
from dlgsum.data.rows import Dialogue, Split, make_split
from dlgsum.data.sources import load_file
from dlgsum.data.tables import csv_line, inert
from dlgsum.recipes.use import TrainedModel, load_model

FORMATS = (".csv", ".jsonl")


def read_input(file: Path, trained: TrainedModel) -> Split:
    """Read the dialogues of a file; every row is kept, in order.

    Raises:
        DataError: the file is missing, unreadable or lacks a column.
    """
    return load_file(file, trained.config.data, name="test", need_summary=False)


def text_input(text: str, trained: TrainedModel) -> Split:
    """Make a data set of one dialogue.

    Raises:
        UsageError: the text is empty.
    """
    cleaned, _ = clean(text, trained.config.data.cleaning)
    if not cleaned:
        raise UsageError("the dialogue is empty", "Give one turn a line, such as '#Person1#: 안녕하세요.'")
    return make_split("text", "the command line", [Dialogue("text", cleaned, ())])


def check_output(output: Path) -> None:
    """Refuse an output file of an unknown format before any work is done.

    Raises:
        UsageError: the suffix is neither .csv nor .jsonl, or the folder does not exist.
    """
    if output.suffix.lower() not in FORMATS:
        raise UsageError(f"{output}: the name must end in {' or '.join(FORMATS)}")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"{output}: the folder {output.absolute().parent} does not exist")


def predict(
    trained: TrainedModel,
    split: Split,
    *,
    batch_size: int | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Return a summary for each row, in the order of the rows; an empty dialogue gives an empty summary.

    Raises:
        EnvironmentProblem: the model cannot be loaded.
    """
    filled = [index for index, row in enumerate(split.rows) if row.dialogue.strip()]
    texts = [""] * len(split.rows)
    if filled:
        size = trained.rows_in_a_batch(batch_size)
        loaded = load_model(trained)
        part = make_split(split.name, split.source, [split.rows[index] for index in filled])
        generated = loaded.generator.run(loaded.encode(part), batch_size=size, on_batch=on_batch)
        for index, text in zip(filled, generated.texts, strict=True):
            texts[index] = text
    return texts


def render(rows: Sequence[Dialogue], texts: Sequence[str], *, suffix: str, index: bool, id_name: str = "fname") -> str:
    """Return the content of a submission: ``fname,summary`` as CSV, or the same as JSON lines.

    Args:
        suffix: ".csv" or ".jsonl".
        index: put the unnamed index column that some submission forms have in front (CSV only).

    A CSV cell that a spreadsheet would run as a formula gets a leading apostrophe.
    """
    if suffix == ".jsonl":
        return "".join(dumps({id_name: row.id, "summary": text}) + "\n" for row, text in zip(rows, texts, strict=True))
    lines = [csv_line([*([""] if index else []), id_name, "summary"])]
    for number, (row, text) in enumerate(zip(rows, texts, strict=True)):
        lines.append(csv_line([*([str(number)] if index else []), row.id, inert(text)]))
    return "".join(lines)


def write_predictions(output: Path, rows: Sequence[Dialogue], texts: Sequence[str], *, index: bool) -> None:
    """Write a submission file atomically."""
    write_text_atomic(output, render(rows, texts, suffix=output.suffix.lower(), index=index))
