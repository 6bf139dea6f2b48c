"""Is this machine fit for the job? Everything a run will need, tried before it is needed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from dlgsum.config.compose import compose
from dlgsum.config.groups import find, load_yaml, packaged_conf, search_path
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.device import plan_device
from dlgsum.core.errors import ConfigError, DlgsumError
from dlgsum.core.hardware.diagnose import diagnose
from dlgsum.core.hardware.host import gather
from dlgsum.core.hardware.torch_probe import probe_torch
from dlgsum.core.network import ask
from dlgsum.metrics.suite import MetricSuite
from dlgsum.models.choice import KOBART, is_cached
from dlgsum.recipes import gpu_check, wiring
from dlgsum.recipes.checks import Check, CheckList, Found
from dlgsum.recipes.dry_run import dry_run
from dlgsum.recipes.settle import config_problems, settle

_SECONDS = 3.0  # that a server has to answer
_SHOWN = ("torch", "transformers", "tokenizers", "datasets", "kiwipiepy", "hydra-core", "wandb")
_FULL = 10 * 2**30  # a few checkpoints of KoBART
_FONT_FOLDERS = ("~/.fonts", "~/.local/share/fonts", "~/Library/Fonts", "/usr/share/fonts", "/usr/local/share/fonts",
                 "/Library/Fonts", "/System/Library/Fonts", "C:/Windows/Fonts")  # fmt: skip
_KOREAN_FONTS = ("nanum", "notosanscjk", "notoserifcjk", "notosanskr", "malgun", "applegothic", "applesdgothic",
                 "pretendard", "undotum", "baekmuk", "sourcehansans")  # fmt: skip

# F1 of ROUGE-1/2/L for one pair, counted by hand for the first two; kiwi's depends on its version.
_PAIR = ("나는 학교에 간다. 나는 공부한다.", "나는 학교에 간다. 나는 집에 간다.")
_EXPECTED = {
    "whitespace": (8 / 11, 6 / 9, 8 / 11),
    "char": (0.8, 5 / 7, 0.8),
    "kiwi": (0.8148, 0.72, 0.8148),
}
_KIWI = "0.24.1"

# A run on a handful of the bundled dialogues.
_SMALL = (
    "model=kobart_mini", "data=sample", "tracking=local", "monitoring=quiet", "metrics=char",
    "data.max_train_samples=48", "data.max_eval_samples=8", "data.cache=false",
    "training.per_device_train_batch_size=4", "model.mini.d_model=64", "model.mini.ffn=128", "generation.max_length=24",
)  # fmt: skip


def doctor(on_check: Callable[[Check], None] | None = None) -> list[Check]:
    """Try what every run needs, and return what was found; nothing is raised and nothing is left behind.

    Args:
        on_check: told of each check as it is done.
    """
    checks = CheckList(on_check)
    with checks.check("versions") as found:
        _versions(found)
    with checks.check("settings") as found:
        config = _settings(found)
    with checks.check("device") as found:
        _device(config, found)
    with checks.check("folders") as found:
        _folders(config, found)
    with checks.check("hub") as found:
        _hub(found)
    with checks.check("package index") as found:
        _index(found)
    with checks.check("W&B") as found:
        _wandb(config, found)
    with checks.check("text") as found:
        _text(found)
    with checks.check("scorers") as found:
        _scorers(config, found)
    with checks.check("a small training run") as found:
        _small_run(found)
    return checks.checks


def _versions(found: Found) -> None:
    found(f"dlgsum {version('dlgsum')}, Python {platform.python_version()} on {platform.platform()}")
    shown = []
    for line in requires("dlgsum") or ():
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(needed.name)
        except PackageNotFoundError:
            found.fail(f"{needed.name} is not installed: pip install '{needed}'")
            continue
        if there not in needed.specifier:
            found.fail(f"{needed.name} {there} is installed, {needed.specifier} is needed: pip install '{needed}'")
        elif needed.name in _SHOWN:
            shown.append(f"{needed.name} {there}")
    found(", ".join(shown))


def _settings(found: Found) -> Config:
    """Check the configuration that a command without arguments uses here; the defaults where it is not valid."""
    names = [
        *load_yaml(find(search_path(None), "env.yaml")),
        *(name for name in os.environ if name.startswith("DLGSUM__")),
    ]
    active = [name for name in names if os.environ.get(name)]
    try:
        config = compose(Request(), config_problems).config
    except ConfigError as error:
        for problem in error.problems:
            found.fail(problem)
        return Config()
    found("valid")
    if active:
        found.warn(f"set by the environment: {', '.join(active)}")
    if Path("conf").is_dir() and Path("conf").resolve() != packaged_conf():
        found(f"{Path('conf').resolve()} is searched before the shipped files")
    return config


def _device(config: Config, found: Found) -> None:
    import torch

    try:
        plan = plan_device(config.general.device, "auto")
    except DlgsumError as error:
        found.fail(str(error).replace("\n", " "))
        return
    found(f"{plan.reason}; torch {torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} cores")
    if plan.device == "cpu":
        gpu_check.tell(diagnose(gather(probe_torch())), found)


def _folders(config: Config, found: Found) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = {
        "results": wiring.output_dir(config),
        "hub cache": Path(HF_HUB_CACHE),
        "temporary files": Path(tempfile.gettempdir()),
    }
    for name, folder in folders.items():
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        try:
            with tempfile.NamedTemporaryFile(dir=existing, prefix=".dlgsum-"):
                free = shutil.disk_usage(existing).free
        except OSError as error:
            found.fail(f"{name}: {existing} is not writable ({error.strerror})")
            continue
        told = f"{name}: {folder} is writable, {free / 2**30:.0f} GiB free"
        if name == "results" and free < _FULL:
            found.warn(f"{told}, little for checkpoints")
        else:
            found(told)


def _hub(found: Found) -> None:
    from huggingface_hub import constants

    if constants.is_offline_mode():
        found.warn("switched off by HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE")
    else:
        status, why = ask(constants.ENDPOINT, _SECONDS)
        (found if status is not None and status < 400 else found.warn)(why)
    if is_cached(KOBART):
        found(f"{KOBART} is in the local cache")
    else:
        found(f"{KOBART} is not in the local cache")
        if found.status == "warning":
            found.warn("so model=auto means kobart_mini here: copy the checkpoint and set model.checkpoint=FOLDER")


def _index(found: Found) -> None:
    url = os.environ.get("PIP_INDEX_URL") or _configured_index() or "https://pypi.org/simple/"
    status, why = ask(url, _SECONDS)
    (found if status is not None and status < 500 else found.warn)(f"{why}; only installing needs it")


def _configured_index() -> str:
    """Return the index that pip is configured with; empty where it says none, or is not there."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _wandb(config: Config, found: Found) -> None:
    mode = config.wandb.mode
    keys = bool(os.environ.get("WANDB_API_KEY")) or any(
        "api.wandb.ai" in _read(Path(name).expanduser()) for name in ("~/.netrc", "~/_netrc")
    )
    told = f"wandb.mode={mode}, {'an account is set up' if keys else 'no account is set up'}"
    if mode == "online" and not keys:
        found.warn(f"{told}: run `wandb login`, or use wandb.mode=offline")
    else:
        found(told)


