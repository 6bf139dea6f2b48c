"""Check that registered models are what was registered, and still load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlgsum.config.request import Request
from dlgsum.core.errors import UsageError
from dlgsum.recipes.models import find_registered
from dlgsum.tracking.registry import ModelRegistry
from dlgsum.tracking.registry.files import Progress, check_files
from dlgsum.tracking.registry.model import RegisteredModel
from dlgsum.tracking.registry.reference import folder_there

_DIALOGUE = "#Person1#: 내일 세 시에 회의실에서 만날까요?\n#Person2#: 네, 자료를 준비해서 갈게요."


@dataclass(frozen=True)
class Verification:
    """What was found of one model.

    Attributes:
        problem: why it is not good, in words; empty where it is.
        changed, missing, additional: names of files; additional ones do no harm.
        loaded: whether it loads and generates; None where that was not tried.
        summary: what it generates for a dialogue of two turns.
    """

    model: str
    folder: str
    problem: str = ""
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()
    loaded: bool | None = None
    summary: str | None = None

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem


def models_to_verify(registry: ModelRegistry, names: Sequence[str], *, every: bool) -> list[RegisteredModel]:
    """Return the models that are named, or all.

    Raises:
        UsageError: a model does not exist; none is named, or some are named beside all.
    """
    if bool(names) == every:
        raise UsageError("Which models are to be checked?", "Name some, or give --all; not both.")
    return registry.models() if every else [find_registered(registry, name) for name in names]


def verify_model(
    registry: ModelRegistry, model: RegisteredModel, *, load: bool = True, on_progress: Progress | None = None
) -> Verification:
    """Read every file of a model, compare its hash, then load the model and summarize a dialogue with it.

    Files that are not as they were registered are not loaded.
    """
    try:
        folder = folder_there(registry, model)
    except UsageError as error:
        return Verification(model.id, model.path, error.message, missing=tuple(sorted(model.files)))
    check = check_files(model, folder, on_progress)
    found = {"changed": check.changed, "missing": check.missing}
    problem = "; ".join(f"{what}: {', '.join(names)}" for what, names in found.items() if names)
    summary = None
    loaded = None
    if load and not problem:
        try:
            summary, loaded = _summary(folder), True
        except Exception as error:  # whatever a library raises at damaged files: it is what was asked for
            problem, loaded = f"it does not load: {type(error).__name__}: {error}", False
    return Verification(
        model.id, str(folder), problem, tuple(check.changed), tuple(check.missing), tuple(check.additional),
        loaded, summary,
    )  # fmt: skip


def _summary(folder: Path) -> str:
    """Return what a model generates for a dialogue of two turns, as ``dlgsum predict`` would."""
    from dlgsum.recipes.predict import predict, text_input
    from dlgsum.recipes.use import find_model

    trained = find_model(str(folder), Request(environ={}))
    return predict(trained, text_input(_DIALOGUE, trained), batch_size=1)[0]
