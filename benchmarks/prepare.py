"""`lumbar prepare` beside the loop that the challenge's notebooks run, on the same files in one run.

    python benchmarks/prepare.py                       # writes results/prepare.json
    python benchmarks/prepare.py OUT.json --studies 8

(a) the notebooks' loop, one process: dcmread, pixel_array, min-max to 8 bit, 512 x 512, PNG; (b) prepare; (c) prepare
--png. Taken in turn, round after round; medians. (b) and (c) are whole commands, from the start of the interpreter to
the end of its processes; (a) is the loop alone. What a command takes to start is measured on one study a process, and
the speed without it, which a large data set sees, given beside.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from benchmarks.results import header, parser, save
from pipelines.synthetic import SynthOptions, generate
from shared.data.challenge import Challenge
from shared.dicom.pixels import slice_pixels
from shared.dicom.reader import read_file, read_pixels
from shared.runtime.documents import read_json

WORKERS = 2
SEED = 2024
ENCODINGS = {
    RLELossless: "pylibjpeg", ExplicitVRLittleEndian: "", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg",
}  # fmt: skip


def notebook_slice(path: Path, target: Path) -> None:
    pixels = pydicom.dcmread(path).pixel_array
    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min() + 1e-6) * 255
    cv2.imwrite(str(target), cv2.resize(pixels.astype(np.uint8), (512, 512)))


def notebook_loop(paths: Sequence[Path], target: Path) -> None:
    target.mkdir()
    for number, path in enumerate(paths):
        notebook_slice(path, target / f"{number}.png")


def measure(work: Callable[[], object]) -> float:
    """Wall seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def prepare_command(data: Path, *options: str) -> Callable[[Path], object]:
    lumbar = Path(sys.executable).with_name("lumbar")
    rest = ["--workers", str(WORKERS), *options]
    return lambda out: subprocess.run([lumbar, "prepare", data, out, *rest], check=True, capture_output=True)


def first_studies(data: Path, folder: Path, count: int) -> int:
    """A challenge directory of the first studies; returns its slices."""
    folder.mkdir()
    (folder / "train_images").symlink_to((data / "train_images").absolute())
    for name in ("train.csv", "train_series_descriptions.csv"):
        table = pd.read_csv(data / name, dtype=str)
        first = sorted(set(table["study_id"]))[:count]
        table[table["study_id"].isin(first)].to_csv(folder / name, index=False)
    return sum(len(list((data / "train_images" / study_id).rglob("*.dcm"))) for study_id in first)


def rounds_in_turn(jobs: dict[str, Callable[[Path], object]], scratch: Path, rounds: int) -> dict[str, list[float]]:
    """Each job in turn, into a fresh folder each time: name -> seconds of every round."""
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, job in jobs.items():
            target = scratch / "target"
            times[name].append(measure(partial(job, target)))
            shutil.rmtree(target)
    return times


def speeds(times: dict[str, list[float]], slices: int, start_slices: int) -> dict[str, Any]:
    """Slices per second by the median round, and each job's speed over the notebooks' in the same round."""
    result: dict[str, Any] = {}
    loop = times["notebook loop"]
    for name, seconds in times.items():
        if name.startswith("start of "):
            continue
        ratios = sorted(base / own for base, own in zip(loop, seconds, strict=True))
        result[name] = {
            "slices_per_second": slices / statistics.median(seconds),
            "over_notebook_loop": statistics.median(ratios),
            "over_notebook_loop_range": [ratios[0], ratios[-1]],
            "wall_seconds": seconds,
        }
        start = times.get(f"start of {name}")
        if start:
            steady = (slices - start_slices) / (statistics.median(seconds) - statistics.median(start))
            result[name] |= {
                "few_studies_wall_seconds": start,
                "slices_per_second_without_start": steady,
                "over_notebook_loop_without_start": steady * statistics.median(loop) / slices,
            }
    return result


def median_ms(work: Callable[[Any], object], items: Sequence[Any], rounds: int = 3) -> float:
    return statistics.median(measure(lambda: [work(i) for i in items]) for _ in range(rounds)) / len(items) * 1000


