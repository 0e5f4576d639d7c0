"""Seconds of a call of a run's networks, in a process bound to so many cores."""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def measured(path: Path, stage: str, batches: list[int], threads: int, rounds: int) -> list[dict[str, Any]]:
    """The networks of a run's first fold, each with all libraries and batches."""
    import torch

    from pipelines.export.networks import networks_of
    from pipelines.export.writing import write_onnx
    from shared.backends.sessions import installed_libraries, load_network

    torch.set_num_threads(threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for network in networks_of(path, stage):  # type: ignore[arg-type]
            if not network.name.startswith("fold0/"):
                break
            file = Path(folder) / f"{network.name}.onnx"
            write_onnx(network, file)
            data, loading, calls = file.read_bytes(), {}, {"torch": network.as_predicted(threads)}
            for library in installed_libraries():
                started = time.perf_counter()
                calls[library] = load_network(library, data, place="cpu", threads=threads)
                loading[library] = time.perf_counter() - started
            for batch in batches:
                arrays = network.arrays((batch, *network.shapes[-1][1:]))
                expected = network.compute(*arrays)
                answers = {name: call(*arrays) for name, call in calls.items()}  # the first call is not timed
                times: dict[str, list[float]] = {name: [] for name in calls}
                for _ in range(rounds):
                    for name, call in calls.items():
                        started = time.perf_counter()
                        call(*arrays)
                        times[name].append(time.perf_counter() - started)
                rows.append({
                    "network": network.name, "threads": threads, "shape": list(arrays[0].shape),
                    "seconds": {name: statistics.median(found) for name, found in times.items()},
                    "of_torch": {
                        name: statistics.median(a / b for a, b in zip(found, times["torch"], strict=True))
                        for name, found in times.items() if name != "torch"
                    },
                    "probability_difference": {
                        name: network.difference(expected, answer).probability
                        for name, answer in answers.items()
                    },
                    "load_seconds": loading,
                })  # fmt: skip
                print(rows[-1], file=sys.stderr)
    return rows


def in_own_process(threads: int, runs: list[tuple[Path, str]], batches: list[int], rounds: int) -> list[dict[str, Any]]:
    """Both runs, bound to so many cores: the last ones, which other programs use least."""
    from shared.runtime.hardware.cores import let_threads_sleep

    let_threads_sleep()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    return [row for path, stage in runs for row in measured(path, stage, batches, threads, rounds)]
