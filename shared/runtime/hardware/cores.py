"""How many cores this process may use, and what its threads do while they wait for each other. Light to import."""

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_PROCESSORS: Final = Path("/proc/cpuinfo")
_MINE: Final = Path("/proc/self/cgroup")
# Empty in a process that has all cores for itself.
_SHARE: Final[list[int]] = []
_POLICIES: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def let_threads_sleep() -> None:
    """Makes OpenMP threads that wait for another one sleep, in this process and in those that it starts.

    By default they spin. Where another program holds one of the cores, they then keep the rest from the very thread
    that they wait for, and a training step gets many times slower. Every command calls this first, because libraries
    read the variable when they are loaded. What the user has set stays, and nothing is set once torch is there.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _POLICIES):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def take_share(cores: int) -> None:
    """From now on this process counts so many cores as usable: its share of those that a pool of processes divides."""
    _SHARE[:] = [cores]


def usable_cores() -> int:
    """Cores that this process may use at the same time, at least 1: those of its affinity, and of its cgroups' quota.

    Worker processes count their share of them.

    A quota of two and a half cores counts as two: a third thread would be stopped for half of the time, and the others
    would wait for it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(int(min((cores, *_SHARE, *filter(None, map(_quota, cgroups("cpu")))))), 1)


def processor_name() -> str:
    """The processor's name as Linux gives it, else what Python knows."""
    try:
        lines = _PROCESSORS.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # not Linux
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def cgroups(controller: str) -> Iterator[Path]:
    """Folders of this process's cgroups and of those around them, version 1 and 2 (`man 7 cgroups`).

    Args:
      controller: cpu or memory.
    """
    try:
        lines = _MINE.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # not Linux
        return
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0":
            roots = [_CGROUPS, _CGROUPS / "unified"]
        elif controller in controllers.split(","):
            roots = [_CGROUPS / controllers, _CGROUPS / controller]
        else:
            continue
        # Within a container the path may be the host's, of which only the end or nothing is mounted.
        around = [Path(path.lstrip("/")), *Path(path.lstrip("/")).parents]
        yield from dict.fromkeys(root / part for root in roots for part in around if ".." not in part.parts)


def _quota(folder: Path) -> float | None:
    """Cores that one cgroup allows; None without a limit."""
    try:
        if (folder / "cpu.max").is_file():
            most, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            most = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
        return int(most) / int(period) if int(most) > 0 and int(period) > 0 else None
    except (OSError, ValueError):  # no such cgroup, or "max"
        return None
