"""Prints the part of requirements.lock that one purpose needs, with its hashes; the Dockerfile installs from it.

    python -m benchmarks.supply_chain.subset running > running.lock

Needs no package but `packaging`, so that it runs before anything else is installed.
"""

import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.supply_chain.lock import Pin, direct_requirements, read_lock

ROOT: Final = Path(__file__).parents[2]
# What builds the wheel, and uv, which knows where torch's CPU build is.
TOOLS: Final = ("hatchling", "editables", "uv")
# Installed otherwise, where a build of torch for CPUs is wanted.
TORCH: Final = frozenset({"torch", "torchvision"})
PURPOSES: Final = ("running", "running-cpu", "tools")


def needed_for(purpose: str, pins: Collection[Pin], running: Collection[str]) -> frozenset[str]:
    """Names of the packages, with all that they need in turn.

    Args:
      purpose: one of `PURPOSES`; running-cpu leaves out torch, and what only torch needs.
      running: the project's requirements, as pyproject.toml writes them.
    """
    direct = TOOLS if purpose == "tools" else [Requirement(text).name for text in running]
    left_out = TORCH if purpose == "running-cpu" else frozenset()
    found = {str(canonicalize_name(name)) for name in direct} - left_out
    while more := {pin.name for pin in pins if not found.isdisjoint(pin.parents)} - found - left_out:
        found |= more
    return frozenset(found)


def lines_of(lock: Path, names: Collection[str]) -> Iterator[str]:
    """The lines of a lock that pin the given packages, as they stand there."""
    wanted = False
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line[:1].strip():
            wanted = canonicalize_name(line.partition("==")[0]) in names
        if wanted:
            yield line


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in PURPOSES:
        print(f"usage: python -m benchmarks.supply_chain.subset {{{','.join(PURPOSES)}}}", file=sys.stderr)
        return 2
    lock = ROOT / "requirements.lock"
    running, _ = direct_requirements(ROOT / "pyproject.toml")
    print("\n".join(lines_of(lock, needed_for(sys.argv[1], read_lock(lock), running))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
