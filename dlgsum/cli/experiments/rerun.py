"""`dlgsum experiments rerun`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from dlgsum.cli.completion.completers import complete_override, complete_run
from dlgsum.cli.output import AsJson, Debug, OutputDir, StoreUrl, place, print_json, print_table
from dlgsum.cli.train import Processes, TimeLimit, limits, show_result
from dlgsum.config.request import Request
from dlgsum.core.console import messages, results
from dlgsum.core.world import current_world

if TYPE_CHECKING:
    from dlgsum.recipes.rerun import Outcome, Rerun

_SHARES = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rouge_combined_f1")  # shown x 100, as they are published


def rerun(
    run: Annotated[
        str,
        typer.Argument(help="A run's id or unique prefix, latest, best, or its folder.", autocompletion=complete_run),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OVERRIDES",
            help="Changes of the run's own configuration, such as general.seed=7.",
            autocompletion=complete_override,
        ),
    ] = None,
    nproc: Processes = 1,
    time_limit: TimeLimit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is not as it was, and stop.")] = False,
    output_dir: OutputDir = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train a run again, with its own configuration and seed, as a new run, and compare the results.

    Says first what is not as it was: settings, starting weights, data, versions, hardware, commit. On the same machine
    with the same software the weights are the same, bit for bit (on a GPU with training.full_determinism=true).

    Examples:

      dlgsum experiments rerun 20261121_1612

      dlgsum experiments rerun best general.seed=7 --time-limit 2h

      dlgsum experiments rerun latest --dry-run
    """
    from dlgsum.recipes import rerun as recipe

    allowed = limits(time_limit)
    given = list(overrides or [])
    where = place(output_dir, store)
    # Said as an override, it says where the runs are as well.
    places = [line for line in given if line.startswith(("general.output_dir=", "tracking.store="))]
    asked = Request(overrides=[*where.overrides, *places], environ=where.environ)
    found = recipe.find(run, [line for line in given if line not in places], asked, processes=nproc)
    speaks = current_world().first
    if speaks and not (dry_run and as_json):
        _say_before(found)
    if dry_run:
        if speaks and as_json:
            print_json(_before(found))
        return
    outcome = recipe.train(found, allowed)
    if not speaks:
        return
    if as_json:
        after = {key: value for key, value in dataclasses.asdict(outcome).items() if key not in ("result", "original")}
        print_json({**dataclasses.asdict(outcome.result), "rerun": {**_before(found), **after}})
    else:
        show_result(outcome.result, demonstration=found.settled.model.kind == "mini")
        _show_after(outcome)


def _before(found: Rerun) -> dict[str, object]:
    changed = [dataclasses.asdict(it) for it in found.changed]
    return {"original": found.original.id, "changed": changed, "notes": found.notes}


def _say_before(found: Rerun) -> None:
    """Say on standard error what is not as it was."""

    def say(text: str, style: str | None = None) -> None:
        messages().print(text, style=style, markup=False)

    say(f"rerun       of {found.original.id}, seed {found.settled.config.general.seed}")
    for note in found.notes:
        say(f"note        {note}")
    data = [it for it in found.changed if it.kind == "data"]
    others = [it for it in found.changed if it.kind != "data"]
    for it in data:
        say(f"warning: OTHER DATA than then, so other results are to be expected: {it}", "yellow")
    for number, it in enumerate(others):
        say(f"{'' if number else 'differs':<12}{it}")
    if not found.changed:
        say(f"differs     nothing that is recorded{', and what it started from is not' if found.base_unknown else ''}")


def _show_after(outcome: Outcome) -> None:
    now = outcome.result.best_metrics
    names = [name for name in now if name in outcome.metrics_then and name != "runtime"]
    rows = [[name, *(_number(name, it[name]) for it in (outcome.metrics_then, now))] for name in names]
    steps = [f"step {outcome.step_then}", f"step {outcome.result.best_step}"]
    if rows:
        title = f"{outcome.original} and {outcome.result.run_id} (F1 x 100)"
        print_table(title, ["validation", f"then, {steps[0]}", f"now, {steps[1]}"], rows)
    show = results().print
    if outcome.other_scale:
        show(f"warning: then and now are not on one scale: {outcome.other_scale}", markup=False)
    if outcome.same:
        show(f"weights     the same weights, bit for bit (sha256 {str(outcome.weights_now)[:12]})", markup=False)
    elif outcome.same is None:
        gone = outcome.original if outcome.weights_then is None else outcome.result.run_id
        show(f"weights     cannot be compared: {gone} has no best model", markup=False)
    else:
        then, after = str(outcome.weights_then)[:12], str(outcome.weights_now)[:12]
        show(f"weights     other weights (sha256 {then} → {after}); what may explain it:", markup=False)
        for reason in outcome.reasons:
            show(f"            {reason}", markup=False)


def _number(name: str, value: float) -> str:
    return f"{100 * value:.4f}" if name in _SHARES else f"{value:.6g}"
