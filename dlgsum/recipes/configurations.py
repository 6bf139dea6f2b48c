"""Configurations by name, side by side and under test: what `dlgsum config` works on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlgsum.config.compose import Composition, compose
from dlgsum.config.explain import Explanation
from dlgsum.config.groups import group_options, search_path
from dlgsum.config.request import Request
from dlgsum.config.schema import Config
from dlgsum.core.errors import ConfigError, DataError, UsageError, nearest
from dlgsum.core.files import is_file
from dlgsum.core.log import gathered_warnings
from dlgsum.metrics.suite import known_metric_names
from dlgsum.recipes.named import run_named
from dlgsum.recipes.settle import compose_and_check
from dlgsum.recipes.stored import place_of
from dlgsum.recipes.wiring import NOT_SCORES

DEFAULTS = "defaults"


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a configuration: nothing, when ``problems`` is empty.

    ``data_problems`` are files that are missing, ``warnings`` what works and is probably not meant.
    """

    name: str
    problems: tuple[str, ...] = ()
    data_problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.problems and not self.data_problems

    def __str__(self) -> str:
        found = [*self.problems, *self.data_problems]
        return "\n".join([f"{self.name}: {'valid' if self else 'not valid'}", *(f"  • {problem}" for problem in found)])

    @property
    def exit_code(self) -> int:
        """The exit code that a run with this configuration would begin with."""
        return ConfigError.exit_code if self.problems else DataError.exit_code if self.data_problems else 0


def check(request: Request, name: str) -> Verdict:
    """Compose a configuration and say everything that is wrong with it, across files and sections.

    Nothing is loaded and the hub is not asked.
    """
    with gathered_warnings() as warnings:
        _, problems, missing = compose_and_check(request)
    return Verdict(name, tuple(problems), tuple(missing), tuple(warnings))


def check_all(files: Sequence[Path], request: Request) -> list[Verdict]:
    """Check each file as ``--config`` would use it; without any, what ``request`` alone gives."""
    if not files:
        return [check(request, "the configuration" if request.file is None else str(request.file))]
    return [check(dataclasses.replace(request, file=path), str(path)) for path in files]


def with_metric_names(settings: Sequence[Explanation], config: Config) -> list[Explanation]:
    """Add to ``metrics.best`` the metrics that these settings give, which the schema cannot know."""
    names = (*known_metric_names(config.metrics), *NOT_SCORES)
    return [dataclasses.replace(it, choices=names) if it.key == "metrics.best" else it for it in settings]


def named(name: str, config_dir: Path | None) -> Composition:
    """Return the configuration that a name means: a file, a run, an experiment, overrides, or ``defaults``.

    Environment variables play no part: what is compared is what is written down.

    Raises:
        UsageError: nothing has this name.
        ConfigError: it is not a valid configuration.
    """
    empty = Request(config_dir=config_dir, environ={})
    if name == DEFAULTS:
        return compose(empty)
    path = Path(name)
    if is_file(path):
        return compose(dataclasses.replace(empty, file=path))
    if "=" in name:
        return compose(dataclasses.replace(empty, overrides=_words(name)))
    experiments = group_options(search_path(config_dir)).get("experiment", [])
    if name in experiments:
        return compose(dataclasses.replace(empty, overrides=[f"experiment={name}"]))
    if path.suffix in (".yaml", ".yml"):
        raise UsageError(f"{path}: there is no such file")
    try:
        # The environment may say where the runs are (OUTPUT_DIR).
        run = run_named(name, place_of(compose(Request(config_dir=config_dir)).config))
    except UsageError as error:
        guess = nearest(name, [DEFAULTS, *experiments])
        raise UsageError(
            f"'{name}' is neither a file, nor an experiment ({', '.join(experiments)}), nor a run: {error.message}",
            f"Did you mean {guess}?" if guess else error.hint,
        ) from None
    return compose(dataclasses.replace(empty, file=run.config))


def _words(text: str) -> list[str]:
    """Return the overrides of a line; blanks inside quotes part nothing, and the quotes stay."""
    return re.findall(r"""(?:[^\s'"]|'[^']*'|"[^"]*"|['"])+""", text)
