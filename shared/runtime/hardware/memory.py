"""How much memory this process may still take. Light to import."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shared.runtime.hardware.cores import cgroups

_MEMORY: Final = Path("/proc/meminfo")


def free_memory_bytes() -> int:
    """Memory that can be taken without pushing anybody's to disk: the machine's, and what its cgroups leave.

    Pages of files that are merely cached count as free. Where the system does not tell, half of what it has.
    """
    try:
        lines = _MEMORY.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return int(os.sysconf("SC_PHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE")) // 2
    given = dict(line.split(":", 1) for line in lines if ":" in line)
    machine = int(given.get("MemAvailable", given["MemFree"]).split()[0]) * 1024
    return max(min((machine, *_left_by_cgroups())), 0)


def _left_by_cgroups() -> Iterator[int]:
    for folder in cgroups("memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                most = int((folder / limit).read_text(encoding="utf-8"))
                taken = int((folder / used).read_text(encoding="utf-8"))
                lines = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
                cached = {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}
            except (OSError, ValueError):  # no such file, or "max"
                continue
            yield most - taken + cached.get("inactive_file", 0)
