"""Who is told of trouble, and how often."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, field_validator
from pydantic.dataclasses import dataclass

from dlgsum.config.addresses import check_address
from dlgsum.config.schema.options import MASK, RULES, nested, option

Address = Annotated[str, AfterValidator(check_address)]
Told = Literal["off", "info", "warning", "error"]


@dataclass(frozen=True, kw_only=True, config=RULES)
class Rules:
    """What another severity than its own is given to, or is not sent at all."""

    loss_spike: Told | None = option(None, "A sudden rise of the training loss.")
    loss_plateau: Told | None = option(None, "A loss that no longer changes.")
    divergence: Told | None = option(None, "A loss that keeps rising.")
    grad_explosion: Told | None = option(None, "A gradient that is too large.")
    grad_vanishing: Told | None = option(None, "A gradient that is next to nothing.")
    clip_ratio: Told | None = option(None, "Too many steps with a clipped gradient.")
    non_finite: Told | None = option(None, "A loss or gradient that is NaN or infinite.")
    overfitting: Told | None = option(None, "Validation getting worse, training better.")
    memory_leak: Told | None = option(None, "Memory that grows steadily.")
    throughput_drop: Told | None = option(None, "Training that has become slower.")
    learning_rate: Told | None = option(None, "A learning rate off its schedule.")
    rouge_collapse: Told | None = option(None, "Empty, repeated or equal summaries.")
    out_of_memory: Told | None = option(None, "A batch that did not fit into memory.")
    silent: Told | None = option(None, "A run that no longer reports.")
    lost: Told | None = option(None, "A run whose process is gone.")
    gone: Told | None = option(None, "A run whose folder is gone.")
    recovered: Told | None = option(None, "A run that reports again.")
    start: Told | None = option(None, "The run has begun, or goes on.")
    complete: Told | None = option(None, "The run is complete.")
    failed: Told | None = option(None, "The run has failed.")
    interrupted: Told | None = option(None, "The run was stopped.")
    relaunched: Told | None = option(None, "All processes were started again.")

    @field_validator("*", mode="before")
    @classmethod
    def _false_is_off(cls, value: Any) -> Any:
        return "off" if value is False else value  # so YAML reads a bare `off`


@dataclass(frozen=True, kw_only=True, config=RULES)
class Alerts:
    """Who is told of trouble, and how often."""

    urls: list[Address] = option(
        [], "Apprise URLs: webhooks of Slack and Discord as they are, mailto://, json:// and more.", secret=True
    )
    slack_webhook_url: Address | None = option(None, "Webhook of a Slack channel; SLACK_WEBHOOK_URL.", secret=True)
    discord_webhook_url: Address | None = option(
        None, "Webhook of a Discord channel; DISCORD_WEBHOOK_URL.", secret=True
    )
    min_severity: Literal["info", "warning", "error"] = option("warning", "Findings below it are recorded, not sent.")
    lifecycle: bool = option(True, "Tell also when a run starts, ends, fails, is stopped or is started again.")
    rules: Rules = nested(Rules, "For each kind: another severity, or off; null: as it is.")
    cooldown: float = option(
        300.0, "Seconds between two messages of one kind; what comes meanwhile is summed up.", ge=0
    )
    timeout: float = option(10.0, "Seconds that a request may take; it is tried twice.", gt=0, le=300)
    close_timeout: float = option(10.0, "Seconds that the end of a run waits for messages on their way.", ge=0, le=600)

    @property
    def addresses(self) -> list[str]:
        """Every address, each once; what was masked when the configuration was saved is not among them."""
        given = [self.slack_webhook_url, self.discord_webhook_url, *self.urls]
        return list(dict.fromkeys(address for address in given if address and address != MASK))

    @property
    def lost(self) -> int:
        """How many addresses were set when the configuration was saved, and are not known any more."""
        given: list[Any] = [self.slack_webhook_url, self.discord_webhook_url, *self.urls]
        return given.count(MASK)
