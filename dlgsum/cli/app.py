"""The `dlgsum` command: its subcommands, and what every error looks like.

Nothing heavy is imported here; a command imports its recipe when it runs.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from dlgsum import __version__
from dlgsum.cli import (
    alerts,
    config,
    data,
    debug_nan,
    doctor,
    evaluate,
    experiments,
    find_batch_size,
    hardware,
    models,
    predict,
    resume,
    sync,
    train,
    watch,
)
from dlgsum.cli.completion import answer
from dlgsum.cli.completion import command as completion
from dlgsum.core.errors import DlgsumError
from dlgsum.core.log import show_warnings

app = typer.Typer(
    name="dlgsum",
    help="Train and use Korean dialogue summarizers. Any setting can be changed as SECTION.KEY=VALUE.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,  # `dlgsum completion` is the one way; Typer's own script for bash stumbles over =
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dlgsum {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Train and use Korean dialogue summarizers. Any setting can be changed as SECTION.KEY=VALUE."""


app.command("train")(train.train)
app.command("resume")(resume.resume)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("watch")(watch.watch)
app.command("sync")(sync.sync)
app.command("doctor")(doctor.doctor)
app.command("debug-nan")(debug_nan.debug_nan)
app.command("find-batch-size")(find_batch_size.find_batch_size)
app.command("gpu-check")(hardware.gpu_check)
app.command("completion")(completion.completion)
app.add_typer(experiments.app, name="experiments", help="Find, compare and repeat experiments.")
app.add_typer(models.app, name="models", help="Find, compare, promote, verify and export trained models.")
app.add_typer(config.app, name="config", help="Look at the configuration.")
app.add_typer(alerts.app, name="alerts", help="Try who is told of trouble.")
app.add_typer(data.app, name="data", help="Check data before training, divide a file, write the bundled files.")


def main() -> None:
    """Run the command line; every error of ours becomes a message and its exit code."""
    if sys.argv[1:2] == ["__complete"]:  # a shell's completion script asks, at every TAB
        answer.main(sys.argv[2:], app)
        return
    debug = "--debug" in sys.argv
    show_warnings()
    # Threads that wait by spinning for long starve each other as soon as another program wants a core. On two cores, a
    # short spin trained as fast as the default (16 steps/s; sleeping at once: 8), and beside one busy core products
    # of small matrices ran two to eight times as fast as with the default.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    try:
        # Typer itself ends quietly at a broken pipe, and with 130 at Ctrl-C.
        app(standalone_mode=True)
    except DlgsumError as error:
        if debug:
            _trace()
        _complain(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        if debug:
            _trace()
        _complain(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
        sys.exit(4)
    except Exception as error:
        if debug:
            _trace()
        _complain(f"{type(error).__name__}: {error}\nThis is a fault in dlgsum; --debug shows where.")
        sys.exit(1)


def _trace() -> None:
    from dlgsum.core.masking import masked

    sys.stderr.write(masked(traceback.format_exc()))


def _complain(text: str) -> None:
    from dlgsum.core.console import messages
    from dlgsum.core.masking import masked

    messages().print(f"error: {masked(text)}", style="red", markup=False)
