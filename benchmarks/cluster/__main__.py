"""Bulk prediction whose node is killed, and merged shards, beside one process: the same bytes or not, and the time.

    python -m benchmarks.cluster DEMO WORK [--out results/cluster.json]

DEMO is the folder of a finished `lumbar demo`, with its data and both runs. The cluster's two nodes lie on this machine
and have one core each. The second one is killed without warning when a quarter of the studies is answered. Needs the
extra `cluster`.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.results import header, parser, save
from shared.runtime.bulk.ray_cluster import load_ray

_SHARDS: Final = 3
# What run.json and state.json say of a run itself.
_OWN: Final = ("run.json", ".lumbar")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("demo", type=Path)
    arguments.add_argument("work", type=Path, help="folder to write to; emptied first")
    arguments.add_argument("--out", type=Path, default=Path("results/cluster.json"))
    a = arguments.parse_args()
    shutil.rmtree(a.work, ignore_errors=True)
    words = ["predict", str(a.demo / "data"), "{out}", "--device", "cpu"]
    words += [w for stage in ("localizer", "classifier") for w in (f"--{stage}", str((a.demo / stage).resolve()))]
    one_s = _timed([*words, "--workers", "1"], a.work / "one")
    shards = [_timed([*words, "--workers", "1", "--shard", f"{n}/{_SHARDS}"], a.work / f"shard{n}")
              for n in range(1, _SHARDS + 1)]  # fmt: skip
    merge_s = _timed(["merge", "{out}", *(str(a.work / f"shard{n}") for n in range(1, _SHARDS + 1))], a.work / "merged")
    with _two_nodes() as (address, kill):
        killed_after, ray_s = _predict_and_kill(words, a.work / "ray", address, kill)
    studies = len(list((a.work / "one" / "studies").glob("*.json")))
    save(
        a.out,
        {
            **header("python -m benchmarks.cluster DEMO WORK", device="cpu"),
            "studies": studies,
            "files_of_one_process": len(_files(a.work / "one")),
            "one_process_seconds": one_s,
            "shards": {
                "number": _SHARDS, "seconds_each": shards, "merge_seconds": merge_s,
                "files_that_differ": _differing(a.work / "one", a.work / "merged"),
            },
            "ray": {
                "nodes": 2, "cores_of_each": 1, "nodes_killed": 1, "answered_before_the_kill": killed_after,
                "seconds": ray_s, "files_that_differ": _differing(a.work / "one", a.work / "ray"),
            },
        },
    )  # fmt: skip


def _command(words: Sequence[str], out: Path) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli", *(word.format(out=out) for word in words)]


def _timed(words: Sequence[str], out: Path) -> float:
    started = time.time()
    subprocess.run(_command(words, out), check=True, stdout=subprocess.DEVNULL)
    return round(time.time() - started, 1)


@contextmanager
def _two_nodes() -> Iterator[tuple[str, Any]]:
    """A cluster; its address, and what kills its second node."""
    os.environ["HTTP_PROXY"] = "http://127.0.0.1:9"  # as for a cluster of our own: nothing asks where it runs
    load_ray()
    from ray.cluster_utils import Cluster

    local: dict[str, Any] = {"node_ip_address": "127.0.0.1", "num_cpus": 1}
    cluster: Any = Cluster(initialize_head=True, head_node_args={**local, "include_dashboard": False})
    second = cluster.add_node(**local)
    try:
        yield cluster.address, lambda: cluster.remove_node(second, allow_graceful=False)
    finally:
        cluster.shutdown()


def _predict_and_kill(words: Sequence[str], out: Path, address: str, kill: Any) -> tuple[int, float]:
    """Predicts over the cluster and kills the node meanwhile; the studies answered by then, and the seconds."""
    expected = len(list((out.parent / "one" / "studies").glob("*.json")))
    started, answered = time.time(), 0
    environment = {**os.environ, "RAY_ADDRESS": address}
    command = _command([*words, "--engine", "ray"], out)
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while running.poll() is None:
        found = len(list((out / "studies").glob("*.json")))
        if not answered and found >= expected / 4:
            answered = found
            kill()
        time.sleep(0.1)
    if running.returncode or not answered:
        raise SystemExit(f"the prediction ended with {running.returncode}, {answered} studies before the kill")
    return answered, round(time.time() - started, 1)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _differing(one: Path, other: Path) -> list[str]:
    """Files that only one of the folders has, or whose bytes differ, but for those on the run itself."""
    ours, theirs = _files(one), _files(other)
    return sorted(n for n in ours.keys() | theirs.keys() if n not in _OWN and ours.get(n) != theirs.get(n))


if __name__ == "__main__":
    main()
