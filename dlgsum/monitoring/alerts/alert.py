"""One alert, and its words."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dlgsum.monitoring.finding import Finding, Recovery, Severity

_LONGEST = 1800  # characters; Discord takes 2,000, with the title


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A message on its way.

    Attributes:
        title: one line that says what happened, with severity and run in front; ``headline``: without them.
        step: optimizer step; None where there is none.
        numbers: for machines.
        lifecycle: whether it tells of a start or an end, rather than of trouble within a run.
    """

    kind: str
    severity: Severity
    title: str
    text: str
    step: int | None = None
    epoch: float | None = None
    numbers: Mapping[str, object] = field(default_factory=dict)
    lifecycle: bool = False
    headline: str = ""
    id: str = field(default_factory=lambda: new_id())  # joins the rows of the record

    @property
    def short(self) -> str:
        """The text, cut to what every service takes."""
        room = _LONGEST - len(self.title)
        return self.text if len(self.text) <= room else f"{self.text[: room - 2]} …"


def new_id() -> str:
    """Return what tells an alert from any other of its run."""
    return secrets.token_hex(4)


def alert_of(finding: Finding, severity: Severity, links: Mapping[str, str]) -> Alert:
    """Return a finding as an alert; ``links`` are files that say more."""
    return Alert(
        kind=finding.kind,
        severity=severity,
        title=f"{_words(finding.kind)} at step {finding.step}",
        text=_finding_text(finding, links),
        step=finding.step,
        epoch=finding.epoch,
        numbers=dict(finding.numbers),
    )


def all_clear(recovery: Recovery) -> Alert:
    """Return a recovery as an alert."""
    return Alert(
        kind=recovery.kind,
        severity="info",
        title=f"{_words(recovery.kind)} has passed at step {recovery.step}",
        text=_recovery_text(recovery),
        step=recovery.step,
        numbers={"count": recovery.count, "first_step": recovery.first_step, "last_step": recovery.last_step},
    )


def _finding_text(finding: Finding, links: Mapping[str, str]) -> str:
    """Return what a finding says to somebody who has just been woken up."""
    return "\n".join(_finding_lines(finding, links))


def _finding_lines(finding: Finding, links: Mapping[str, str]) -> Iterator[str]:
    yield finding.message
    yield f"Step {finding.step}" + ("" if finding.epoch is None else f", epoch {finding.epoch:.2f}")
    if finding.numbers:
        yield f"Numbers: {', '.join(f'{name} {_shown(value)}' for name, value in finding.numbers.items())}"
    if finding.causes:
        yield f"Likely: {'; '.join(finding.causes)}"
    if finding.advice:
        yield "What to do:"
        yield from (f"{number}. {one}" for number, one in enumerate(finding.advice, 1))
    if finding.key:
        yield f"Setting: {finding.key}"
    yield from (f"{name.replace('_', ' ').capitalize()}: {place}" for name, place in links.items())


def _recovery_text(recovery: Recovery) -> str:
    """Return what a recovery says."""
    seen = "once" if recovery.count == 1 else f"{recovery.count} times"
    where = f"at step {recovery.first_step}"
    if recovery.last_step != recovery.first_step:
        where = f"between steps {recovery.first_step} and {recovery.last_step}"
    return f"It was seen {seen}, {where}, and is no longer there at step {recovery.step}."


def _shown(value: object) -> str:
    """Return a number as people read it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _words(kind: str) -> str:
    return kind.replace("_", " ")
