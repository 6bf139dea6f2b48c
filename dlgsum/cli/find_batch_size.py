"""`dlgsum find-batch-size`."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Annotated

import typer

from dlgsum.cli.output import AsJson, ConfigDir, ConfigFile, Debug, Overrides, print_json, print_table, request
from dlgsum.core.console import messages, results

if TYPE_CHECKING:
    from dlgsum.recipes.batch_size import BatchSizes
    from dlgsum.training.batch_size import Probe

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_COUNTED = {
    "device": "all that torch holds of the card",
    "process": "all that the process holds of main memory",
    "tensors": "tensors only",
}


def find_batch_size(
    overrides: Overrides = None,
    config: ConfigFile = None,
    config_dir: ConfigDir = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            "--memory-limit",
            metavar="SIZE",
            help="Plan for a smaller device, such as 8GiB; on a CPU its memory is simulated by counting tensors.",
        ),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Try anew, whatever was found before.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Find the batch sizes for this data, model and device by trying real steps, each in a process of its own.

    On a card: the largest training batch (rows, or tokens with training.batching=tokens) and the largest generation
    batch that fit at the worst case of the data. On a CPU: the smallest that is within 5 % of the fastest.

    Examples:

      dlgsum find-batch-size model=kobart data=csv data.train=train.csv data.validation=dev.csv

      dlgsum find-batch-size training.batching=tokens --memory-limit 8GiB
    """
    limit = None if memory_limit is None else _bytes(memory_limit)
    from dlgsum.recipes import batch_size as recipe
    from dlgsum.recipes.failures import failures_in_words
    from dlgsum.recipes.settle import settle

    settled = settle(request(overrides, config, config_dir))
    with failures_in_words(lambda: None):
        sizes = recipe.find_for(settled, on_probe=_show_probe, memory_limit=limit, cache=not no_cache)
    if as_json:
        print_json({**dataclasses.asdict(sizes), "overrides": sizes.overrides})
    else:
        _show(sizes)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?\s*", text, re.IGNORECASE)
    size = int(float(found[1]) * 1024 ** _UNITS[found[2].lower()]) if found else 0
    if not size:
        raise typer.BadParameter(
            f"{text!r} is no size of memory; write it as 8GiB or 500MiB", param_hint="--memory-limit"
        )
    return size


def _show_probe(what: str, probe: Probe) -> None:
    """Show a try as soon as it is done."""
    size, fits, peak, speed = _cells(probe)
    messages().print(
        f"{what:<11}{size:>10}  {fits:<13}{peak:>9}  {speed:>9} tokens/s  ({probe.seconds:.1f} s)", markup=False
    )


def _cells(probe: Probe) -> list[str]:
    from dlgsum.recipes.space import size_in_words

    peak = size_in_words(probe.peak_bytes) if probe.peak_bytes else "–"
    speed = f"{probe.tokens_per_second:,.0f}" if probe.tokens_per_second else "–"
    return [f"{probe.size:,}", "fits" if probe.fits else "does not fit", peak, speed]


def _show(sizes: BatchSizes) -> None:
    from dlgsum.recipes.space import size_in_words

    memory, device = sizes.memory, sizes.device
    show = results().print
    for choice in sizes.choices:
        unit = "tokens" if "tokens" in choice.key else "rows"
        earlier = ", found earlier" if choice.reused else ""
        print_table(
            f"{choice.what}{earlier}",
            [unit, "", "memory", "tokens/s"],
            [_cells(probe) for probe in sorted(choice.probes, key=lambda probe: probe.size)],
        )
    free = size_in_words(memory.free)
    show(f"device      {device.kind}: {device.name}, {device.precision}", markup=False)
    show(f"memory      {size_in_words(memory.limit)} may be taken of {free}; counted: {_COUNTED[memory.counting]}")
    if memory.planned:
        show(f"[bold yellow]planned     for a device with {free}, which is not the one of this machine[/]")
    if memory.counting == "tensors":
        show(
            "[bold yellow]simulated   a card also needs memory for itself (about 0.5 GiB) and for fragmentation, which "
            "is not counted; tokens/s are this CPU's[/]"
        )
    for choice in sizes.choices:
        show(f"{choice.what:<11} {choice.value:,}: {choice.reason}", markup=False)
    show(f"use         {' '.join(sizes.overrides)}", markup=False)
