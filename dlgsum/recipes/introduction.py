"""What a run says of itself before it trains: on the console and in its folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dlgsum.config.compose import to_yaml
from dlgsum.config.schema import Config
from dlgsum.core.console import messages
from dlgsum.core.files import write_json
from dlgsum.metrics.suite import MetricSuite
from dlgsum.recipes import data_check
from dlgsum.recipes.data_report import show_report
from dlgsum.recipes.prepare import Prepared
from dlgsum.tracking.choice import WANDB, chosen
from dlgsum.tracking.environment import describe_environment
from dlgsum.tracking.run import RunFolder

if TYPE_CHECKING:
    from dlgsum.data.encode import EncodedSplit

logger = logging.getLogger(__name__)


def say(name: str, text: object) -> None:
    """Print one fact about the run."""
    messages().print(f"{name:<12}{text}", markup=False)


def describe_machine(run: RunFolder) -> None:
    """Save what the run depends on besides its configuration and data."""
    write_json(run.path / "environment.json", describe_environment())


def where_it_shows(config: Config) -> str:
    """Return where a run can be looked at, in words; without W&B also how to switch it on."""
    shown = {
        WANDB: f"W&B ({config.wandb.mode})" if config.wandb.mode != "disabled" else "W&B (the run that you have open)"
    }
    names = chosen(config)
    words = ", ".join(["local", *(shown.get(name, name) for name in names)])
    return words if WANDB in names else f"{words} (W&B is off; to switch it on: `wandb login`, then wandb.mode=online)"


def sizes(datasets: Mapping[str, EncodedSplit], model: Any) -> str:
    """Return the rows of each split and the parameters of the model, in words."""
    rows = ", ".join(f"{name} {len(split)}" for name, split in datasets.items())
    return f"{rows}; {sum(one.numel() for one in model.parameters()) / 1e6:.1f}M parameters"


def describe(run: RunFolder, config: Config, prepared: Prepared) -> None:
    """Save what the run depends on, and show what the rows are like, before a weight is loaded.

    Raises:
        DataError: something was found that would make the run worthless.
    """
    run.write_config(to_yaml(config))
    describe_machine(run)  # again: torch is there by now, with its threads and the devices that it sees
    write_json(run.path / "data.json", {"splits": [split.describe() for split in prepared.splits.all]})
    data_check.save_report(prepared.report, run.path / "data_check.json")
    if config.monitoring.progress != "off":
        show_report(prepared.report, messages(), compact=True)
    data_check.refuse_errors(prepared.report, config)


def warn_about_scorer(suite: MetricSuite, prepared: Prepared) -> None:
    """Warn where the scorer sees little of the references' text."""
    sample = [reference for row in prepared.splits.validation.rows[:200] for reference in row.references]
    warning = suite.coverage_warning(sample)
    if warning:
        logger.warning(warning)
