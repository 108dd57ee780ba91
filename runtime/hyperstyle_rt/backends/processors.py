"""How many processors this process may really use.

A container counts all processors of its host. What binds is the affinity mask of the process, and
in Linux control groups (cgroups, versions 1 and 2) the share of time that its group, or a group
above it, may take: https://docs.kernel.org/admin-guide/cgroup-v2.html and
https://docs.kernel.org/scheduler/sched-bwc.html.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNLIMITED = "max"


@dataclass(frozen=True)
class Processors:
    """What limits the processors of this process.

    Attributes
    ----------
    present:
        Processors of the machine.
    allowed:
        Those that the process may run on.
    quota:
        Processors whose time its control groups grant, 1.5 for three halves; None for no limit.
    """

    present: int
    allowed: int
    quota: float | None

    @property
    def usable(self) -> int:
        """How many threads can really run at a time, at least 1."""
        if self.quota is None:
            return max(1, self.allowed)
        return max(1, min(self.allowed, math.ceil(self.quota)))


def find_processors(root: Path = Path("/")) -> Processors:
    """Ask the system.

    Parameters
    ----------
    root:
        Where ``proc`` and the control groups are looked up: for tests.
    """
    return Processors(os.cpu_count() or 1, _allowed(), cgroup_quota(root))


def useful_threads(most: int | None) -> int:
    """Threads of one operator: the processors that this process may use, at most so many."""
    usable = find_processors().usable
    return usable if most is None else max(1, min(most, usable))


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Processors that the control groups of this process grant; None without a limit."""
    quotas = []
    for hierarchy in _hierarchies(root):
        for directory in (hierarchy.group, *hierarchy.group.parents):
            quotas.append(_quota_v2(directory) if hierarchy.unified else _quota_v1(directory))
            if directory == hierarchy.mount:
                break
    return min((quota for quota in quotas if quota is not None), default=None)


def _allowed() -> int:
    count = getattr(os, "process_cpu_count", None)  # from Python 3.13; PYTHON_CPU_COUNT sets it
    if count is not None:
        return count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class _Hierarchy:
    """A hierarchy of control groups, and the directory of the group that this process is in."""

    mount: Path
    group: Path
    unified: bool  # version 2


def _hierarchies(root: Path) -> Iterator[_Hierarchy]:
    """The hierarchies that may limit the time of processors."""
    groups = _groups(root)
    for line in _lines(root / "proc/self/mountinfo"):
        before, separator, after = line.partition(" - ")
        fields, (kind, *more) = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5 or len(more) < 2:
            continue
        controllers = more[1].split(",")
        if kind == "cgroup2":
            group = groups.get("")
        elif kind == "cgroup" and "cpu" in controllers:
            group = groups.get("cpu")
        else:
            continue
        if group is not None:
            mounted, mount = (_unescaped(field) for field in fields[3:5])
            at = root / mount.lstrip("/")
            yield _Hierarchy(at, at / _below(mounted, group), kind == "cgroup2")


def _groups(root: Path) -> dict[str, str]:
    """Controller -> path of this process's group in its hierarchy; "" stands for version 2."""
    groups = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(",") if number != "0" else [""]:
            groups[controller] = path
    return groups


def _below(mounted: str, group: str) -> PurePosixPath:
    """Path of a group below the group that is mounted.

    A group outside it is one that the container does not see; what is mounted limits it as well.
    """
    path = PurePosixPath(group)
    if ".." in path.parts or not path.is_relative_to(mounted):
        return PurePosixPath()
    return path.relative_to(mounted)


def _quota_v2(directory: Path) -> float | None:
    """What ``cpu.max`` says: ``max 100000``, ``150000 100000``."""
    words = _first_line(directory / "cpu.max").split()
    if len(words) != 2 or words[0] == UNLIMITED:
        return None
    return _ratio(*words)


def _quota_v1(directory: Path) -> float | None:
    """What ``cpu.cfs_quota_us`` says, -1 for no limit, over ``cpu.cfs_period_us``."""
    quota, period = (_first_line(directory / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    try:
        time, of = int(quota), int(period)
    except ValueError:
        return None
    return time / of if time > 0 and of > 0 else None


def _unescaped(path: str) -> str:
    r"""Decode a path of mountinfo, where blanks, tabs, line ends and backslashes are octal."""
    for code in (0o40, 0o11, 0o12, 0o134):
        path = path.replace(f"\\{code:03o}", chr(code))
    return path


def _first_line(path: Path) -> str:
    return next(iter(_lines(path)), "")


def _lines(path: Path) -> list[str]:
    """Lines of a small text file; none if it cannot be read."""
    try:
        return path.read_text("utf-8", "surrogateescape").splitlines()
    except (OSError, ValueError):
        return []
