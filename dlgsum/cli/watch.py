"""`dlgsum watch`."""

from __future__ import annotations

import signal
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from dlgsum.cli.completion.completers import complete_override, complete_run
from dlgsum.cli.output import AsJson, Debug, print_json, request, seconds
from dlgsum.core.console import messages, results
from dlgsum.core.errors import UsageError

if TYPE_CHECKING:
    from dlgsum.config.request import Request
    from dlgsum.monitoring.alerts import Alerts
    from dlgsum.recipes.watch import Watcher
    from dlgsum.recipes.watch_state import RunState
    from dlgsum.tracking.run import RunFolder

_POLL = 0.5  # seconds between two looks
_EXIT_SILENT = 4


def watch(
    run: Annotated[
        str,
        typer.Argument(
            help="A run's id or unique prefix, best, its folder, or latest: the newest that runs, else the newest.",
            autocompletion=complete_run,
            show_default=True,
        ),
    ] = "latest",
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OVERRIDES",
            help="Who is told, such as monitoring.alerts.urls=[json://host]; else as the run was told.",
            autocompletion=complete_override,
        ),
    ] = None,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="So long without any report makes a run silent.")
    ] = "5m",
    start_timeout: Annotated[
        str,
        typer.Option("--start-timeout", metavar="TIME", help="The same before the first step, while all is loaded."),
    ] = "30m",
    exit_when_silent: Annotated[
        bool, typer.Option("--exit-when-silent", help="Alert, then end with exit code 4; for cron and systemd.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a run to begin where none runs.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Show how the run is now, tell nobody, and end.")] = False,
    every: Annotated[
        str, typer.Option("--every", metavar="TIME", help="Not on a terminal: time between two lines of progress.")
    ] = "10s",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Follow a run from another process, and alert when it stops reporting or its process is gone.

    Only the files in the run's folder are read, so it works while the run hangs, and beside it on a shared disk.
    On a terminal a table is shown; elsewhere a line is printed when something changes (--json: one object a line).

    It ends when the run does, with exit code 0 when the run completed, 5 when it failed or its process died, 143 when
    it was interrupted, 4 when its folder was removed. Ctrl-C leaves the run alone and ends with 130.

    Examples:

      dlgsum watch

      dlgsum watch 20261121_1612 --timeout 10m 'monitoring.alerts.urls=[json://host/path]'

      dlgsum watch --once --json
    """
    limits, pause = (seconds(timeout), seconds(start_timeout)), seconds(every)
    if "=" in run:  # no run's name has one: it is an override
        run, overrides = "latest", [run, *(overrides or [])]
    if wait and (run != "latest" or once):
        raise UsageError("--wait waits for the newest run, and takes neither RUN nor --once", "Leave them out.")
    from dlgsum.core.signals import terminated_like_interrupted
    from dlgsum.recipes import watch as recipe

    try:
        with terminated_like_interrupted():
            state = _watch(
                run, request(overrides, None, None), limits, pause,
                wait=wait, once=once, until_silent=exit_when_silent, as_json=as_json,
            )  # fmt: skip
    except KeyboardInterrupt as error:
        asked_to_end = bool(error.args) and error.args[0] != signal.SIGINT
        messages().print("Left; the run is not touched.")
        raise typer.Exit(143 if asked_to_end else 130) from None
    silent = exit_when_silent and state.condition == "silent"
    raise typer.Exit(_EXIT_SILENT if silent else recipe.exit_code(state))


def _watch(
    run: str,
    asked: Request,
    limits: tuple[float, float],
    every: float,
    *,
    wait: bool,
    once: bool,
    until_silent: bool,
    as_json: bool,
) -> RunState:
    from dlgsum.recipes import watch_find
    from dlgsum.recipes.watch import Watcher
    from dlgsum.recipes.watch_state import ENDED

    timeout, start_timeout = limits
    folder = _wait(asked) if wait else watch_find.find(run, asked)
    config = watch_find.read_config(folder, asked)
    if once:
        state = Watcher(folder, config, timeout=timeout, start_timeout=start_timeout, grace=0.0).look()
        _show_once(state, as_json)
        return state
    if not config.monitoring.alerts.addresses and folder.state not in ENDED:
        messages().print(
            "Nobody is told when the run falls silent: set SLACK_WEBHOOK_URL, DISCORD_WEBHOOK_URL or "
            "monitoring.alerts.urls."
        )

    def open_alerts(recorded: bool) -> Alerts:
        return watch_find.open_alerts(folder, config, recorded=recorded)

    watcher = Watcher(folder, config, timeout=timeout, start_timeout=start_timeout, open_alerts=open_alerts)
    with closing(watcher):
        return _follow(watcher, every, until_silent=until_silent, as_json=as_json)


def _wait(asked: Request) -> RunFolder:
    from dlgsum.recipes import watch_find

    messages().print("Waiting for a run to begin …")
    return watch_find.wait_for(asked)


def _show_once(state: RunState, as_json: bool) -> None:
    from dlgsum.cli import watch_view

    if as_json:
        print_json(watch_view.as_plain(state))
    else:
        console = results()
        console.print(watch_view.table(state, None), width=min(console.width, 100))


def _follow(watcher: Watcher, every: float, *, until_silent: bool, as_json: bool) -> RunState:
    from dlgsum.cli import watch_view

    console = results()
    live = console.is_interactive and not as_json
    show = watch_view.LiveTable(console) if live else watch_view.Lines(typer.echo, every, as_json=as_json)
    with show:
        for state in watcher.states(_POLL):
            show.take(state)
            if until_silent and state.condition == "silent":
                break
    return state
