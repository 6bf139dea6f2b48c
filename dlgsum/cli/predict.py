"""`dlgsum predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dlgsum.cli.completion.completers import complete_input
from dlgsum.cli.output import AsJson, BatchSize, Debug, Overrides, Run, print_json, progress_bar, request
from dlgsum.core.console import messages
from dlgsum.core.errors import UsageError
from dlgsum.core.files import is_file


def predict(
    run: Run,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Dialogues (.csv, .tsv, .jsonl, .parquet); '-': one dialogue on standard input.",
            autocompletion=complete_input,
        ),
    ] = None,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write: .csv or .jsonl.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="One dialogue, instead of a file.")] = None,
    index: Annotated[bool, typer.Option("--index", help="Put the unnamed index column in front.")] = False,
    batch_size: BatchSize = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    r"""Write a summary for each dialogue, in the order of the file.

    Examples:

      dlgsum predict latest test.csv -o submission.csv

      dlgsum predict best test.csv -o submission.csv generation.num_beams=8

      dlgsum predict latest --text $'#Person1#: 안녕하세요.\n#Person2#: 네, 예약하려고요.'
    """
    from dlgsum.recipes import predict as recipe
    from dlgsum.recipes.use import find_model

    lines = list(overrides or [])
    if file is not None and "=" in str(file) and not is_file(file):  # an override, since the file may be left out
        lines.insert(0, str(file))
        file = None
    trained = find_model(run, request(lines, None, None))
    if text is not None and file is not None:
        raise UsageError("--text and a file are both given; use one")
    if output is not None:
        recipe.check_output(output)
    if index and (as_json or (output is not None and output.suffix.lower() != ".csv")):
        raise UsageError("--index adds a column, so it goes with CSV only")
    if file is not None and str(file) != "-":
        split = recipe.read_input(file, trained)
        for note in split.notes:
            messages().print(f"{file}: {note}", markup=False)
        for skipped in split.skipped:
            messages().print(f"warning: row {skipped.id}: {skipped.reason}", style="yellow", markup=False)
    else:
        if text is None and file is None and sys.stdin.isatty():
            raise UsageError("there is nothing to summarize", "Give a file, --text, or a dialogue on standard input.")
        split = recipe.text_input(sys.stdin.read() if text is None else text, trained)
    with progress_bar("generating") as on_batch:
        texts = recipe.predict(trained, split, batch_size=batch_size, on_batch=on_batch)
    if output is not None:
        recipe.write_predictions(output, split.rows, texts, index=index)
        messages().print(f"{len(texts)} summaries by {trained.name} in {output}", markup=False)
    if as_json:
        print_json(
            {
                "model": trained.name,
                "predictions": [
                    {"fname": row.id, "summary": text} for row, text in zip(split.rows, texts, strict=True)
                ],
            }
        )
    elif output is None:
        if split.name == "text":
            typer.echo(texts[0])
        else:
            typer.echo(recipe.render(split.rows, texts, suffix=".csv", index=index), nl=False)
