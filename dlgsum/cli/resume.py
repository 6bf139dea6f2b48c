"""`dlgsum resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from dlgsum.cli.completion.completers import complete_override, complete_run
from dlgsum.cli.output import AsJson, ConfigFile, Debug, request
from dlgsum.cli.train import Processes, TimeLimit, limits, tell
from dlgsum.core.console import messages
from dlgsum.core.errors import UsageError


def resume(
    run: Annotated[
        str,
        typer.Argument(
            help="A run's id or unique prefix, latest, or its folder.", autocompletion=complete_run, show_default=True
        ),
    ] = "latest",
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OVERRIDES",
            help="SECTION.KEY=VALUE that does not decide the result, such as monitoring.samples=3.",
            autocompletion=complete_override,
        ),
    ] = None,
    config: ConfigFile = None,
    nproc: Processes = 1,
    time_limit: TimeLimit = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although data or settings have changed since the checkpoint.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Prove on this configuration, in a few steps, that resuming changes nothing; keep nothing."
        ),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Go on with a run that was interrupted or killed, from its newest valid checkpoint.

    Weights, optimizer, schedule, random states, position in the data, best models and early stopping are as they were:
    on a CPU the result is the same bit for bit. A broken checkpoint is set aside and the one before is used.

    Examples:

      dlgsum resume

      dlgsum resume 20261121_1612 --time-limit 2h

      dlgsum resume latest --verify
    """
    from dlgsum.recipes import resume as recipe
    from dlgsum.recipes.result import TrainingResult

    allowed = limits(time_limit, force=force)
    if "=" in run:  # no run's name has one: it is an override of the latest
        run, overrides = "latest", [run, *(overrides or [])]
    asked = request(overrides, config, None)
    if verify:
        if nproc > 1 or time_limit or force:
            raise UsageError("--verify takes neither --nproc nor --time-limit nor --force", "It uses one process.")
        from dlgsum.cli.output import show_check
        from dlgsum.cli.verify import show_proof
        from dlgsum.recipes.verify import verify as prove

        show_proof(prove(run, asked, on_check=show_check), as_json)
        return
    found = recipe.find(run, asked, force=force)
    if isinstance(found, TrainingResult):
        messages().print(f"{found.run_id} is complete; there is nothing to resume.", markup=False)
        result, mini = found, False
    else:
        from dlgsum.recipes.start import start

        result = start(found.settled, run=found.run, processes=nproc, limits=allowed)
        mini = found.settled.model.kind == "mini"
    tell(result, as_json, demonstration=mini)
