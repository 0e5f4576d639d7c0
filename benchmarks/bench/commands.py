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
# A prediction that ends where it opens its first DICOM file.
_FIRST_SLICE = """
import os, sys
def opened(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".dcm"):
        os._exit(0)
sys.addaudithook(opened)
from pipelines.cli import main
main(["predict", *sys.argv[1:]])
sys.exit("no slice was read")
"""


def measure_start(data: Path, runs: tuple[Path, Path], rounds: int) -> tuple[list[Line], dict[str, Any]]:
    """A process that reads the first slice, and one that loads all that a prediction needs, beside `import torch`.

    Args:
      data: a challenge directory; its first test study alone is a folder of DICOM files.
    """
    words, lumbar = [sys.executable, "-c"], [sys.executable, "-m", "pipelines.cli"]
    one = min((data / "test_images").iterdir())

    def to_first_slice(given: Path) -> None:
        with tempfile.TemporaryDirectory() as out:
            models = ["--localizer", str(runs[0]), "--classifier", str(runs[1]), "--device", "cpu", "--workers", "1"]
            command = [*words, _FIRST_SLICE, str(given), f"{out}/out", *models]
            subprocess.run(command, check=True, capture_output=True)

    times = in_turn(
        {
            "torch": lambda: subprocess.run([*words, _TORCH], check=True),
            "first slice of a folder": lambda: to_first_slice(one),
            "first slice of a challenge": lambda: to_first_slice(data),
            "loaded": lambda: subprocess.run([*words, _LOADED, *map(str, runs)], check=True, capture_output=True),
            "help": lambda: subprocess.run([*lumbar, "--help"], check=True, capture_output=True),
            "python": lambda: subprocess.run([*words, "pass"], check=True),
        },
        rounds,
    )

    def over_torch(name: str) -> str:
        more = statistics.median(a - b for a, b in zip(times[name], times["torch"], strict=True))
        return f"{abs(more):.2f} s {'more' if more > 0 else 'less'} than torch alone"

    return [
        *(
            line(f"start of predict, {name}", "`import torch`", times[name], times["torch"],
                 target="torch's import + 1.5 s", note=over_torch(name))
            for name in ("first slice of a folder", "first slice of a challenge")
        ),
        line("start of predict, models loaded", "`import torch`", times["loaded"], times["torch"],
             note=over_torch("loaded")),
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
