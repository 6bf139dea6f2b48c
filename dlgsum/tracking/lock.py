"""One process on a run folder at a time."""

from __future__ import annotations

import errno
import logging
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.core.files import read_json, write_json

logger = logging.getLogger(__name__)

_GLANCE = 0.2  # seconds that a lock is waited for: `is_held` of another process holds it for a moment


@dataclass(frozen=True)
class Holder:
    """Who holds, or last held, a run folder; ``started`` is for people only, nothing is decided by it."""

    pid: int
    host: str
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started}"


def is_held(run_path: Path) -> bool | None:
    """Say whether any process holds a run folder, as far as locks reach; None where nothing tells.

    Nothing is written, and a holder does not notice. On a file system whose locks stay on each machine a holder on
    another one is not seen.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        descriptor = os.open(run_path / ".lock", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in (errno.EAGAIN, errno.EACCES) else None
    else:
        return False
    finally:
        os.close(descriptor)


class RunLock:
    """Hold a run folder while the block runs; a second holder is refused at once.

    Covered: processes of one machine, and of several where the file system passes locks on (Lustre with ``flock``, NFS
    from version 4, or 3 with a lock service). The kernel gives the lock back when its holder dies, so that one left by
    a killed process is taken over at once. A forked child does not hold it, and does not end it.

    Not covered: machines that share a file system whose locks stay on each machine. There ``lock.json`` shows the other
    holder, but whether that process still lives cannot be asked from here, and clocks of two machines do not tell; the
    folder is taken over with a warning. Where a file system knows no locks at all, a process that ``lock.json`` names
    is asked for on this machine. Of several processes that train together only one takes the lock.

    Args:
        run_path: an existing run folder.

    Attributes:
        left_by: who held it before and did not end it in order, once the lock is held; None when there was nobody.
    """

    def __init__(self, run_path: Path) -> None:
        self.path = run_path
        self.left_by: Holder | None = None
        self._owner = 0
        # Not thread_local: it may be given back by another thread. Not the fallback to a lock that is a mere file:
        # nobody takes that back from a process that was killed.
        self._lock = FileLock(run_path / ".lock", timeout=0, thread_local=False, fallback_to_soft=False)

    def __enter__(self) -> RunLock:
        """Take the lock.

        Raises:
            UsageError: another process holds it.
            EnvironmentProblem: there is no such folder, or nothing can be written in it.
        """
        if not self.path.is_dir():  # filelock would make one
            raise EnvironmentProblem(f"There is no run folder {self.path}")
        try:
            self._lock.acquire(timeout=_GLANCE, poll_interval=_GLANCE / 10)
        except Timeout:
            raise self._refusal() from None
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                raise EnvironmentProblem(
                    f"{self.path} cannot be held against other processes: {error.strerror}",
                    "This user must be able to write in it.",
                ) from error
            self._refuse_living()
            logger.warning("%s is on a file system without locks: see that no second process uses it", self.path)
        self._owner = os.getpid()
        self.left_by = self._holder()
        if self.left_by is not None and self.left_by.host != socket.gethostname():
            logger.warning("%s was last held by %s, and is taken over: is it over there?", self.path, self.left_by)
        self._sign()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the lock back; in a forked child nothing happens."""
        if self._owner != os.getpid():
            return
        with suppress(OSError):
            self._file.unlink()
        self._lock.release()

    @property
    def _file(self) -> Path:
        return self.path / "lock.json"

    def _sign(self) -> None:
        holder = Holder(os.getpid(), socket.gethostname(), datetime.now().astimezone().isoformat(timespec="seconds"))
        try:
            self._file.unlink(missing_ok=True)
            write_json(self._file, asdict(holder))
        except OSError as error:  # a disk that is full: the lock holds all the same
            logger.warning("%s could not be written: %s", self._file, error.strerror)

    def _holder(self) -> Holder | None:
        try:
            content = read_json(self._file)
            return Holder(int(content["pid"]), str(content["host"]), str(content["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _refusal(self) -> UsageError:
        holder = self._holder()  # absent for the moment between taking the lock and signing
        return UsageError(
            f"The run folder {self.path} is in use by {holder or 'another process'}.",
            "Wait for its end, or stop it"
            + (f" (kill {holder.pid} on {holder.host})" if holder else "")
            + "; then start again. To train beside it, start a new run.",
        )

    def _refuse_living(self) -> None:
        holder = self._holder()
        if holder is None or holder.host != socket.gethostname() or holder.pid == os.getpid() or os.name != "posix":
            return
        try:
            os.kill(holder.pid, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            pass  # it lives, and belongs to somebody else
        raise self._refusal()
