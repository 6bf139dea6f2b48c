"""From what the user asked to a configuration in which nothing is left open; torch is not needed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dlgsum.config.compose import Composition, compose
from dlgsum.config.explain import leaves, value_of
from dlgsum.config.origin import Origin, Setting
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.errors import ConfigError, DataError, UsageError
from dlgsum.core.log import gathered_warnings
from dlgsum.data.source_kinds import DatasetSource, FileSource
from dlgsum.data.sources import resolve_files
from dlgsum.metrics.suite import settings_problems
from dlgsum.models.choice import ModelChoice, choose_checkpoint, model_problems
from dlgsum.recipes.wiring import NOT_SCORES
from dlgsum.tracking.choice import tracker_problems

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settled:
    """A configuration in which nothing is left open, with the reasons for what was chosen.

    Attributes:
        history: dotted key to everything that set it, the winner last; empty for a configuration made before.
    """

    config: Config
    model: ModelChoice
    reasons: dict[str, str]
    history: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)


def settle(request: Request) -> Settled:
    """Compose the configuration and settle ``model=auto`` and ``data=auto``, without importing torch.

    Where model=auto ends in a model that has its own file under conf/model, that file is composed in its
    place, so that its recommended settings hold.

    Raises:
        ConfigError: with every problem found.
        DataError: a data file does not exist.
    """
    warnings: list[str] = []
    try:
        with gathered_warnings() as warnings:
            composition = compose_checked(request)
            choice = choose_checkpoint(composition.config.model)
        undecided = composition.groups.get("model") == "auto" and composition.config.model.checkpoint == "auto"
        if undecided:  # composing again says them again
            warnings.clear()
    finally:
        for warning in warnings:
            logger.warning(warning)
    if undecided:
        file = "kobart" if choice.kind == "pretrained" else "kobart_mini"
        composition = compose_checked(dataclasses.replace(request, overrides=[*request.overrides, f"model={file}"]))
    settled = _settled(composition.config, choice)
    history = dict(composition.history)
    for key in leaves():
        value = value_of(settled.config, key)
        before = value_of(composition.config, key)
        if value != before and not _same_place(value, before):
            reason = settled.reasons.get(key.partition(".")[0], "")
            history[key] = (*history.get(key, ()), Setting(value, Origin("choice", f"settled: {reason}")))
    return dataclasses.replace(settled, history=history)


def _same_place(value: object, before: object) -> bool:
    """Say whether two values are one path, once relative and once absolute: it was not overridden."""
    if not (isinstance(value, str) and isinstance(before, str)):
        return False
    return Path(value).expanduser().resolve() == Path(before).expanduser().resolve()


def compose_checked(request: Request) -> Composition:
    """Compose a configuration, checking also what the schema cannot know.

    Raises:
        ConfigError: with every problem found; files that do not exist are listed beside other problems.
    """
    composition, problems, missing = compose_and_check(request)
    if composition is None:
        raise ConfigError([*problems, *missing])
    return composition


def compose_and_check(request: Request) -> tuple[Composition | None, list[str], list[str]]:
    """Compose a configuration; return it unless there are problems, the problems, and the files that are missing."""
    missing: list[str] = []

    def further(config: Config) -> list[str]:
        missing.extend(missing_files(config))
        return config_problems(config)

    try:
        return compose(request, further), [], missing
    except ConfigError as error:
        return None, error.problems, missing


def missing_files(config: Config) -> list[str]:
    """Return a line for each data file that cannot be used because it is not there or of an unknown kind."""
    lines = []
    with contextlib.suppress(ConfigError):
        files = resolve_files(config.data, folder=Path.cwd())
        for source in files.sources.values():
            try:
                if isinstance(source, FileSource):
                    source.check()
                elif isinstance(source, DatasetSource):  # whether the hub has it is not asked here
                    source.dataset.check_name()
            except DataError as error:
                lines.append(f"{error.message} {error.hint}")
    return list(dict.fromkeys(lines))


def config_problems(config: Config) -> list[str]:
    """Return what the schema cannot know to be wrong: plugins, metrics, the model and the files of the data."""
    problems = [*settings_problems(config.metrics, other_names=NOT_SCORES), *model_problems(config.model)]
    problems += tracker_problems(config)
    try:
        resolve_files(config.data, folder=Path.cwd())
    except ConfigError as error:
        problems += error.problems
    if config.monitoring.detectors.extra:  # those of our own cannot be wrong
        from dlgsum.monitoring.detector import build_detectors

        try:
            build_detectors(config.monitoring.detectors)
        except UsageError as error:
            problems.append(f"{error.message}; {error.hint}" if error.hint else error.message)
    return problems


def settle_config(config: Config, choice: ModelChoice | None = None) -> Settled:
    """Settle a configuration that was composed before, such as a saved one."""
    problems = config_problems(config)
    if problems:
        raise ConfigError(problems)
    return _settled(config, choice or choose_checkpoint(config.model))


def _settled(config: Config, choice: ModelChoice) -> Settled:
    """Put the choices into a configuration that was checked."""
    files = resolve_files(config.data, folder=Path.cwd())
    folder = Path.cwd() / Path(choice.checkpoint).expanduser()
    if choice.kind == "pretrained" and folder.is_dir():  # a saved configuration is read from other folders too
        choice = dataclasses.replace(choice, checkpoint=str(folder))
    model = dataclasses.replace(config.model, checkpoint=choice.checkpoint, architecture=choice.architecture)  # type: ignore[arg-type]
    files.check()
    data = files.settled(config.data)
    reasons = {"model": choice.reason, "data": files.reason}
    return Settled(dataclasses.replace(config, model=model, data=data), choice, reasons)


def check_names(config: Config) -> None:
    """Check the names of plugins and metrics, which the schema cannot know.

    Raises:
        ConfigError: an unknown scorer or metric, with the nearest name.
    """
    problems = settings_problems(config.metrics, other_names=NOT_SCORES)
    if problems:
        raise ConfigError(problems)
