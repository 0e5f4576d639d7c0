"""Runs every command on broken studies beside sound ones, with real models.

    python -m benchmarks.broken_studies DEMO WORK     # DEMO: of `lumbar demo`; writes results/broken_studies.json

Every study gets 25 rows, every damage is named, the rows of the sound studies are those of a run without the broken
ones, and no command ends with a traceback. Takes some minutes on 2 cores.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.broken_studies.damage import DAMAGES
from benchmarks.broken_studies.planting import Extent, plant
from benchmarks.broken_studies.verdict import rows_of, verdicts
from benchmarks.results import header, parser, save

ROOT: Final = Path(__file__).parents[2]
SOUND: Final = 4
_CONFIGS: Final = ROOT / "tests" / "configs"


def main() -> int:
    options = parser(__doc__)
    options.add_argument("demo", type=Path)
    options.add_argument("work", type=Path, help="folder to write to; must not exist")
    given = options.parse_args()
    demo, work = given.demo.resolve(), given.work.resolve()
    ids = plant(demo / "data", work / "data", DAMAGES, Extent(sound=SOUND))
    plant(demo / "data", work / "sound", {}, Extent(sound=SOUND))
    commands = {
        **{name: _run(words) for name, words in _commands(demo, work).items()},
        "show": _shown(work, ids),
        **_trainings(demo, work),
    }
    found = verdicts(work / "out", ids)
    alone, beside = rows_of(work / "alone"), rows_of(work / "out")
    save(ROOT / "results" / "broken_studies.json", {
        **header("python -m benchmarks.broken_studies DEMO WORK"),
        "broken_studies": len(ids),
        "answered_and_named": sum(v.kept for v in found.values()),
        "sound_studies": len(alone),
        "sound_rows_equal": alone == {study_id: beside[study_id] for study_id in alone},
        "store_rows_equal": rows_of(work / "from_store") == beside,
        "commands": commands,
        "damages": {name: asdict(v) for name, v in found.items()},
    })  # fmt: skip
    return 0


def _commands(demo: Path, work: Path) -> Mapping[str, list[str]]:
    models = ["--localizer", str(demo / "localizer"), "--classifier", str(demo / "classifier"), "--device", "cpu"]
    data, stage = str(work / "data"), ["--part", "test", "--device", "cpu"]
    points = ["--localizations", str(work / "points" / "localizations.csv")]
    return {
        "predict": ["predict", data, str(work / "out"), *models],
        "predict, sound studies alone": ["predict", str(work / "sound"), str(work / "alone"), *models],
        "audit": ["audit", data, str(work / "audit"), "--pixels", "all"],
        "prepare": ["prepare", data, str(work / "store")],
        "predict from the store": ["predict", str(work / "store"), str(work / "from_store"), *models],
        "localize predict": ["localize", "predict", data, str(demo / "localizer"), str(work / "points"), *stage],
        "classify predict": [
            "classify", "predict", data, str(demo / "classifier"), str(work / "grades"), *points, *stage,
        ],
    }  # fmt: skip


def _trainings(demo: Path, work: Path) -> dict[str, dict[str, Any]]:
    """Both stages trained for one epoch on training studies of which most are broken."""
    data = work / "training"
    plant(demo / "data", data, DAMAGES, Extent(part="train", sound=2 * SOUND, slices=9))
    once = ["--fold", "0", "--weights", "none", "--device", "cpu"]
    return {
        f"{stage} train": _run([
            stage, "train", str(data), str(work / stage), "--config", str(_CONFIGS / f"{stage}.toml"), *once,
        ])
        for stage in ("localize", "classify")
    }  # fmt: skip


def _shown(work: Path, ids: Mapping[str, str]) -> dict[str, Any]:
    """`lumbar show` of every broken study: how many are drawn, and how many refused in one line."""
    ends = [_run(["show", str(work / "data"), s, str(work / f"{s}.png")]) for s in ids.values()]
    return {
        "exit_codes": sorted({end["exit_code"] for end in ends}),
        "drawn": sum(end["exit_code"] == 0 for end in ends),
        "refused": sum(end["exit_code"] == 1 for end in ends),
        "traceback": any(end["traceback"] for end in ends),
    }


def _run(words: list[str]) -> dict[str, Any]:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *words], capture_output=True, text=True, cwd=ROOT, check=False
    )
    end: dict[str, Any] = {"exit_code": done.returncode, "traceback": "Traceback" in done.stderr}
    sys.stderr.write(f"{' '.join(words[:2])}: {json.dumps(end)}\n{done.stderr[-800:] if done.returncode else ''}")
    return {**end, "seconds": round(time.perf_counter() - started, 1)}


if __name__ == "__main__":
    sys.exit(main())
