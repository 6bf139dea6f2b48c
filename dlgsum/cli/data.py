"""`dlgsum data`."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlgsum.cli.completion.completers import complete_dialogues, complete_folder, complete_input
from dlgsum.cli.output import (
    AsJson,
    ConfigDir,
    ConfigFile,
    Debug,
    Overrides,
    print_json,
    print_table,
    progress_bar,
    request,
)
from dlgsum.core.console import messages, results
from dlgsum.core.files import is_file

if TYPE_CHECKING:
    from dlgsum.recipes.data_split import SplitResult

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]


@app.callback()
def root() -> None:
    """Check data before training, divide a file, write the bundled files."""


@app.command()
def check(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]... [OVERRIDES]...",
            help="Data files, and overrides of the configuration.",
            autocompletion=complete_input,
        ),
    ] = None,
    config: ConfigFile = None,
    config_dir: ConfigDir = None,
    no_tokens: Annotated[
        bool, typer.Option("--no-tokens", help="Leave out token lengths and unknown characters; needs no model.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Also write the report: .json.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what is in data files, and what is wrong with them: copies, leaks, cut texts, unknown characters, and more.

    Without FILEs those of the configuration are checked. File names such as train.csv, dev.csv and test.csv tell what
    each is for. The exit code is 3 where something would stop a training run, and 0 with warnings.

    Examples:

      dlgsum data check train.csv dev.csv test.csv model=kobart

      dlgsum data check --no-tokens

      dlgsum data check train.csv --no-tokens data.columns.dialogue=text -o report.json
    """
    from dlgsum.core.errors import DataError, UsageError

    if output is not None and output.suffix.lower() != ".json":
        raise UsageError(f"{output}: the name must end in .json", "Try -o report.json.")
    names = [name for name in files or [] if "=" not in name or is_file(Path(name))]
    overrides = [name for name in files or [] if name not in names]
    asked = request(overrides, config, config_dir)
    from dlgsum.recipes import data_check

    with progress_bar("checking rows") as progress:
        report = data_check.check_files([Path(name) for name in names], asked, tokens=not no_tokens, progress=progress)
    if output is not None:
        data_check.save_report(report, output)
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        from dlgsum.recipes.data_report import show_report

        show_report(report, results())
    if output is not None:
        messages().print(f"report in {output}", markup=False)
    if report.errors:
        # With its own exit code, so that scripts stop; the findings are printed already.
        raise typer.Exit(DataError.exit_code)


@app.command()
def split(
    file: Annotated[
        Path, typer.Argument(help="Data file (.csv, .tsv, .jsonl, .parquet).", autocompletion=complete_dialogues)
    ],
    overrides: Overrides = None,
    validation: Annotated[float, typer.Option("--val", metavar="SHARE", help="Share of the rows in dev.")] = 0.1,
    test: Annotated[
        float | None,
        typer.Option("--test", metavar="SHARE", help="Share of the rows in test; without it no test file."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another division.")] = 42,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Folder to write to; without it FILE_split beside the file."
        ),
    ] = None,
    force: Force = False,
    config: ConfigFile = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Divide a file into train, dev and, with --test, test.

    Each part gets the same proportion of each topic and of short and long dialogues. Rows with the same dialogue stay
    together, so nothing leaks. Format and columns stay as they are, and so do the cells, with one exception: in CSV
    and TSV, a dialogue or summary that a spreadsheet would run as a formula gets an apostrophe in front, which reading
    takes off again. Text files are written as UTF-8. Rows with another number of fields than the header are copied
    too, and counted. The same seed gives the same parts, in whatever order the rows come.

    Examples:

      dlgsum data split all.csv

      dlgsum data split all.csv --val 0.1 --test 0.1 --seed 7 -o data
    """
    from dlgsum.data.split import check_shares

    check_shares(validation, test)
    asked = request(overrides, config, config_dir)
    from dlgsum.recipes import data_split

    with progress_bar("dividing (MB)") as progress:
        result = data_split.split_file(
            file, asked, validation=validation, test=test, seed=seed, folder=output, force=force, progress=progress
        )
    if as_json:
        print_json(dataclasses.asdict(result))
    else:
        _show_split(result, config, config_dir)


@app.command()
def sample(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder to write to.", autocompletion=complete_folder)
    ] = Path("data"),
    force: Force = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the bundled dialogues as train.csv, dev.csv and test.csv, to look at or to try things on.

    Example:

      dlgsum data sample
    """
    from dlgsum.recipes.data_split import file_settings, write_sample

    files = write_sample(folder, force=force)
    if as_json:
        print_json({"files": [str(file) for file in files]})
        return
    for file in files:
        results().print(f"wrote  {file}", markup=False)
    # Files in ./data are found by themselves.
    found = folder.resolve() == Path("data").resolve()
    _show_next([] if found else ["data=csv", *file_settings({file.stem: str(file) for file in files})])


def _show_split(result: SplitResult, config: Path | None, config_dir: Path | None) -> None:
    from dlgsum.core.text import plural

    rows = [
        [
            part.name, f"{part.rows:,}", f"{100 * part.wanted:.1f} %", f"{100 * part.share:.1f} %",
            f"{part.dialogues:,}", f"{part.topics:,}", f"{100 * part.topic_gap:.1f}" if result.stratified else "–",
            f"{part.length_p50:,.0f}",
            f"{part.length_p95:,.0f}",
        ]
        for part in result.parts
    ]  # fmt: skip
    columns = ["part", "rows", "wanted", "became", "dialogues", "topics", "topic gap", "length median", "length 95 %"]
    caption = (
        f"topic gap: largest difference of a topic's share from the file's, in points, over "
        f"{plural(result.stratified, 'topic')} frequent enough for that; length: characters of a dialogue"
    )
    print_table(f"{result.source} divided with seed {result.seed}", columns, rows, caption=caption)
    for path in result.files.values():
        results().print(f"wrote  {path}", markup=False)
    if result.misfits:
        lines = ", ".join(f"{line:,}" for line in result.misfit_lines)
        more = " …" if result.misfits > len(result.misfit_lines) else ""
        messages().print(
            f"warning: {plural(result.misfits, 'row')} of {result.source} with another number of fields than the "
            f"header (line{'s' * (result.misfits > 1)} {lines}{more}): copied as found, but training leaves such rows "
            "out. Correct the file and divide it again with --force.",
            style="yellow",
            markup=False,
            highlight=False,
        )
    options = [("--config", config), ("--config-dir", config_dir)]
    given = [word for option, value in options if value is not None for word in (option, str(value))]
    _show_next([*given, *result.settings])


def _show_next(arguments: list[str]) -> None:
    results().print(f"next   {shlex.join(['dlgsum', 'train', *arguments])}", markup=False)
