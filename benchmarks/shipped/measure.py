"""How the shipped recipe fares on real sagittal T2 of patients whom it was not trained on.

    python -m benchmarks.shipped.measure SPIDER FIRST SECOND [--compare RUN] [--out OUT.json]

FIRST and SECOND are runs of `python -m benchmarks.shipped` with `--patients first` and `second`: each is measured on
the other half. A level is right where its canal point lies nearest to its own true canal point, of T12/L1 to L5/S1, or,
where it has none, nearest to its own disc. It is also told in how many patients all lie nearest to their own discs, and
in how many all true points do: in a curved spine the canal behind a disc may lie nearer to the next disc. A point is
near where it lies within 8 mm of the true one. No pixel is kept.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import header, parser, save
from benchmarks.shipped.mixture import patients_of
from localize.localizer import Localizer
from shared.data.challenge import Challenge
from shared.labels import Condition
from shared.mirror.correct import as_shown
from shared.numbering import CERTAIN

NEAR_MM: Final = 8.0
_DISCS: Final = ("T12/L1", "L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1")

Places = Mapping[str, tuple[float, float]]
Points = Mapping[str, Places]


def read_truth(spider: Path) -> tuple[Points, Points, float]:
    """Disc centres and canal points of each study by level, in pixels, and mm per pixel."""
    discs: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    canal: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    spacing = 0.0
    with (spider / "discs.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            discs[row["study_id"]][row["level"]] = (float(row["x"]), float(row["y"]))
            if row["canal_x"]:
                canal[row["study_id"]][row["level"]] = (float(row["canal_x"]), float(row["canal_y"]))
            spacing = float(row["spacing_mm"])
    return discs, canal, spacing


def measure(localizer: Localizer, spider: Path, patients: Collection[str]) -> list[dict[str, Any]]:
    """One entry a patient: how far each level is off its name, the errors in mm, and the belief in the numbering."""
    discs, canal, spacing = read_truth(spider)
    data, entries = Challenge.open(spider), []
    for patient in sorted(patients):
        found = localizer.localize(as_shown(data.load_study(patient).study, look=localizer.unmirror).study)
        every = with_missing(canal[patient], discs[patient])
        off, by_disc, errors = {}, {}, {}
        for finding, place in found.localizations.items():
            if finding.condition is not Condition.CANAL:
                continue
            level, at = finding.level.display, np.array([place.x_px, place.y_px])
            by_disc[level] = _off(level, at, discs[patient])
            off[level] = _off(level, at, every) if level in canal[patient] else by_disc[level]
            if level in canal[patient]:
                errors[level] = round(float(np.linalg.norm(canal[patient][level] - at)) * spacing, 2)
        named = found.numbering.as_named if found.numbering else 0.0
        entries.append({
            "patient": patient, "levels off": off, "levels off by disc": by_disc,
            "true points off by disc": {k: _off(k, np.array(at), discs[patient]) for k, at in canal[patient].items()},
            "error_mm": errors, "as_named": round(named, 4),
        })  # fmt: skip
    return entries


def with_missing(canal: Places, discs: Places) -> Places:
    """The canal points, and for a disc without one its centre moved by the mean offset of the others."""
    offset = np.mean([np.subtract(canal[name], discs[name]) for name in canal], axis=0)
    return {name: canal.get(name) or tuple(np.add(at, offset)) for name, at in discs.items()}


def _off(level: str, at: NDArray[np.float64], places: Places) -> int:
    """By how many levels the nearest of the places is off the level."""
    nearest = min(places, key=lambda name: float(np.linalg.norm(places[name] - at)))
    return _DISCS.index(nearest) - _DISCS.index(level)


def summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures over all patients."""
    right = [len(e["levels off"]) == len(_DISCS) - 1 and not any(e["levels off"].values()) for e in entries]
    errors = np.array([error for e in entries for error in e["error_mm"].values()])
    sure = [e["as_named"] >= CERTAIN for e in entries]
    kinds = Counter(
        "right" if ok else "whole chain off" if len(set(e["levels off"].values())) == 1 else "mixed"
        for e, ok in zip(entries, right, strict=True)
    )
    by_disc = {
        name: sum(not any(off for level, off in e[name].items() if level != _DISCS[0]) for e in entries)
        for name in ("levels off by disc", "true points off by disc")
    }
    return {
        "patients": len(entries), "all five right": kinds, "points": len(errors),
        "all five nearest to their discs": by_disc["levels off by disc"],
        "all five true points nearest to their discs": by_disc["true points off by disc"],
        "median_mm": round(float(np.median(errors)), 2),
        f"within {NEAR_MM:g} mm": round(float((errors <= NEAR_MM).mean()), 4),
        "sure": sum(sure), "right of the sure": sum(a and b for a, b in zip(sure, right, strict=True)),
    }  # fmt: skip


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("spider", type=Path, metavar="SPIDER")
    arguments.add_argument("first", type=Path, metavar="FIRST")
    arguments.add_argument("second", type=Path, metavar="SECOND")
    arguments.add_argument("--compare", type=Path, metavar="RUN", help="a run that was trained on none of the patients")
    arguments.add_argument("--out", type=Path, default=Path("results/shipped.json"))
    arguments.add_argument("--device", default="cpu")
    a = arguments.parse_args()
    every = patients_of(a.spider)
    entries = []
    for run, patients in ((a.first, every[1::2]), (a.second, every[::2])):
        entries += measure(Localizer.load(run, device=a.device), a.spider, patients)
    compared = {}
    if a.compare:
        compared = {"compared": summary(measure(Localizer.load(a.compare, device=a.device), a.spider, every))}
    command = "python -m benchmarks.shipped.measure SPIDER FIRST SECOND" + (" --compare RUN" if a.compare else "")
    about = {"data": "sagittal T2 of 20 SPIDER patients, each by detectors that were trained on the other half"}
    save(a.out, header(command, device=a.device) | about | summary(entries) | compared | {"each": entries})


if __name__ == "__main__":
    main()