def encodings(paths: Sequence[Path], scratch: Path) -> dict[str, Any]:
    """One process, ms a slice: the notebooks' loop and our reader (file read, hash, header, decoding, scaling)."""
    result = {}
    for syntax, plugin in ENCODINGS.items():
        copies = []
        for number, path in enumerate(paths):
            dataset = pydicom.dcmread(path)
            dataset.decompress(generate_instance_uid=False)
            if plugin:
                dataset.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
            copies.append(scratch / f"{number}-{UID(syntax)}.dcm")
            dataset.save_as(copies[-1])
        png = scratch / "one.png"
        loop = median_ms(partial(notebook_slice, target=png), copies)
        reader = median_ms(read_file, copies)
        result[UID(syntax).name] = {"notebook_loop_ms": loop, "reader_ms": reader}
    return result


def reading_back(data: Path, store: Path) -> dict[str, float]:
    """One process, ms a slice: pixels of a part from DICOM, from the store, and from a mapping of its files."""
    opened = {root: Challenge.open(root) for root in (data, store)}
    items = {
        root: [item for s in part.study_ids[:6] for series in part.load_study(s).study.series for item in series.slices]
        for root, part in opened.items()
    }

    def mapped(item: Any) -> int:
        pixels = np.memmap(item.stored.path, np.uint8, "r", item.stored.offset, item.shape)
        return int(pixels.sum())

    def load(part: Challenge) -> float:
        return median_ms(part.load_study, part.study_ids[:6])

    return {
        "dicom_ms": median_ms(lambda item: int(read_pixels(item.path).sum()), items[data]),
        "store_ms": median_ms(lambda item: int(slice_pixels(item).sum()), items[store]),
        "store_mapped_unchecked_ms": median_ms(mapped, items[store]),
        "headers_of_a_study_dicom_ms": load(opened[data]),
        "headers_of_a_study_store_ms": load(opened[store]),
    }


def measure_prepare(studies: int, rounds: int, synth: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        made = synth or scratch / "synth"
        if synth is None:
            generate(made, SynthOptions(studies=studies, test_studies=0, preset="full", seed=SEED), workers=WORKERS)
        facts = read_json(made / "truth" / "manifest.json")
        data = scratch / "data"
        first_studies(made / "data", data, studies)
        study_ids = sorted(set(pd.read_csv(data / "train.csv", dtype=str)["study_id"]))
        paths = [path for s in study_ids for path in sorted((data / "train_images" / s).rglob("*.dcm"))]
        shapes = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths[::10]]
        jobs: dict[str, Callable[[Path], object]] = {
            "notebook loop": lambda out: notebook_loop(paths, out),
            "prepare": prepare_command(data, "--part", "train"),
            "prepare --png": prepare_command(data, "--part", "train", "--png"),
            "start of prepare": prepare_command(scratch / "few", "--part", "train"),
            "start of prepare --png": prepare_command(scratch / "few", "--part", "train", "--png"),
        }
        start_slices = first_studies(data, scratch / "few", WORKERS)
        times = rounds_in_turn(jobs, scratch, rounds)
        store = scratch / "store"
        prepare_command(data, "--part", "train")(store)
        again = measure(lambda: prepare_command(data, "--part", "train", "--resume")(store))
        command = f"python benchmarks/prepare.py --studies {studies} --rounds {rounds}"
        return header(command + (" --synth SYNTH" if synth else "")) | {
            "load_average": os.getloadavg(),  # ours is about 2; more means that other programs took their share
            "data": f"the first {studies} studies of lumbar synth --preset {facts['preset']} --studies "
            f"{facts['studies']} --test-studies {facts['test_studies']} --seed {facts['seed']}",
            "slices": len(paths),
            "mean_pixels": float(np.mean([s.Rows * s.Columns for s in shapes])),
            "transfer_syntaxes": sorted({s.file_meta.TransferSyntaxUID.name for s in shapes}),
            "workers": WORKERS,
            "dicom_bytes": sum(path.stat().st_size for path in paths),
            "store_bytes": sum(path.stat().st_size for path in (store / "studies").rglob("*.*")),
            "speeds": speeds(times, len(paths), start_slices),
            "unchanged_slices_per_second": len(paths) / again,
            "encodings": encodings(paths[:: len(paths) // 40], scratch),
            "reading_back": reading_back(data, store),
        }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/prepare.json"))
    arguments.add_argument("--studies", type=int, default=24, help="studies measured (default %(default)s)")
    arguments.add_argument("--rounds", type=int, default=5, help="turns of each command (default %(default)s)")
    arguments.add_argument("--synth", type=Path, help="take the first studies of this folder of `lumbar synth`")
    a = arguments.parse_args()
    save(a.out, measure_prepare(a.studies, a.rounds, a.synth))


if __name__ == "__main__":
    main()
