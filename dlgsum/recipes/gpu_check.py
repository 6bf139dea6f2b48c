"""What this machine offers a training run: cards, processor, memory, disk, and a proof that its devices compute."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dlgsum.config.request import Request
from dlgsum.config.schema import Config, Model
from dlgsum.core.errors import DlgsumError, UsageError
from dlgsum.core.files import is_file, read_json
from dlgsum.core.hardware.ask_torch import ask_torch
from dlgsum.core.hardware.cards import Card, join_cards
from dlgsum.core.hardware.diagnose import Finding, diagnose
from dlgsum.core.hardware.disk import Disk, measure_disk
from dlgsum.core.hardware.facts import Facts, Product
from dlgsum.core.hardware.host import gather
from dlgsum.core.hardware.tiers import ModelSize
from dlgsum.models.choice import ModelChoice, choose_checkpoint
from dlgsum.recipes import wiring
from dlgsum.recipes.checks import Check, CheckList, Found
from dlgsum.recipes.config_dict import request_for
from dlgsum.recipes.settle import compose_checked
from dlgsum.tracking.environment import PACKAGES

_GIB, _MIB = 2**30, 2**20
_LITTLE = 10 * _GIB  # bytes on disk: a few checkpoints of KoBART


@dataclass(frozen=True)
class Library:
    """A package that a run depends on; the version is None where it is not installed."""

    name: str
    version: str | None


@dataclass(frozen=True)
class GpuReport:
    """Everything that was found; ``dataclasses.asdict`` is what ``dlgsum gpu-check --json`` prints.

    Attributes:
        ok: nothing failed, so that the configured job can run here, on whatever device.
        gpu: a GPU can be used: a product on it was right.
        model: what the suggestions are for, and why that model.
        facts: as the probes found them.
        cards: each NVIDIA or ROCm card, as the driver and as torch see it, with its tier and suggestion.
        findings: conclusions, with what to do.
        products: matrix products that were computed, each with its error and speed.
        disk: of general.output_dir.
        checks: what was tried, in order.
    """

    ok: bool
    gpu: bool
    model: ModelChoice
    facts: Facts
    cards: tuple[Card, ...]
    findings: tuple[Finding, ...]
    products: tuple[Product, ...]
    disk: Disk
    libraries: tuple[Library, ...]
    checks: tuple[Check, ...]


def check_gpu_compatibility(
    config: Config | str | Path | Mapping[str, Any] | None = None,
    *overrides: str,
    on_check: Callable[[Check], None] | None = None,
) -> GpuReport:
    """Look at this machine and return what was found; nothing is printed and nothing is left behind.

    Torch is asked in a process of its own, so that this one takes no memory on any card. It takes some seconds.

    Args:
        config: a YAML file, nested settings, a finished configuration, or None for the defaults. What counts is the
            model with its lengths, general.device, general.output_dir and the precision.
        overrides: as on the command line, such as ``"general.device=cuda"``; not with a finished configuration.
        on_check: told of each check as it is done.

    Raises:
        ConfigError: the settings are wrong; every problem is reported.
        UsageError: overrides were given for a finished configuration.
    """
    if isinstance(config, Config):
        if overrides:
            raise UsageError("overrides do not go with a finished Config", "Give a file or a mapping.")
        return check_machine(config, on_check)
    lines = list(overrides)
    if isinstance(config, (str, Path)):
        request = Request(overrides=lines, file=Path(config))
    else:
        request = request_for(config or {}, *lines)
    return check_machine(compose_checked(request).config, on_check)


def check_machine(config: Config, on_check: Callable[[Check], None] | None = None) -> GpuReport:
    """Do what ``check_gpu_compatibility`` does, for a finished configuration."""
    choice = choose_checkpoint(config.model)
    checks = CheckList(on_check)
    with checks.check("device") as found:
        training = config.training
        precision = "fp16" if training.fp16 else "bf16" if training.bf16 else training.precision
        torch, products = ask_torch(
            config.general.device, precision, unsafe_in_fp16=unsafe_in_fp16(choice, config.model)
        )
        facts = gather(torch)
        findings = tuple(diagnose(facts))
        _device(facts, findings, found)
    with checks.check("matrix product") as found:
        _products(products, found)
    with checks.check("processor and memory") as found:
        _host(facts, found)
    with checks.check("disk") as found:
        disk = measure_disk(wiring.output_dir(config))
        _disk(disk, found)
    return GpuReport(
        ok=all(check.status != "failed" for check in checks.checks),
        gpu=any(not product.problem and product.device != "cpu" for product in products),
        model=choice,
        facts=facts,
        cards=join_cards(facts, products, _size(config, choice)),
        findings=findings,
        products=products,
        disk=disk,
        libraries=_libraries(),
        checks=tuple(checks.checks),
    )


def unsafe_in_fp16(choice: ModelChoice, model: Model) -> bool:
    """Say whether a model overflows in fp16, from its architecture or its configuration file; no weights are loaded.

    A checkpoint that is not on this machine is judged by its name.
    """
    if choice.kind == "mini" or choice.architecture in ("kobart", "bart"):
        return False
    if choice.architecture == "auto":
        kind = _model_type(choice.checkpoint, model.revision)
        if kind is None:
            return "t5" in choice.checkpoint.rstrip("/").rpartition("/")[2].lower()
    else:
        kind = choice.architecture
    from transformers import AutoConfig

    from dlgsum.models.family import family_for

    try:
        of_model = AutoConfig.for_model(kind)
        return family_for(of_model).unsafe_in_fp16(of_model)
    except (ValueError, DlgsumError):  # a type that transformers or dlgsum does not know: training will say so
        return False


def _model_type(checkpoint: str, revision: str | None) -> str | None:
    """Return the model type in the configuration file of a folder or of the local cache; None where there is none."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    path: Any = Path(checkpoint).expanduser() / "config.json"
    if not is_file(path):
        try:
            path = try_to_load_from_cache(checkpoint, "config.json", revision=revision)
        except HFValidationError:
            return None
    if not isinstance(path, (str, Path)):
        return None
    try:
        found = read_json(Path(path)).get("model_type")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, str) else None


