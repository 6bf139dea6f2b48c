"""`dlgsum gpu-check`."""

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
    show_check,
)
from dlgsum.core.console import results

if TYPE_CHECKING:
    from dlgsum.core.hardware.cards import Card
    from dlgsum.recipes.gpu_check import GpuReport


def gpu_check(
    overrides: Overrides = None,
    config: ConfigFile = None,
    config_dir: ConfigDir = None,
    require_gpu: Annotated[
        bool, typer.Option("--require-gpu", help="End with exit code 4 unless a GPU can be used.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Look at graphics cards, processor, memory and disk, and prove by a calculation that the devices work.

    Each card's tier gives a batch size to start from. Exit code 0 when the configured job can run here, with or
    without warnings; 4 when it cannot, or when a device computes wrongly.

    Examples:

      dlgsum gpu-check

      dlgsum gpu-check model=kobart --require-gpu --json
    """
    from dlgsum.core.errors import EnvironmentProblem
    from dlgsum.recipes import gpu_check as recipe
    from dlgsum.recipes.settle import compose_checked

    settings = compose_checked(request(overrides, config, config_dir)).config
    report = recipe.check_machine(settings, show_check)
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        _show(report)
    if require_gpu and not report.gpu:
        raise EnvironmentProblem(
            "--require-gpu, but no GPU can be used on this machine", "The warnings above say why, and what to do."
        )
    if not report.ok:
        raise typer.Exit(4)


def _show(report: GpuReport) -> None:
    _show_devices(report)
    _show_suggestions(report)
    show = results().print
    torch = report.facts.torch
    built = f"with CUDA {torch.cuda}" if torch.cuda else f"with ROCm {torch.hip}" if torch.hip else "without CUDA"
    show(f"torch       {torch.version}, built {built}", markup=False)
    versions = [f"{one.name} {one.version or '(not installed)'}" for one in report.libraries if one.name != "torch"]
    show(f"libraries   {', '.join(versions)}", markup=False)
    show(f"model       {report.model.checkpoint}: {report.model.reason}", markup=False)
    counts = {status: sum(check.status == status for check in report.checks) for status in ("ok", "warning", "failed")}
    show(", ".join(f"{count} {status}" for status, count in counts.items() if count))


def _show_devices(report: GpuReport) -> None:
    torch, memory, driver = report.facts.torch, report.facts.memory, report.facts.nvidia
    rows = [_row(card, report) for card in report.cards]
    if torch.mps_available:
        name = "Apple's GPU, with the machine's memory"
        rows.append(["mps", name, _gib(torch.mps_memory), *["–"] * 6, _speeds(report, "mps")])
    total, free = memory.usable_total, memory.usable_available
    name = f"{report.facts.cpu.name}, {report.facts.cpu.cores:g} cores"
    rows.append(["cpu", name, _gib(total), _gib(total - free), _gib(free), *["–"] * 4, _speeds(report, "cpu")])
    newest = "" if driver.cuda is None else f", CUDA up to {driver.cuda[0]}.{driver.cuda[1]}"
    print_table(
        "Devices",
        ["device", "name", "GiB", "used", "free", "state", "capability", "bf16 fp16 tf32", "PCI", "TFLOP/s"],
        rows,
        caption=f"NVIDIA driver {driver.version}{newest}" if driver.version else "",
        justify="left",
    )
    held = [
        [_device(card), str(process.pid), process.name or "not visible from here", _gib(process.memory)]
        for card in report.cards
        for process in card.processes
    ]
    if held:
        print_table("Processes on the cards", ["device", "pid", "name", "GiB"], held, justify="left")


def _show_suggestions(report: GpuReport) -> None:
    rows = []
    for card in report.cards:
        it = card.suggestion
        if it is not None:
            batch = _value(it.batch_size, it.batch_range)
            steps = _value(it.accumulation, it.accumulation_range)
            rows.append(
                [_device(card), it.tier or "too small", batch, steps, card.precision or "–", "\n".join(it.notes)]
            )
    if rows:
        print_table(
            "Where to start, for each card: rules of thumb, not measured",
            ["device", "tier", "batch size (range)", "accumulation (range)", "precision", "what it stands on"],
            rows,
            justify="left",
        )
    else:
        results().print("batch size  `dlgsum find-batch-size` measures what fits; the rules of thumb are for cards")


def _row(card: Card, report: GpuReport) -> list[str]:
    state = [
        "" if card.temperature is None else f"{card.temperature} °C",
        "" if card.power is None else f"{card.power:.0f} W",
        "" if card.utilization is None else f"{card.utilization} % busy",
    ]
    return [
        _device(card),
        card.name + (" (MIG)" if card.mig else ""),
        *(_gib(size) for size in (card.memory, card.memory_used, card.memory_free)),
        ", ".join(part for part in state if part) or "–",
        "–" if card.capability is None else f"{card.capability[0]}.{card.capability[1]}",
        " ".join("?" if one is None else "yes" if one else "no" for one in (card.bf16, card.fp16, card.tf32)),
        card.pci or "–",
        _speeds(report, card.device or ""),
    ]


def _speeds(report: GpuReport, device: str) -> str:
    """Return how fast the products on a device were, a line for each type."""
    lines = [
        f"{one.dtype} failed" if one.problem or one.tflops is None else f"{one.dtype} {one.tflops:.3g}"
        for one in report.products
        if one.device == device
    ]
    return "\n".join(lines) or "–"


def _device(card: Card) -> str:
    return card.device or f"not in use (nvidia-smi {card.driver_index})"


def _gib(size: int | None) -> str:
    return "–" if size is None else f"{size / 2**30:.1f}"


def _value(chosen: int | None, between: tuple[int, int] | None) -> str:
    if between is None:
        return "–"
    ends = f"{between[0]} to {between[1]}" if between[0] != between[1] else str(between[0])
    return ends if chosen is None else f"{chosen} ({ends})"
