"""Reads requirements.lock as `make lock` writes it, and tells what of it is not pinned."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_PIN: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+?))?(?: \\)?")
_HASH: Final = re.compile(r"    --hash=(sha256:[0-9a-f]{64})(?: \\)?")
_PARENT: Final = re.compile(r"    #(?: via)?\s*(?P<parent>[A-Za-z0-9._-]+)?.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One package of the lock.

    Attributes:
      name: in canonical form.
      marker: environments that the version is for; empty for all.
      hashes: digests of its files.
      parents: packages of the lock, or this project, that need it.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    parents: tuple[str, ...]

    @property
    def applies(self) -> bool:
        """Whether this interpreter and platform install it."""
        return not self.marker or Marker(self.marker).evaluate()


def read_lock(path: Path) -> tuple[Pin, ...]:
    """The pins of a lock. Raises `ValueError` for a line that pins nothing, such as a URL or a range of versions."""
    pins: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        pin, digest, parent = (pattern.fullmatch(line) for pattern in (_PIN, _HASH, _PARENT))
        if pin:
            name = canonicalize_name(pin["name"])
            pins.append({"name": name, "version": pin["version"], "marker": pin["marker"] or "", "h": [], "p": []})
        elif digest and pins:
            pins[-1]["h"].append(digest[1])
        elif parent and pins:
            pins[-1]["p"] += [canonicalize_name(parent["parent"])] if parent["parent"] else []
        else:
            raise ValueError(f"{path} line {number}: expected a package with one version, a SHA-256 or its parents")
    return tuple(Pin(hashes=tuple(p.pop("h")), parents=tuple(p.pop("p")), **p) for p in pins)


def faults(pins: Sequence[Pin], direct: Iterable[str]) -> list[str]:
    """What is wrong with a lock.

    Args:
      direct: requirements of the project, as pyproject.toml writes them.
    """
    found = [f"{pin.name} {pin.version}: has no digest" for pin in pins if not pin.hashes]
    used = [pin for pin in pins if pin.applies]
    names = [pin.name for pin in used]
    found += [
        f"{name}: has several versions for one environment" for name in sorted(set(names)) if names.count(name) > 1
    ]
    versions = {pin.name: pin.version for pin in used}
    for text in direct:
        need = Requirement(text)
        version = versions.get(canonicalize_name(need.name))
        if version is None or not need.specifier.contains(version, prereleases=True):
            found.append(f"{need}: is locked as {version}")
    return found


def direct_requirements(pyproject: Path) -> tuple[list[str], list[str]]:
    """What running needs, and what developing needs besides."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return project["dependencies"], project["optional-dependencies"]["dev"]


def run_time(pins: Sequence[Pin], direct: Iterable[str]) -> frozenset[str]:
    """Names of the packages that running needs: the direct ones, and what they need in turn."""
    found: set[str] = {canonicalize_name(Requirement(text).name) for text in direct}
    while more := {pin.name for pin in pins if not found.isdisjoint(pin.parents)} - found:
        found |= more
    return frozenset(found)
