"""torch, ONNX Runtime and OpenVINO on the networks of two runs: seconds of a call, and its share of torch's.

    python -m benchmarks.backends LOCALIZER CLASSIFIER            # writes results/backends.json
    python -m benchmarks.backends LOCALIZER CLASSIFIER OUT.json --threads 1 --batches 25 --rounds 3

All libraries compute the same inputs in turn, round after round, so whatever else the machine does meets all alike. A
share is the median over rounds. Every number of threads is measured in a process of its own, bound to as many cores.
"""

import argparse
import multiprocessing
from pathlib import Path

from benchmarks.backends.measure import in_own_process
from benchmarks.results import header, parser, save


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("localizer", type=Path)
    arguments.add_argument("classifier", type=Path)
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/backends.json"))
    arguments.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--batches", type=int, nargs="+", default=[25, 50, 100])
    arguments.add_argument("--rounds", type=int, default=7)
    save_all(arguments.parse_args())


def save_all(a: argparse.Namespace) -> None:
    runs, rows = [(a.localizer, "localize"), (a.classifier, "classify")], []
    for threads in a.threads:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows += pool.apply(in_own_process, (threads, runs, a.batches, a.rounds))
    command = "python -m benchmarks.backends LOCALIZER CLASSIFIER"
    save(a.out, {**header(command, device="cpu"), "rounds": a.rounds, "versions": versions(), "networks": rows})


def versions() -> dict[str, str]:
    import torch

    from shared.backends.sessions import installed_libraries, library_version

    return {"torch": torch.__version__, **{name: library_version(name) for name in installed_libraries()}}


if __name__ == "__main__":
    main()
