"""Why one seed gives other weights on another machine: short trainings as other processors and thread counts run them.

    python -m benchmarks.machine.variants                       # writes results/variants.json

Each variant trains the demo's networks for some steps on the same random images, in a process of its own. The switches
limit the vector instructions of torch's kernels (ATEN_CPU_CAPABILITY) and of oneDNN's convolutions (ONEDNN_MAX_CPU_ISA)
to those of older processors. "same" repeats the first variant.
"""

import argparse
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.machine.contention import STEPS
from benchmarks.results import header, parser, save

# Name -> environment, and number of threads.
VARIANTS: Final = {
    "reference": ({}, 2), "same": ({}, 2), "one thread": ({}, 1),
    "torch as on AVX2": ({"ATEN_CPU_CAPABILITY": "avx2"}, 2),
    "oneDNN as on AVX2": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, 2),
    "both as on AVX2": ({"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}, 2),
}  # fmt: skip
PARTS: Final = ("grader", "detector")


def read_arguments() -> argparse.Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/variants.json"))
    arguments.add_argument("--steps", type=int, default=4, help="training steps (default %(default)s)")
    arguments.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    arguments.add_argument("--threads", type=int, default=2, help=argparse.SUPPRESS)
    arguments.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    return arguments.parse_args()


def train_part(part: str, steps: int, threads: int, weights: Path) -> None:
    """Trains for some steps and writes all weights as one array."""
    import torch

    step, network = STEPS[part]()
    torch.set_num_threads(threads)
    for _ in range(steps):
        step()
    np.save(weights, torch.cat([p.detach().flatten() for p in network.parameters()]).numpy())


def trained(part: str, name: str, options: argparse.Namespace, folder: Path) -> Any:
    """The weights that a variant ends with."""
    environment, threads = VARIANTS[name]
    weights = folder / f"{part}-{name.replace(' ', '-')}.npy"
    command = [
        sys.executable, "-m", "benchmarks.machine.variants", "--part", part, "--steps", str(options.steps),
        "--threads", str(threads), "--weights", str(weights),
    ]  # fmt: skip
    subprocess.run(command, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **environment}, check=True)
    return np.load(weights)


def main() -> None:
    import tempfile

    options = read_arguments()
    if options.part:
        train_part(options.part, options.steps, options.threads, options.weights)
        return
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        for part in PARTS:
            reference = trained(part, "reference", options, Path(name))
            for variant in VARIANTS:
                if variant == "reference":
                    continue
                weights = trained(part, variant, options, Path(name))
                results.setdefault(part, {})[variant] = {
                    "same_bytes": sha256(weights.tobytes()).digest() == sha256(reference.tobytes()).digest(),
                    "largest_difference": float(np.abs(weights - reference).max()),
                    "share_of_weights": round(float((weights != reference).mean()), 4),
                }
    save(options.out, header("python -m benchmarks.machine.variants", device="cpu") | {
        "steps": options.steps, "instructions": instructions(), "against_reference": results,
    })  # fmt: skip


def instructions() -> str:
    """The vector instructions that torch chooses on this machine."""
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


if __name__ == "__main__":
    main()
