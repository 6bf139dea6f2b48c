"""`dlgsum doctor`."""

from __future__ import annotations

import dataclasses

import typer

from dlgsum.cli.output import AsJson, Debug, print_json, show_check
from dlgsum.core.console import results


def doctor(as_json: AsJson = False, debug: Debug = False) -> None:
    """Check this machine: versions, device, folders, hub, scorers, fonts, and a small training run.

    Exit code 0 when a run can work here, with or without warnings; 4 when it cannot.

    Example:

      dlgsum doctor
    """
    from dlgsum.recipes import doctor as recipe

    checks = recipe.doctor(show_check)
    counts = {status: sum(check.status == status for check in checks) for status in ("ok", "warning", "failed")}
    if as_json:
        print_json({"ok": not counts["failed"], "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        results().print(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    if counts["failed"]:
        raise typer.Exit(4)
