"""Where alerts are made: recorded at once, sent in the background, and never in the way of training."""

from __future__ import annotations

import dataclasses
import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dlgsum.config.addresses import label
from dlgsum.config.schema import Alerts as Settings
from dlgsum.core.files import SCHEMA_VERSION, append_jsonl
from dlgsum.core.masking import masked
from dlgsum.monitoring.alerts.alert import Alert, alert_of, all_clear, new_id
from dlgsum.monitoring.alerts.cooldown import Cooldown
from dlgsum.monitoring.alerts.outlet import Closed, Outlet
from dlgsum.monitoring.alerts.target import Answer, targets
from dlgsum.monitoring.finding import SEVERITIES, Finding, Recovery, Severity

logger = logging.getLogger(__name__)

_LOOK = 1.0  # seconds between looks whether a cool-down is over; only while something is held back


class Alerts:
    """Tells people of trouble, of its end, and of the run's own course.

    No method raises or waits for a target, a mirror or a full disk, but for ``close``, which waits for a bounded time.
    Any thread may call them.

    Args:
        record: the file in the run folder that takes a row for every alert, sent or not, and one for every answer;
            None: no file.
        source: the run's name, which stands in front of every title.
        mirrors: take each alert that is sent, in a thread of their own; what they raise is logged once.
        clock: seconds, for the cool-down.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        record: Path | None,
        source: str,
        mirrors: Sequence[Callable[[Alert], None]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._record = record
        self._source = source
        self._where = "" if record is None else f"\nRun folder: {platform.node()}:{record.parent.absolute()}"
        self._lock = threading.RLock()
        self._file = threading.Lock()
        self._cooldown = Cooldown(settings.cooldown, clock)
        self._complained: set[str] = set()
        self._closing = threading.Event()
        self._counts = {"delivered": 0, "failed": 0, "given_up": 0}
        self._summing: threading.Thread | None = None
        found, problems = targets(settings.addresses, settings.timeout)
        self._targets = [Outlet(one.name, one.attempt, 2, self._answered) for one in found]
        self._mirrors = [
            Outlet(f"mirror {number}", _mirrored(one), 1, self._mirrored) for number, one in enumerate(mirrors, 1)
        ]
        for problem in problems:
            logger.warning("no alerts go there: %s", problem)
        if settings.lost:
            logger.warning(
                "%s of alerts not kept in the saved configuration: to be told, set SLACK_WEBHOOK_URL, "
                "DISCORD_WEBHOOK_URL or DLGSUM__MONITORING__ALERTS__URLS again",
                "an address is" if settings.lost == 1 else f"{settings.lost} addresses are",
            )

    def finding(self, finding: Finding, **links: str) -> None:
        """Tell what a detector found; ``links`` are files that say more, such as ``nan_report``."""
        with _unharmed():
            severity = self._severity(finding.kind, finding.severity)
            self._take(alert_of(finding, severity or finding.severity, links), off=severity is None)

    def recovery(self, recovery: Recovery) -> None:
        """Tell that trouble has passed, where somebody was told of it."""
        with _unharmed(), self._lock:
            told = self._cooldown.passed(recovery.kind, recovery.step)
            self._pass_on(all_clear(recovery), "" if told else "nobody was told of the trouble")

    def send(
        self, kind: str, severity: Severity, title: str, text: str, *, lifecycle: bool = False, **details: Any
    ) -> None:
        """Tell anything else.

        Args:
            lifecycle: it tells of a start or an end: sent whatever its severity, and without a cool-down.
            details: numbers and names for the record; ``step`` and ``epoch`` have their own place in it.
        """
        with _unharmed():
            wanted = self._severity(kind, severity)
            step, epoch = details.pop("step", None), details.pop("epoch", None)
            alert = Alert(
                kind=kind, severity=wanted or severity, title=title, text=text, step=step, epoch=epoch, numbers=details,
                lifecycle=lifecycle,
            )  # fmt: skip
            self._take(alert, off=wanted is None)

    def close(self, seconds: float | None = None) -> Closed:
        """Sum up what was held back, and wait for what is on its way; a second call changes nothing.

        Args:
            seconds: at most so long; ``monitoring.alerts.close_timeout`` when None.
        """
        with _unharmed():
            until = time.monotonic() + (self._settings.close_timeout if seconds is None else seconds)
            with self._lock:
                if not self._closing.is_set():
                    self._sum_up(all_of_them=True)
                self._closing.set()
            for outlet in (*self._targets, *self._mirrors):
                outlet.stop()
            for outlet in self._targets:
                for alert in outlet.wait(until):
                    self._answered(outlet.name, alert, None)
            for outlet in self._mirrors:
                outlet.wait(until)
        given_up = self._counts["given_up"]
        if given_up and self._complain("given up"):
            logger.warning(
                "%s not delivered before the end%s; monitoring.alerts.close_timeout is how long the end waits",
                "an alert was" if given_up == 1 else f"{given_up} alerts were", self._kept(),
            )  # fmt: skip
        return Closed(**self._counts)

    def _severity(self, kind: str, severity: Severity) -> Severity | None:
        """Return the severity that the rules give to a kind; None where it is off."""
        rule = getattr(self._settings.rules, kind, None)
        return None if rule == "off" else rule or severity

    def _take(self, alert: Alert, *, off: bool) -> None:
        why = ""
        with self._lock:
            if self._closing.is_set():
                why = "after the end"
            elif off:
                why = "off"
            elif alert.lifecycle:
                why = "" if self._settings.lifecycle else "off"
            elif SEVERITIES.index(alert.severity) < SEVERITIES.index(self._settings.min_severity):
                why = "below min_severity"
            else:
                more = self._cooldown.admit(alert)
                if more is None:
                    why = "held"
                    self._see_to_summaries()
                elif more:
                    alert = dataclasses.replace(alert, text=f"{alert.text}\n({more})")
            self._pass_on(alert, why)

    def _pass_on(self, alert: Alert, why: str) -> None:
        """Record an alert, and send it unless there is a reason not to."""
        headline = " ".join(self._masked(alert.title).split())
        title = f"[{alert.severity}] {' '.join(self._source.split())}: {headline}"
        alert = dataclasses.replace(alert, title=title, headline=headline, text=self._masked(alert.text) + self._where)
        self._write(
            alert,
            row="alert",
            kind=alert.kind,
            severity=alert.severity,
            lifecycle=alert.lifecycle,
            title=alert.title,
            text=alert.text,
            step=alert.step,
            epoch=alert.epoch,
            numbers={k: self._masked(v) if isinstance(v, str) else v for k, v in alert.numbers.items()},
            sent=why or ("queued" if self._targets else "no target"),
        )
        if why:
            return
        for outlet in self._targets:
            if not outlet.put(alert):
                self._answered(outlet.name, alert, Answer(False, "too many are waiting", 0.0, 0))
        for outlet in self._mirrors:
            outlet.put(alert)

    def _masked(self, text: str) -> str:
        for address in self._settings.addresses:
            text = text.replace(address, label(address))
        return masked(text)

    def _answered(self, name: str, alert: Alert, answer: Answer | None) -> None:
        """Record what became of a message; None: time ran out."""
        outcome = "given_up" if answer is None else "delivered" if answer.delivered else "failed"
        detail = "time ran out" if answer is None else answer.detail
        with self._file:
            self._counts[outcome] += 1
        attempts, seconds = (None, None) if answer is None else (answer.attempts, round(answer.seconds, 3))
        self._write(
            alert, row="answer", target=name, outcome=outcome.replace("_", " "), detail=detail, attempts=attempts,
            seconds=seconds,
        )  # fmt: skip
        if outcome == "failed" and self._complain(name):
            logger.warning("an alert did not reach %s (%s); this is said once%s", name, detail, self._kept())

    def _kept(self) -> str:
        return "" if self._record is None else f"; every alert is in {self._record}"

    def _mirrored(self, name: str, alert: Alert, answer: Answer) -> None:
        if not answer.delivered and self._complain(name):
            logger.warning("alerts do not reach %s (%s); this is said once", name, answer.detail)

    def _see_to_summaries(self) -> None:
        if self._summing is None:
            self._summing = threading.Thread(target=self._keep_summing_up, name="alerts held back", daemon=True)
            self._summing.start()

    def _keep_summing_up(self) -> None:
        while not self._closing.wait(_LOOK):
            with _unharmed(), self._lock:
                self._sum_up()
                if not self._cooldown.holds:
                    self._summing = None
                    return

    def _sum_up(self, *, all_of_them: bool = False) -> None:
        for newest, line in self._cooldown.due(all_of_them=all_of_them):
            text = f"The newest of them:\n{newest.text}"
            self._pass_on(dataclasses.replace(newest, title=line, text=text, id=new_id()), "")

    def _write(self, alert: Alert, **fields: Any) -> None:
        if self._record is None:
            return
        row = {
            "schema_version": SCHEMA_VERSION, "time": datetime.now(UTC).isoformat(), "id": alert.id, **fields,
        }  # fmt: skip
        try:
            with self._file:
                append_jsonl(self._record, row)
        except Exception as error:  # a full disk, a folder that is gone
            if self._complain("record"):
                logger.warning("alerts cannot be recorded in %s (%s); this is said once", self._record, error)

    def _complain(self, what: str) -> bool:
        """Say whether this is the first complaint of its kind."""
        with self._file:
            new = what not in self._complained
            self._complained.add(what)
        return new


def _mirrored(mirror: Callable[[Alert], None]) -> Callable[[Alert], Answer]:
    def attempt(alert: Alert) -> Answer:
        mirror(alert)
        return Answer(True, "delivered", 0.0)

    return attempt


@contextmanager
def _unharmed() -> Iterator[None]:
    """Log what goes wrong in a block, and go on after it: an alert is never worth a training run."""
    try:
        yield
    except Exception as error:
        logger.warning("an alert was lost (%s: %s)", type(error).__name__, masked(str(error)))
