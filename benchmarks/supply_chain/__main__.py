"""Checks requirements.lock and lists the licences of what it installs.

    python -m benchmarks.supply_chain           # writes results/licenses.json; some seconds, no network

Every package must have one version and the digests of its files, and pyproject.toml's requirements must be met. A
package that running needs must have a licence that AGPL-3.0-only may be combined with. Otherwise the exit code is 1.
What is known about the packages' vulnerabilities is not told here: `make audit-lock` asks a service for it.
"""

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from benchmarks.results import header, parser, save
from benchmarks.supply_chain.licenses import fits, license_of
from benchmarks.supply_chain.lock import direct_requirements, faults, read_lock, run_time

ROOT = Path(__file__).parents[2]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("out", type=Path, nargs="?", default=ROOT / "results" / "licenses.json")
    pins = read_lock(ROOT / "requirements.lock")
    needed, developing = direct_requirements(ROOT / "pyproject.toml")
    running = run_time(pins, needed)
    packages, absent = [], []
    for pin in (pin for pin in pins if pin.applies):
        try:
            text = license_of(distribution(pin.name))
        except PackageNotFoundError:
            absent.append(pin.name)
            continue
        use = "running" if pin.name in running else "developing"
        packages.append({"name": pin.name, "version": pin.version, "for": use, "license": text, "fits": fits(text)})
    wrong = [p["name"] for p in packages if not p["fits"]]
    broken = faults(pins, [*needed, *developing])
    save(options.parse_args().out, {
        **header("python -m benchmarks.supply_chain"),
        "locked": len(pins),
        "digests": sum(len(pin.hashes) for pin in pins),
        "faults_of_the_lock": broken,
        "not_installed_here": absent,
        "do_not_fit": wrong,
        "packages": packages,
    })  # fmt: skip
    return 1 if broken or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
