"""Whether the process of a run still lives, asked from outside by the run's folder."""

from __future__ import annotations

import socket

import psutil

from dlgsum.core.lenient import moment, read_object, whole
from dlgsum.tracking.lock import is_held
from dlgsum.tracking.progress import NAME
from dlgsum.tracking.run import RunFolder

_SLACK = 60.0  # seconds that a process may seem younger than what it wrote: the clock was set meanwhile


class Holder:
    """The process that holds a run folder, as far as it can be asked for from this machine.

    The supervisor of several processes holds it while it starts them again. A process that is younger than what the
    run's process wrote, after a reboot say, has only got its number, unless the folder's lock is held.
    """

    def __init__(self, run: RunFolder) -> None:
        self._path = run.path
        self._process: psutil.Process | None = None
        self._beyond_sight = 0

    def gone(self, pid: int | None, *, changed: bool = False) -> bool:
        """Say whether the process is certainly not there; no where nobody can tell.

        Args:
            pid: the process that ``status.json`` names; ``lock.json`` comes first.
            changed: whether the run has just reported. A run that reports again and again without a process is in
                a container of its own, and cannot be asked for from here.
        """
        gone = self.alive(pid) is False
        self._beyond_sight += gone and changed
        return gone and self._beyond_sight < 3

    def alive(self, pid: int | None) -> bool | None:
        """Say whether the process is there; None where nobody can tell."""
        held = read_object(self._path / "lock.json") or {}
        pid = whole(held.get("pid")) or pid
        host = held.get("host") or self._host_of(pid)
        if pid is None or pid <= 0 or host != socket.gethostname():
            return None
        return self._lives(pid, moment(held.get("started")) or self._wrote(pid))

    def _host_of(self, pid: int | None) -> object:
        for name in (NAME, "status.json"):
            said = read_object(self._path / name) or {}
            if said.get("host") and said.get("pid") == pid:
                return said["host"]
        return None

    def _wrote(self, pid: int) -> float | None:
        """Return when the process said in the status that it runs; None where another one did."""
        said = read_object(self._path / "status.json") or {}
        return moment(said.get("time")) if said.get("pid") == pid else None

    def _lives(self, pid: int, wrote: float | None) -> bool:
        try:
            if self._process is None or self._process.pid != pid:
                self._process = psutil.Process(pid)
            if not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE:
                return False
            younger = wrote is not None and self._process.create_time() > wrote + _SLACK
            return not younger or is_held(self._path) is True
        except psutil.NoSuchProcess:
            return False
        except (psutil.Error, OverflowError):
            return True  # there, but of somebody else
