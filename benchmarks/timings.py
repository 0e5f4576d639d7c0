"""Timings of the parts that everything else waits for, each beside a reference in the same run.

    make bench            # writes results/timings.json
    python benchmarks/timings.py OUT.json

Machines are noisy: read the ratios, not the seconds.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from benchmarks.record_demo import cpu_name
from pipelines.synthetic import SynthOptions, generate
from shared.data.challenge import Challenge
from shared.dicom.reader import read_header, read_pixels
from shared.runtime.run import git_commit

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


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        synthesis = synthesis_time(Path(name) / "synth")
        data = Challenge.open(Path(name) / "synth" / "data")
        images = sorted(data.images.rglob("*.dcm"))[:150]
        result: dict[str, Any] = {
            "command": "make bench",
            "commit": git_commit(),
            "hardware": f"{os.cpu_count()} cores of {cpu_name()}",
            **help_times(),
            **reading_times(images),
            **synthesis,
        }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("results/timings.json"))