def _text(found: Found) -> None:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if encoding == "utf8":
        found("output is UTF-8")
    else:
        found.warn(f"output is {sys.stdout.encoding}, so Korean may not show: set PYTHONUTF8=1 or LANG=C.UTF-8")
    fonts = list(_korean_fonts())
    if fonts:
        found(f"Korean font: {fonts[0]}")
    else:
        found.warn("no Korean font was found, so charts would show boxes: install one (Debian: fonts-nanum)")


def _korean_fonts() -> Iterator[str]:
    listing = shutil.which("fc-list")
    if listing is not None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                [listing, ":lang=ko", "family"], capture_output=True, text=True, timeout=20, check=False
            )
            yield from sorted({line.partition(",")[0] for line in done.stdout.splitlines() if line})
    for folder in _FONT_FOLDERS:
        for path in sorted(Path(folder).expanduser().rglob("*.[to]t[fc]")):
            if path.stem.lower().replace("-", "").startswith(_KOREAN_FONTS):
                yield path.stem


def _scorers(config: Config, found: Found) -> None:
    """Score a pair with known values, by every scorer that has them and by the one that is configured."""
    for name in dict.fromkeys((*_EXPECTED, config.metrics.scorer)):
        settings = dataclasses.replace(Config().metrics, scorer=name, bleu=False)
        try:
            metrics = MetricSuite(settings, subword_tokenize=str.split).score([_PAIR[1]], [[_PAIR[0]]]).metrics
        except DlgsumError as error:
            found.fail(f"{name}: {str(error).replace(chr(10), ' ')}")
            continue
        values = tuple(metrics[f"{key}_f1"] for key in ("rouge1", "rouge2", "rougeL"))
        shown = "/".join(f"{value:.4f}" for value in values)
        expected = _EXPECTED.get(name)
        if expected is None or all(abs(one - other) < 5e-4 for one, other in zip(values, expected, strict=True)):
            found(f"{name} {shown}")
        elif name == "kiwi":
            found.warn(f"kiwi {shown}, not as with kiwipiepy {_KIWI}: scores of other machines may not compare")
        else:
            found.fail(f"{name} gives {shown} where {'/'.join(f'{value:.4f}' for value in expected)} is right")


def _small_run(found: Found) -> None:
    """Do a dry run on a few bundled dialogues with a tiny model, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="dlgsum-doctor-") as folder:
        request = Request(overrides=[*_SMALL, f"general.output_dir={folder}"], environ={})
        try:
            done = dry_run(settle(request))
        except DlgsumError as error:
            found.fail(str(error).replace("\n", " "))
            return
    found(f"{len(done.checks)} checks passed: {', '.join(check.name for check in done.checks)}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