def _size(config: Config, choice: ModelChoice) -> ModelSize:
    return ModelSize(
        checkpoint=choice.checkpoint,
        is_mini=choice.kind == "mini",
        is_kobart=choice.architecture == "kobart" or "kobart" in choice.checkpoint.lower(),
        source_tokens=config.tokenizer.encoder_max_len,
        target_tokens=config.tokenizer.decoder_max_len,
    )


def tell(findings: Sequence[Finding], found: Found) -> None:
    """Add findings to a check, each with what to do."""
    for finding in findings:
        text = f"{finding.message}. {finding.fix}" if finding.fix else finding.message
        if finding.status == "failed":
            found.fail(text)
        elif finding.status == "warning":
            found.warn(text)
        else:
            found(text)


def _device(facts: Facts, findings: Sequence[Finding], found: Found) -> None:
    torch, plan = facts.torch, facts.torch.plan
    if plan.problem:
        found.fail(plan.problem)
    elif plan.device:
        found(f"{plan.reason}; torch {torch.version}, {torch.threads} threads")
    tell(findings, found)


def _products(products: Sequence[Product], found: Found) -> None:
    for product in products:
        name = f"{product.device} {product.dtype}"
        if product.problem:
            found.fail(f"{name}: {product.problem}")
        elif product.tflops is not None:
            found(f"{name}: right, {product.tflops:.3g} TFLOP/s at {product.size} x {product.size}")
    if not products:
        found.fail("nothing was computed, because torch could not be asked")


def _host(facts: Facts, found: Found) -> None:
    cpu, memory = facts.cpu, facts.memory
    physical = "" if cpu.physical is None else f" ({cpu.physical} physical)"
    found(f"{cpu.name}: {cpu.logical} logical cores{physical}, {cpu.cores:g} for this process")
    if cpu.quota is not None and cpu.quota < cpu.usable:
        found.warn(
            f"the container gives the time of {cpu.quota:g} cores: more threads than that wait for one another, so set "
            f"OMP_NUM_THREADS={max(1, int(cpu.quota))}"
        )
    free = f"{memory.usable_available / _GIB:.1f} of {memory.usable_total / _GIB:.1f} GiB of RAM can be had"
    limited = memory.limit is not None and memory.limit < memory.total
    found(f"{free}; the container's limit, the machine has {memory.total / _GIB:.1f}" if limited else free)


def _disk(disk: Disk, found: Found) -> None:
    if disk.write is None:
        found.warn(f"{disk.folder} cannot be written ({disk.problem}): use general.output_dir=DIR")
        return
    read = "" if disk.read is None else f", read back at {disk.read:.0f} MiB/s (caches may have helped)"
    found(f"{disk.tried}: {disk.written / _MIB:.0f} MiB written at {disk.write:.0f} MiB/s, forced to the disk{read}")
    if disk.free is not None:
        free = f"{disk.free / _GIB:.1f} GiB free"
        if disk.free < _LITTLE:
            found.warn(f"{free}, little for checkpoints")
        else:
            found(free)


def _libraries() -> tuple[Library, ...]:
    found = [Library("python", platform.python_version())]
    for name in ("dlgsum", *PACKAGES, "nvidia-ml-py", "psutil"):
        try:
            found.append(Library(name, version(name)))
        except PackageNotFoundError:
            found.append(Library(name, None))
    return tuple(found)
