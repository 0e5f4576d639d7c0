"""The same call gives the same bytes, whatever the place, the language, the clock and the file system are like."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Lists every folder in an order that the seed decides, as no file system promises any, and runs the commands.
CODE = """
import os, random, sys
seed, workers, data, out = sys.argv[1:]
listdir, scandir, order = os.listdir, os.scandir, random.Random(int(seed))

def shuffled(names):
    names = sorted(names, key=str)
    order.shuffle(names)
    return names

class Entries:
    def __init__(self, entries): self.left = iter(entries)
    def __iter__(self): return self
    def __next__(self): return next(self.left)
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def close(self): pass

os.listdir = lambda *a: shuffled(listdir(*a))
os.scandir = lambda *a: Entries(shuffled(scandir(*a)))
from pipelines.cli import main
from shared.figures.report import Report
Report.figure = lambda *a, **k: None  # charts take most of the time; their pages are not compared
for words in (
    ["synth", f"{out}/synth", "--studies", "1", "--test-studies", "1", "--seed", "3", "--workers", workers],
    ["splits", data, f"{out}/splits.json"],
    ["series", f"{data}/test_images"],
    ["prepare", data, f"{out}/store", "--part", "test", "--workers", workers],
    ["audit", data, f"{out}/audit", "--part", "test", "--pixels", "none", "--workers", workers],
):
    assert main(words) == 0, words
"""
WORLDS = [
    {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "2", "TZ": "Pacific/Chatham", "LC_ALL": "C.UTF-8", "LANG": "tr_TR.UTF-8"},
]


def run(world: int, data: Path, folder: Path) -> tuple[str, dict[str, str]]:
    """What the commands print, and the digest of each file that they write; run.json holds times."""
    out = folder / f"world{world}"
    out.mkdir()
    place = out if world else ROOT
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(world), str(world + 1), str(data), str(out)],
        cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT), **WORLDS[world]}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    files = (p for p in out.rglob("*") if p.is_file() and p.name not in ("run.json", "report.html", "report.json"))
    digests = {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    lines = [line for line in done.stdout.decode().splitlines() if str(out) not in line]
    return "\n".join(lines), digests


@pytest.mark.skipif(not Path("/usr/share/zoneinfo/Pacific/Chatham").exists(), reason="no time zones are installed")
def test_bytes_depend_on_nothing_but_the_call(tiny_demo: Path, tmp_path: Path) -> None:
    first, second = (run(world, tiny_demo / "data", tmp_path) for world in range(len(WORLDS)))
    assert first[0] == second[0]
    assert first[1].keys() == second[1].keys()
    assert {name for name in first[1] if first[1][name] != second[1][name]} == set()
    assert len(first[1]) > 80
