"""`dlgsum train`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from dlgsum.cli.output import (
    AsJson,
    ConfigDir,
    ConfigFile,
    Debug,
    Overrides,
    print_json,
    print_table,
    request,
    seconds,
    show_check,
)
from dlgsum.core.console import messages, results
from dlgsum.core.errors import UsageError
from dlgsum.core.text import duration, plural
from dlgsum.core.world import current_world

if TYPE_CHECKING:
    from dlgsum.recipes.limits import Limits
    from dlgsum.recipes.result import TrainingResult
    from dlgsum.recipes.settle import Settled


Processes = Annotated[
    int, typer.Option("--nproc", min=1, help="Processes on this machine, one a GPU; started again when one dies.")
]
TimeLimit = Annotated[
    str | None,
    typer.Option(
        "--time-limit", metavar="TIME", help="Stop early enough to save by then: 90s, 45m, 2h, 1h30m or 01:30:00."
    ),
]


def train(
    overrides: Overrides = None,
    config: ConfigFile = None,
    config_dir: ConfigDir = None,
    nproc: Processes = 1,
    time_limit: TimeLimit = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Try everything once, on the longest rows; say what a run would take; stop."),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train a summarizer, keep the best model, and show its scores.

    Without anything it trains on the bundled dialogues (or ./data/train.csv and dev.csv where they exist).

    Examples:

      dlgsum train

      dlgsum train model=kobart data=csv data.train=train.csv data.validation=dev.csv

      dlgsum train experiment=baseline training.learning_rate=3e-5 general.seed=7

      dlgsum train --config my.yaml --dry-run

      dlgsum train --nproc 4 --time-limit 2h
    """
    from dlgsum.recipes.settle import settle

    allowed = limits(time_limit)
    settled = settle(request(overrides, config, config_dir))
    if dry_run:
        if nproc > 1:
            raise UsageError("--dry-run tries everything in one process", "Leave out --nproc.")
        _dry_run(settled, as_json)
        return
    from dlgsum.recipes.start import start

    result = start(settled, processes=nproc, limits=allowed)
    tell(result, as_json, demonstration=settled.model.kind == "mini")


def tell(result: TrainingResult, as_json: bool, *, demonstration: bool) -> None:
    """Print the result of a run; of several processes that torchrun or SLURM started, the first one speaks."""
    if not current_world().first:
        return
    if as_json:
        print_json(dataclasses.asdict(result))
    else:
        show_result(result, demonstration=demonstration)


def limits(time_limit: str | None, *, force: bool = False) -> Limits:
    """Return what the user allows; the clock runs from now on."""
    from dlgsum.recipes.limits import Limits

    return Limits(None if time_limit is None else seconds(time_limit), force=force)


def _dry_run(settled: Settled, as_json: bool) -> None:
    from dlgsum.recipes import dry_run as recipe
    from dlgsum.recipes.data_report import show_report

    done = recipe.dry_run(
        settled,
        on_check=show_check,
        on_data=lambda report: show_report(report, messages(), compact=True),
    )
    it = done.estimate
    if as_json:
        print_json({**dataclasses.asdict(done), "seconds": {"least": it.least, "most": it.most}})
        return
    show = results().print
    show(
        f"a full run  takes {duration(it.least)} without its evaluations, at most about {duration(it.most)} with them:"
    )
    test = f", test rows {duration(it.test)}" if it.test else ""
    show(
        f"            {plural(it.steps, 'step')} of {duration(it.step)}, {plural(it.checkpoints, 'checkpoint')} of "
        f"{duration(it.checkpoint)}, {plural(it.evaluations, 'evaluation')} of {duration(it.evaluation)}{test}"
    )
    show("            A model writes shorter summaries as it learns, so later evaluations are faster.")
    show(f"disk        {it.disk / 2**30:.2f} GiB of {it.free / 2**30:.1f} GiB free")
    show("next        the same command without --dry-run")


def show_result(result: TrainingResult, *, demonstration: bool) -> None:
    """Print the scores of a run beside the baselines, and where everything lies."""
    rows = [_row("validation: lead baseline", result.baseline_metrics), _row("validation: model", result.best_metrics)]
    if result.test_metrics:
        rows.append(_row("test: lead baseline", result.test_baseline_metrics))
        rows.append(_row("test: model", result.test_metrics))
    print_table("Scores (F1 x 100)", ["", "ROUGE-1", "ROUGE-2", "ROUGE-L", "combined"], rows)
    show = results().print
    show(f"signature   {result.signature}", markup=False)
    if result.test_signature not in ("", result.signature):
        show(f"test        {result.test_signature}: another scale than validation", markup=False)
    show("lead        the best of taking the first 1, 2 or 3 turns as the summary, with or without speakers")
    if demonstration:
        show(
            "[bold]note        a demonstration, not KoBART: kobart_mini was trained from scratch on few rows, "
            "and the bundled dialogues are far easier than real ones[/]"
        )
    why = ", stopped early" if result.stopped_early else ""
    steps = f"step {result.best_step} of {result.steps} ({result.epochs:.1f} epochs{why})"
    show(f"best        {steps}, {result.seconds:.0f} s")
    show(f"run         {result.run_dir}", markup=False)
    show(f"best model  {result.model_path}", markup=False)
    show("next        dlgsum predict latest test.csv -o submission.csv", markup=False)


def _row(name: str, metrics: dict[str, float]) -> list[str]:
    names = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rouge_combined_f1")
    return [name, *(f"{100 * metrics[key]:.2f}" if key in metrics else "–" for key in names)]
