"""Limits that a container, a batch system or systemd sets on this process, by control groups of version 1 or 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_NO_LIMIT = 2**60  # version 1 writes a number near 2**63 where there is no limit


@dataclass(frozen=True)
class Limits:
    """Memory in bytes, the part of it in use that cannot simply be dropped, and cores; None without a limit."""

    memory: int | None = None
    memory_used: int | None = None
    cpus: float | None = None


@dataclass(frozen=True)
class _Mount:
    """Where a hierarchy of control groups is seen: of ``controllers``, or of version 2 where that is empty."""

    root: str
    point: str
    controllers: frozenset[str]


def read_limits(root: Path = Path("/")) -> Limits:
    """Return the tightest limits of this process's control groups and all above them; none where there are none.

    Args:
        root: folder that holds ``proc`` and the mounted hierarchies.
    """
    memory: list[tuple[int, Path]] = []
    cpus: list[float] = []
    paths = _paths(_read(root / "proc/self/cgroup"))
    for mount in _mounts(_read(root / "proc/self/mountinfo")):
        for controller in mount.controllers or {""}:
            for folder in _folders(root, mount, paths.get(controller, "/")):
                if controller in ("", "memory") and (limit := _memory_limit(folder)) is not None:
                    memory.append((limit, folder))
                if controller in ("", "cpu") and (share := _cpu_limit(folder)) is not None:
                    cpus.append(share)
    least, folder = min(memory, default=(None, root))
    return Limits(least, None if least is None else _in_use(folder), min(cpus, default=None))


def _paths(text: str) -> dict[str, str]:
    """Return this process's group in each hierarchy, by controller; version 2 has the empty name."""
    found = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number:
            found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _mounts(text: str) -> list[_Mount]:
    found = []
    for line in text.splitlines():
        place, _, kind = line.partition(" - ")
        fields, kinds = place.split(), kind.split()
        if len(fields) < 5 or not kinds or kinds[0] not in ("cgroup", "cgroup2"):
            continue
        root, point = (field.replace("\\040", " ") for field in fields[3:5])
        controllers = frozenset(kinds[-1].split(",")) & {"memory", "cpu"}
        if controllers or kinds[0] == "cgroup2":
            found.append(_Mount(root, point, controllers if kinds[0] == "cgroup" else frozenset()))
    return found


def _folders(root: Path, mount: _Mount, path: str) -> list[Path]:
    """Return the folder of a group and of all above it, as far as they can be seen from here."""
    top = root / mount.point.lstrip("/")
    # A container may see only its own group, mounted at the top, while its path is still told as the host sees it.
    inner = path.removeprefix(mount.root) if mount.root != "/" else path
    folder = top / inner.strip("/")
    if ".." in Path(inner).parts or not folder.is_dir():
        return [top]
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(top))]


def _memory_limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _read(folder / name).strip()
        if text.isdigit() and int(text) < _NO_LIMIT:
            return int(text)
    return None


def _cpu_limit(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = (_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if quota.isdigit() and period.isdigit() and int(period):
        return int(quota) / int(period)
    return None


def _in_use(folder: Path) -> int | None:
    """Return what a group uses, without the file cache that the system would give up."""
    used = _read(folder / "memory.current").strip() or _read(folder / "memory.usage_in_bytes").strip()
    if not used.isdigit():
        return None
    fields = dict(line.partition(" ")[::2] for line in _read(folder / "memory.stat").splitlines())
    cache = fields.get("total_inactive_file", fields.get("inactive_file", "0"))
    return max(0, int(used) - (int(cache) if cache.isdigit() else 0))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
