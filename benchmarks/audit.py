"""Measures `lumbar audit`: does it find every planted trap, is it silent on clean data, how long does it take.

    python benchmarks/audit.py                  # writes results/audit.json; about five minutes on 2 cores
    python benchmarks/audit.py OUT.json

The audit never sees truth/: only this script reads the manifest, to compare it with the findings. A trap counts as
found when a finding of an expected code lies on its study and, where the manifest names a series, on that series.
"""

import json
import os
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks.results import header, parser, save
from pipelines.audit import AuditOptions, audit
from pipelines.audit.issues import Category, Issue, count_categories
from pipelines.audit.pixels import Pixels
from pipelines.synthetic import SynthOptions, generate
from pipelines.synthetic.grades import MISSING, sample_labels, severity_text
from pipelines.synthetic.tables import wide_grades, write_csv
from shared.labels import FINDINGS, View

TRAP_SEEDS: Final = (1, 2)
CLEAN_SEEDS: Final = (11, 12)
TRAP_STUDIES, TRAP_TEST_STUDIES, CLEAN_STUDIES = 40, 50, 55
TABLE_STUDIES: Final = 2000

# Trap -> codes, any of which names it; all are needed for those in `_ALL_NEEDED`.
EXPECTED: Final[Mapping[str, tuple[str, ...]]] = {
    "reversed_axial": ("feet-first",),
    "huge_instance_numbers": ("numbers-huge",),
    "split_axial": ("levels-split",),
    "mixed_stacks": ("sizes-mixed", "tilts-mixed"),
    "duplicate_positions": ("positions-repeated",),
    "missing_t1": ("view-missing",),
    "missing_t2": ("view-missing",),
    "missing_axial": ("view-missing",),
    "two_t1": ("several-series",),
    "cervical_extra": ("foreign-anatomy",),
    "flipped_axial": ("axial-mirrored", "pixels-mirrored"),
    "monochrome1": ("monochrome1",),
    "signed_pixels": ("signed-pixels",),
    "rescaled": ("rescaled",),
    "jpeg_2000": ("transfer-syntax",),
    "jpeg_ls": ("transfer-syntax",),
    "big_endian": ("transfer-syntax",),
    "multi_window": ("several-windows",),
    "missing_tags": ("tags-missing",),
    "damaged_file": ("pixels-unreadable", "file-unreadable", "no-plane"),
    "missing_grades": ("grade-missing",),
    "missing_points": ("grade-without-point",),
    "points_without_grade": ("point-without-grade",),
    "no_points_no_t2": ("study-without-points",),
    "canal_points_on_t1": ("view-of-points",),
    "swapped_sides": ("sides-swapped",),
    "off_by_one_level": ("levels-shifted",),
    "corner_point": ("point-in-corner",),
    "foramina_on_one_slice": ("foramina-on-one-slice",),
}
_ALL_NEEDED: Final = frozenset({"mixed_stacks"})


def is_found(trap: Mapping[str, str], issues: Sequence[Issue]) -> bool:
    named = set(re.findall(r"\b\d{6,}\b", trap["detail"]))
    here = {
        i.code.slug
        for i in issues
        if i.study_id == trap["study_id"] and (not i.series_id or not named or i.series_id in named)
    }
    found = [slug in here for slug in EXPECTED[trap["trap"]]]
    return all(found) if trap["trap"] in _ALL_NEEDED else any(found)


def recall(manifests: Sequence[tuple[int, Sequence[Mapping[str, str]], Sequence[Issue]]]) -> dict[str, Any]:
    """Per trap: planted, found, and what was missed."""
    planted: dict[str, int] = defaultdict(int)
    missed: dict[str, list[str]] = defaultdict(list)
    for seed, traps, issues in manifests:
        for trap in traps:
            planted[trap["trap"]] += 1
            if not is_found(trap, issues):
                missed[trap["trap"]].append(f"seed {seed}, study {trap['study_id']}")
    return {
        name: {"planted": planted[name], "found": planted[name] - len(missed[name]), "missed": missed[name]}
        for name in EXPECTED
    }


def synthesize(folder: Path, *, studies: int, test_studies: int, seed: int, traps: bool) -> Path:
    workers = os.cpu_count() or 1
    generate(folder, SynthOptions(studies=studies, test_studies=test_studies, seed=seed, traps=traps), workers=workers)
    return folder


def timed_audit(data: Path, out: Path, options: AuditOptions) -> tuple[tuple[Issue, ...], float]:
    started = time.perf_counter()
    issues = audit(data, out, options).issues
    return issues, time.perf_counter() - started


