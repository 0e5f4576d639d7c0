"""`lumbar predict` over studies of real size: beside its floor, beside the loop of a notebook, its memory and its line.

Whole commands are measured from outside, with all their processes. The time of a study is the slope of the line
through commands of 8, 16, 32 and 64 studies, so that it holds neither imports nor the loading of models; those are the
line's value at no study. The line through all but the longest command foretells the longest.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from benchmarks.bench.floor import record, seconds_of_decoding, seconds_of_networks
from benchmarks.bench.naive import naive_grader, predict_naively
from pipelines.ensembles.members import Members
from pipelines.grader import Grader
from shared.data.source import StudySource, open_source
from shared.runtime.hardware.cores import usable_cores

COUNTS: Final = (8, 16, 32, 64)
QUICK_COUNTS: Final = (1, 2)
_POLL_S: Final = 0.2


def measure_predict(data: Path, localizer: Path, classifier: Path, *, quick: bool = False) -> dict[str, Any]:
    """The section of one pair of runs; `data` needs as many test studies as the longest command."""
    source = open_source(data, "test")
    counts = QUICK_COUNTS if quick else COUNTS
    middle = counts[-2]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        commands = {n: _command(_part(data, source, n, scratch), localizer, classifier, scratch) for n in counts}
        pages = _command(_part(data, source, middle, scratch), localizer, classifier, scratch, pages=True)
        floor = _floor(source, localizer, classifier, middle if quick else 8, middle)
        naive = _naive(source, localizer, classifier, 1 if quick else 6, scratch)
    seconds = np.array([commands[n]["seconds"] for n in counts])
    slope, start = np.polyfit(counts, seconds, 1)
    residual = seconds - (slope * np.array(counts) + start)
    foretold = np.polyval(np.polyfit(counts[:-1], seconds[:-1], 1), counts[-1])
    read = sum(p.stat().st_size for s in source.study_ids[:middle] for p in (data / "test_images" / s).rglob("*.dcm"))
    return {
        "studies": middle, "workers": usable_cores(), "commands": commands, "with_pages": pages,
        "seconds_per_study": slope, "seconds_to_start": start,
        "r2": 1 - float((residual**2).sum() / ((seconds - seconds.mean()) ** 2).sum()),
        "longest_over_foretold": seconds[-1] / float(foretold),
        "bytes_read_per_study": read / middle,
        "bytes_written_per_study": commands[middle]["bytes_written"] / middle,
        "bytes_of_pages_per_study": (pages["bytes_written"] - commands[middle]["bytes_written"]) / middle,
        "floor": floor,
        "study_over_floor": slope * middle / floor["seconds"],
        "command_over_floor": commands[middle]["seconds"] / floor["seconds"],
        "naive": naive, "times_naive": naive["seconds_per_study"] / slope,
        "memory_of_longest_over_quarter": commands[counts[-1]]["peak_pss_mib"] / commands[counts[-3]]["peak_pss_mib"]
        if len(counts) > 2 else None,
        "load_average": os.getloadavg()[0],
    }  # fmt: skip


def _part(data: Path, source: StudySource, count: int, scratch: Path) -> Path:
    """A challenge directory of the first test studies."""
    folder = scratch / f"first{count}"
    if folder.exists():
        return folder
    chosen = set(source.study_ids[:count])
    folder.mkdir()
    (folder / "test_images").symlink_to((data / "test_images").absolute())
    for name in ("test_series_descriptions.csv", "sample_submission.csv"):
        lines = (data / name).read_text(encoding="utf-8").splitlines()
        kept = [lines[0], *(line for line in lines[1:] if line.split(",")[0].split("_")[0] in chosen)]
        (folder / name).write_text("\n".join(kept) + "\n", encoding="utf-8")
    return folder


def _command(data: Path, localizer: Path, classifier: Path, scratch: Path, *, pages: bool = False) -> dict[str, float]:
    """Wall seconds of one command and the most memory that all its processes held at once, shared pages once."""
    lumbar = Path(sys.executable).with_name("lumbar")
    words: list[str | Path] = ["predict", data, scratch / "out", "--localizer", localizer, "--classifier", classifier]
    more = ["--device", "cpu", "--overwrite", *([] if pages else ["--no-pages"])]
    started = time.perf_counter()
    process = subprocess.Popen([lumbar, *words, *more], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = _Peak(process.pid)
    _, told = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode not in (0, 3):
        raise RuntimeError(told)
    written = sum(path.stat().st_size for path in (scratch / "out").rglob("*") if path.is_file())
    return {"seconds": seconds, "peak_pss_mib": peak.stop() / 2**20, "bytes_written": written}


class _Peak:
    """Adds up the memory of a process and of its descendants every moment."""

    def __init__(self, pid: int) -> None:
        self._root, self._ended, self._most = psutil.Process(pid), threading.Event(), 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_S):
            total = 0
            try:
                for process in (self._root, *self._root.children(recursive=True)):
                    total += int(process.memory_full_info().pss)
            except psutil.Error:  # one of them has just ended
                continue
            self._most = max(self._most, total)

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self._most


def _floor(source: StudySource, localizer: Path, classifier: Path, studies: int, of: int) -> dict[str, Any]:
    """Seconds for `of` studies, measured on the first `studies` of them."""
    grader = Grader.load(Members(localizers=(localizer,), classifiers=(classifier,)), device="cpu")
    recording = record(grader, source, source.study_ids[:studies])
    networks, decoding = seconds_of_networks(recording, classifier), seconds_of_decoding(recording)
    seconds = networks["seconds"] + decoding["seconds"] / usable_cores()
    return {
        "measured_on_studies": studies, "seconds": seconds * of / studies, "networks": networks, "decoding": decoding
    }  # fmt: skip


def _naive(source: StudySource, localizer: Path, classifier: Path, studies: int, scratch: Path) -> dict[str, float]:
    naive = naive_grader(localizer, classifier, scratch)
    ours = Grader.load(Members(localizers=(localizer,), classifiers=(classifier,)), device="cpu")
    loaded = [source.load(s) for s in source.study_ids[: studies + 1]]
    predict_naively(naive, loaded[0])
    started = time.perf_counter()
    answers = [predict_naively(naive, each) for each in loaded[1:] or loaded]
    seconds = (time.perf_counter() - started) / len(answers)
    own = [ours.predict(each).submission for each in loaded[1:] or loaded]
    apart = np.abs(np.array(answers) - np.array(own))
    return {
        "measured_on_studies": len(answers), "seconds_per_study": seconds, "largest_difference": float(apart.max()),
        "mean_difference": float(apart.mean()),
    }  # fmt: skip
