"""Timings of the parts that everything else waits for, each beside a reference in the same run.

    make bench            # writes results/timings.json
    python benchmarks/timings.py OUT.json

Machines are noisy: read the ratios, not the seconds.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom

from benchmarks.results import header, parser, save
from pipelines.synthetic import SynthOptions, generate
from shared.data.challenge import Challenge
from shared.dicom.reader import read_header, read_pixels

ROUNDS = 5


def median_seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def help_times() -> dict[str, float]:
    """Start of the command line, beside an interpreter that does nothing."""
    lumbar = Path(sys.executable).with_name("lumbar")
    return {
        "help_seconds": median_seconds(lambda: subprocess.run([lumbar, "--help"], capture_output=True, check=True)),
        "bare_python_seconds": median_seconds(lambda: subprocess.run([sys.executable, "-c", ""], check=True)),
    }


def plain_loop(path: Path) -> np.ndarray:
    """What a notebook does: dcmread with everything, min-max to 8 bit."""
    pixels = pydicom.dcmread(path).pixel_array.astype(float)
    return np.asarray((pixels - pixels.min()) / max(float(np.ptp(pixels)), 1.0) * 255).astype(np.uint8)


def reading_times(images: list[Path]) -> dict[str, float]:
    """Our reader (robust window included) beside the notebook loop on the same files, one core."""
    ours = median_seconds(lambda: [read_pixels(p) for p in images])
    plain = median_seconds(lambda: [plain_loop(p) for p in images])
    headers = median_seconds(lambda: [read_header(p) for p in images])
    return {
        "slices": len(images),
        "pixels_ms_per_slice": 1000 * ours / len(images),
        "notebook_loop_ms_per_slice": 1000 * plain / len(images),
        "header_ms_per_slice": 1000 * headers / len(images),
        "pixels_over_notebook_loop": ours / plain,
    }


def synthesis_time(folder: Path) -> dict[str, float]:
    """One core, demo preset, DICOM writing included."""
    started = time.perf_counter()
    generate(folder, SynthOptions(studies=6, test_studies=0, seed=123))
    return {"synthetic_demo_study_seconds": (time.perf_counter() - started) / 6}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/timings.json"))
    out = arguments.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        synthesis = synthesis_time(Path(name) / "synth")
        data = Challenge.open(Path(name) / "synth" / "data")
        images = sorted(data.images.rglob("*.dcm"))[:150]
        save(out, {**header("make bench"), **help_times(), **reading_times(images), **synthesis})


if __name__ == "__main__":
    main()
