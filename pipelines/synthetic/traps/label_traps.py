"""Traps in the tables: grades and points that are missing, misplaced or mixed up."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from pipelines.synthetic.anatomy.spine import FIRST_DISC
from pipelines.synthetic.grades import MISSING
from pipelines.synthetic.scanner.series import Point, Scan, StoredSeries, StoredSlice
from pipelines.synthetic.traps.edits import Planted, Trap, move_points, series_of, without
from shared.geometry import Plane
from shared.labels import FINDINGS, Condition, Level, Side, View


def missing_grades(scan: Scan, rng: np.random.Generator) -> Planted:
    """Subarticular grades missing at the upper two levels, points too."""
    gone = [f for f in FINDINGS if f.condition is Condition.SUBARTICULAR and f.level <= Level.L2_L3]
    grade = scan.grade.copy()
    grade[[f.index for f in gone]] = MISSING
    points = tuple(p for p in scan.points if p.finding not in gone)
    return replace(scan, grade=grade, points=points), "no subarticular grades at L1/L2 and L2/L3"


def missing_points(scan: Scan, rng: np.random.Generator) -> Planted:
    """Graded canal findings without points."""
    points = tuple(p for p in scan.points if p.finding.condition is not Condition.CANAL)
    return (replace(scan, points=points), "no canal points") if len(points) < len(scan.points) else None


def points_without_grade(scan: Scan, rng: np.random.Generator) -> Planted:
    """A point whose finding nobody graded."""
    if not scan.points:
        return None
    finding = scan.points[int(rng.integers(len(scan.points)))].finding
    grade = scan.grade.copy()
    grade[finding.index] = MISSING
    return replace(scan, grade=grade), f"{finding.column} has a point and no grade"


def no_points_no_t2(scan: Scan, rng: np.random.Generator) -> Planted:
    """Neither points nor a sagittal T2 series."""
    changed = without(scan, View.SAGITTAL_T2)
    return None if changed is None else (replace(changed[0], points=()), "no points and no sagittal T2 series")


def canal_points_on_t1(scan: Scan, rng: np.random.Generator) -> Planted:
    """Canal points that name the T1 series."""
    t1, t2 = series_of(scan, View.SAGITTAL_T1), series_of(scan, View.SAGITTAL_T2)
    if t1 is None or t2 is None or not any(p.series_id == t2.series_id for p in scan.points):
        return None
    slices = {s.instance_number: s for s in t2.slices}

    def change(point: Point) -> Point:
        plane = slices[point.instance_number].plane
        twin = _nearest(t1, plane)
        x, y = twin.plane.to_pixel(plane.to_patient([point.x_px, point.y_px]))
        return replace(
            point, series_id=t1.series_id, instance_number=twin.instance_number, x_px=float(x), y_px=float(y)
        )

    return move_points(scan, t2.series_id, change), f"canal points lie on the T1 series {t1.series_id}"


def _nearest(series: StoredSeries, plane: Plane) -> StoredSlice:
    origin = np.asarray(plane.origin_mm)[None]
    return min(series.slices, key=lambda s: abs(float(s.plane.distance_mm(origin)[0])))


def swapped_sides(scan: Scan, rng: np.random.Generator) -> Planted:
    """Left points called right and the other way round, for one condition at one level."""
    level = Level(int(rng.integers(len(Level))))
    condition = (Condition.FORAMINAL, Condition.SUBARTICULAR)[int(rng.integers(2))]

    def change(point: Point) -> Point:
        f = point.finding
        if f.condition is not condition or f.level is not level or f.side is None:
            return point
        return replace(point, finding=replace(f, side=f.side.opposite))

    points = tuple(change(p) for p in scan.points)
    if points == scan.points:
        return None
    return replace(scan, points=points), f"{condition.short} points at {level.display} are swapped left to right"


def off_by_one_level(scan: Scan, rng: np.random.Generator) -> Planted:
    """Canal points one disc too low."""
    t2 = series_of(scan, View.SAGITTAL_T2)
    if t2 is None or not any(p.finding.condition is Condition.CANAL for p in scan.points):
        return None
    slices, case = {s.instance_number: s for s in t2.slices}, scan.case

    def change(point: Point) -> Point:
        step = float(np.diff(case.spine.segments.disc_s)[FIRST_DISC + point.finding.level])
        moved = case.point_mm(point.finding, shift_mm=step)
        x, y = slices[point.instance_number].plane.to_pixel(moved)
        return replace(point, x_px=float(x), y_px=float(y))

    return move_points(scan, t2.series_id, change), "canal points lie one level too low"


def corner_point(scan: Scan, rng: np.random.Generator) -> Planted:
    """A point left in the picture's corner."""
    if not scan.points:
        return None
    k = int(rng.integers(len(scan.points)))
    wrong = replace(scan.points[k], x_px=5.0 + float(rng.random()), y_px=5.0 + float(rng.random()))
    return replace(
        scan, points=(*scan.points[:k], wrong, *scan.points[k + 1 :])
    ), f"{wrong.finding.column} lies in the corner"


def foramina_on_one_slice(scan: Scan, rng: np.random.Generator) -> Planted:
    """Left and right foramina marked on the left slice."""
    left = {
        p.finding.level: p
        for p in scan.points
        if p.finding.condition is Condition.FORAMINAL and p.finding.side is Side.LEFT
    }
    if not left:
        return None

    def change(point: Point) -> Point:
        f = point.finding
        if f.condition is not Condition.FORAMINAL or f.side is not Side.RIGHT or f.level not in left:
            return point
        return replace(point, instance_number=left[f.level].instance_number)

    return replace(scan, points=tuple(change(p) for p in scan.points)), "left and right foramina lie on the left slices"


LABEL_TRAPS: Final[Mapping[str, Trap]] = {
    "missing_grades": missing_grades,
    "missing_points": missing_points,
    "points_without_grade": points_without_grade,
    "no_points_no_t2": no_points_no_t2,
    "canal_points_on_t1": canal_points_on_t1,
    "swapped_sides": swapped_sides,
    "off_by_one_level": off_by_one_level,
    "corner_point": corner_point,
    "foramina_on_one_slice": foramina_on_one_slice,
}
