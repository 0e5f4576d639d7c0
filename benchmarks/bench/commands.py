"""Sections `start`, `prepare` and `train`: whole commands, and scripts that have a file of their own."""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bench.rounds import Line, in_turn, line
from benchmarks.prepare import measure_prepare
from shared.runtime.documents import read_json

_TORCH = "import torch"
# Everything that `lumbar predict` imports and loads before it computes.
_LOADED = """
import sys
from pathlib import Path
import pipelines.cli, pipelines.predict.run
from pipelines.ensembles.members import Members
from pipelines.grader import Grader
Grader.load(Members(localizers=(Path(sys.argv[1]),), classifiers=(Path(sys.argv[2]),)))
"""


def measure_start(runs: tuple[Path, Path], rounds: int) -> tuple[list[Line], dict[str, Any]]:
    """A process that imports and loads all that a prediction needs, beside one that imports torch."""
    words, lumbar = [sys.executable, "-c"], [sys.executable, "-m", "pipelines.cli"]
    times = in_turn(
        {
            "torch": lambda: subprocess.run([*words, _TORCH], check=True),
            "loaded": lambda: subprocess.run([*words, _LOADED, *map(str, runs)], check=True, capture_output=True),
            "help": lambda: subprocess.run([*lumbar, "--help"], check=True, capture_output=True),
            "python": lambda: subprocess.run([*words, "pass"], check=True),
        },
        rounds,
    )
    more = statistics.median(a - b for a, b in zip(times["loaded"], times["torch"], strict=True))
    return [
        line("start of predict, models loaded", "`import torch`", times["loaded"], times["torch"],
             target="torch's import + 1.5 s before the first slice", note=f"{more:.2f} s more than torch alone"),
        line("`lumbar --help`", "an interpreter that does nothing", times["help"], times["python"],
             note=f"{statistics.median(times['help']):.2f} s"),
    ], {"seconds": times}  # fmt: skip


def measure_preparing(studies: int, rounds: int) -> tuple[list[Line], dict[str, Any]]:
    """`benchmarks/prepare.py`, whose file says more."""
    found = measure_prepare(studies, rounds, None)
    speeds = found["speeds"]
    loop = speeds["notebook loop"]["wall_seconds"]
    return [
        line(f"{name}, {found['slices']} slices", "the notebooks' loop", loop, speeds[name]["wall_seconds"],
             target="at least 6" if name == "prepare" else "",
             note=f"{speeds[name]['slices_per_second']:.0f} slices a second with {found['workers']} workers")
        for name in ("prepare", "prepare --png")
    ], {"prepare": found}  # fmt: skip


def measure_training(rounds: int, *, quick: bool) -> tuple[list[Line], dict[str, Any]]:
    """Both trainings beside their networks alone: `benchmarks/feed.py` and `benchmarks/machine/detector.py`."""
    feed = _script("benchmarks.feed", rounds, *(["--steps", "2", "--studies", "8"] if quick else []))
    detector = _script(
        "benchmarks.machine.detector", min(rounds, 3),
        *(["--images", "64", "--epochs", "2"] if quick else []),
    )  # fmt: skip
    shares = feed["share_of_pure"]["rounds"]
    lines = [
        line("steps of the grader's training", "the pure step on resident tensors", shares, [1.0] * len(shares),
             target="at least .95", note=f"{feed['steps_per_second']['training']:.2f} steps a second"),
    ]  # fmt: skip
    gains = detector.get("all_cores_over_one_per_round", [])
    if gains:
        told = ", ".join(f"{name} {share:.2f}" for name, share in detector["share_of_the_network_alone"].items())
        lines.append(
            line("one detector's training on all cores", "on one core", gains, [1.0] * len(gains),
                 target="at least 1.6", note=f"share of its network's own speed: {told}")
        )  # fmt: skip
    return lines, {"feed": feed, "detector": detector}


def _script(module: str, rounds: int, *options: str) -> dict[str, Any]:
    """What a script of its own measures in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out.json"
        words = [sys.executable, "-m", module, str(out), "--rounds", str(rounds), *options]
        subprocess.run(words, check=True, capture_output=True)
        found: dict[str, Any] = read_json(out)
    return found