def measure_traps(folder: Path) -> dict[str, Any]:
    found: dict[Pixels, list[Any]] = {mode: [] for mode in (Pixels.SAMPLE, Pixels.ALL)}
    seconds = dict.fromkeys(found, 0.0)
    for seed in TRAP_SEEDS:
        root = synthesize(
            folder / f"traps-{seed}", studies=TRAP_STUDIES, test_studies=TRAP_TEST_STUDIES, seed=seed, traps=True
        )
        manifest = json.loads((root / "truth" / "manifest.json").read_text())
        for mode, sets in found.items():
            options = AuditOptions(pixels=mode, workers=os.cpu_count() or 1)
            issues, took = timed_audit(root / "data", folder / f"audit-{mode}-{seed}", options)
            seconds[mode] += took
            sets.append((seed, manifest["traps"], issues))
    studies = len(TRAP_SEEDS) * (TRAP_STUDIES + TRAP_TEST_STUDIES)
    result: dict[str, Any] = {"seeds": list(TRAP_SEEDS), "studies": studies}
    for mode, sets in found.items():
        by_trap = recall(sets)
        planted, hits = (sum(t[key] for t in by_trap.values()) for key in ("planted", "found"))
        result[f"pixels_{mode.value}"] = {
            "planted": planted,
            "found": hits,
            "recall": hits / planted,
            "seconds_per_study": seconds[mode] / studies,
            "by_trap": by_trap,
        }
    return result


def measure_clean(folder: Path) -> dict[str, Any]:
    counts = dict.fromkeys(Category, 0)
    codes: dict[str, int] = defaultdict(int)
    for seed in CLEAN_SEEDS:
        root = synthesize(folder / f"clean-{seed}", studies=CLEAN_STUDIES, test_studies=5, seed=seed, traps=False)
        options = AuditOptions(pixels=Pixels.ALL, workers=os.cpu_count() or 1)
        issues, _ = timed_audit(root / "data", folder / f"audit-clean-{seed}", options)
        for category, count in count_categories(issues).items():
            counts[category] += count
        for issue in issues:
            codes[issue.code.slug] += 1
    return {
        "seeds": list(CLEAN_SEEDS),
        "studies": len(CLEAN_SEEDS) * (CLEAN_STUDIES + 5),
        "findings": {category.value: count for category, count in counts.items()},
        "codes": dict(sorted(codes.items())),
    }


def write_tables(folder: Path, studies: int, seed: int) -> int:
    """The three tables of a training part without images: sampled grades, three series and their points a study."""
    rng = np.random.default_rng(seed)
    labels = sample_labels(studies, seed)
    ids = [str(4_000_000 + n) for n in range(studies)]
    series = {view: [str(10**6 + 10 * n + k) for n in range(studies)] for k, view in enumerate(View)}
    folder.mkdir(parents=True)
    write_csv(wide_grades(ids, [[severity_text(int(g)) for g in row] for row in labels.grade]), folder / "train.csv")
    rows = [(ids[n], series[view][n], view.value) for n in range(studies) for view in View]
    columns = ["study_id", "series_id", "series_description"]
    write_csv(pd.DataFrame(rows, columns=columns), folder / "train_series_descriptions.csv")
    points = []
    for n in range(studies):
        for f in FINDINGS:
            if labels.grade[n, f.index] == MISSING:
                continue
            side = {None: 0, "left": 1, "right": -1}[f.side]
            axial = f.view is View.AXIAL_T2
            x = 160 + (15 if axial else 0) * side + rng.normal(0, 2)
            y = 160 + rng.normal(0, 4) if axial else 110 + 45 * f.level + rng.normal(0, 4)
            number = 5 + 4 * f.level if axial else 8 - 3 * side
            points.append((ids[n], series[f.view][n], number, f.condition_display, f.level.display, x, y))
    columns = ["study_id", "series_id", "instance_number", "condition", "level", "x", "y"]
    write_csv(pd.DataFrame(points, columns=columns), folder / "train_label_coordinates.csv")
    return len(points)


def measure_tables(folder: Path) -> dict[str, Any]:
    points = write_tables(folder / "tables", TABLE_STUDIES, 0)
    issues, seconds = timed_audit(folder / "tables", folder / "audit-tables", AuditOptions(images=False))
    errors = count_categories(issues)[Category.ERROR]
    return {"studies": TABLE_STUDIES, "points": points, "seconds": seconds, "errors": errors}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/audit.json"))
    out = arguments.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured = {
            "traps": measure_traps(folder),
            "clean": measure_clean(folder),
            "tables_only": measure_tables(folder),
        }
    save(out, header("python benchmarks/audit.py") | measured)


if __name__ == "__main__":
    main()
