"""Send one message to every address that alerts go to, and see what comes back."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

from dlgsum.config.compose import compose
from dlgsum.config.request import Request
from dlgsum.core.errors import UsageError
from dlgsum.monitoring.alerts.alert import Alert
from dlgsum.monitoring.alerts.target import targets


@dataclass(frozen=True)
class Tried:
    """What came back from one address.

    Attributes:
        target: what may be shown of the address.
        detail: ``delivered``, ``HTTP 500``, ``timed out``, ``connection refused`` and so on.
    """

    target: str
    delivered: bool
    detail: str
    seconds: float


def try_all(request: Request, on_try: Callable[[Tried], None]) -> list[Tried]:
    """Send a message to every configured address, once each, one after the other.

    Args:
        on_try: told of each answer as it comes.

    Raises:
        ConfigError: a setting is wrong.
        UsageError: there is no address.
    """
    config = compose(request).config
    settings = config.monitoring.alerts
    found, problems = targets(settings.addresses, settings.timeout)
    tried = [Tried(problem, False, "not tried", 0.0) for problem in problems]
    for one in tried:
        on_try(one)
    if not found and not problems:
        lost = "The addresses of this configuration were not saved with it. " if settings.lost else ""
        raise UsageError(
            "There is nobody to tell: no address is set for alerts.",
            f"{lost}Set SLACK_WEBHOOK_URL or DISCORD_WEBHOOK_URL in the environment, or give Apprise URLs: "
            "dlgsum alerts test 'monitoring.alerts.urls=[json://HOST/PATH]'",
        )
    alert = Alert(
        kind="test", severity="info", title=f"[info] {config.meta.experiment_name}: a test of alerts",
        text=f"Alerts of dlgsum on {platform.node()} arrive here. 알림이 여기에 도착합니다.", lifecycle=True,
    )  # fmt: skip
    for target in found:
        answer = target.attempt(alert)
        tried.append(Tried(target.name, answer.delivered, answer.detail, round(answer.seconds, 3)))
        on_try(tried[-1])
    return tried
