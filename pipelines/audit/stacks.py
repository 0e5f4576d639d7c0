"""Where a study's series lie: order and numbers, stacks, and series that show another part of the body."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines.audit.files import SeriesRead, StudyRead
from pipelines.audit.findings import Code, Issue
from shared.dicom.discover import MIN_SLICES
from shared.geometry import HEAD, FloatArray, dominant_axis
from shared.labels import Level
from shared.study import Series, Slice

# Positions closer than this along the normal are one position; scanners round to micrometres.
SAME_POSITION_MM: Final = 0.05
HUGE_NUMBER: Final = 1000
# Two sagittal fields of one spine share most of their height; below this share they show different parts of it.
_SHARED_HEIGHT: Final = 0.3
_SMALL_FIELD: Final = 0.7
_WIDE_GAP: Final = 1.8
_SPACING_TOLERANCE: Final = 1e-3
_NAMED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How instance numbers follow positions (right to left in sagittal, head to foot in axial series).

    `agreement` is 1 when every step rises, -1 when every step falls.
    """

    steps: int
    agreement: float


def instance_order(series: Series) -> Order:
    """Counts steps between neighbours of one stack that differ in position."""
    rises = falls = 0
    for stack in series.stacks:
        where = positions_mm(stack)
        for k in range(len(stack) - 1):
            if where[k + 1] - where[k] > SAME_POSITION_MM:
                step = stack[k + 1].instance_number - stack[k].instance_number
                rises, falls = rises + (step > 0), falls + (step < 0)
    total = rises + falls
    return Order(steps=total, agreement=(rises - falls) / total if total else 0.0)


def positions_mm(stack: Sequence[Slice]) -> FloatArray:
    """Rising positions of parallel slices along their normal. # [n]"""
    normal = stack[0].plane.normal
    where = np.array([np.asarray(item.plane.origin_mm) @ normal for item in stack])
    return where if len(where) < 2 or where[-1] >= where[0] else -where


def gaps_mm(series: Series) -> FloatArray:
    """Distances between neighbouring positions, stack by stack. # [m]"""
    gaps = [np.diff(positions_mm(stack)) for stack in series.stacks if len(stack) > 1]
    return np.concatenate(gaps) if gaps else np.empty(0)


def check_stacks(read: StudyRead) -> list[Issue]:
    """Everything that concerns one series by itself."""
    return [
        Issue(
            code=code, part=read.part, study_id=read.study_id, series_id=item.series.series_id,
            instance_number=number, reason=reason,
        )
        for item in read.series
        for code, number, reason in (*_numbers(item), *_shapes(item), *_positions(item))
    ]  # fmt: skip


_Told = list[tuple[Code, int | None, str]]


def _numbers(item: SeriesRead) -> _Told:
    series, told = item.series, _Told()
    numbers = [f.slice.instance_number for f in item.files]
    if min(numbers) >= HUGE_NUMBER:
        told.append((Code.NUMBERS_HUGE, None, f"instances {min(numbers)} to {max(numbers)} for {len(numbers)} slices"))
    order = instance_order(series)
    if not item.numbered or not order.steps:
        return told
    # Few steps against the rest are blocks or appended slices; a shuffled series has many.
    if not series.view.is_sagittal and order.agreement <= -0.5:
        told.append((Code.FEET_FIRST, None, f"{-order.agreement:.0%} net of {order.steps} steps go towards the head"))
    if abs(order.agreement) < 1:
        told.append((Code.NUMBERS_UNORDERED, None, f"agreement {order.agreement:+.2f} over {order.steps} steps"))
    return told


def _shapes(item: SeriesRead) -> _Told:
    series, told = item.series, _Told()
    if len(series.slices) < MIN_SLICES:
        told.append((Code.FEW_SLICES, None, f"{len(series.slices)} slices, expected at least {MIN_SLICES}"))
    wanted = 0 if series.view.is_sagittal else 2
    names = ("sagittal", "coronal", "axial")
    wrong = [s for s in series.slices if dominant_axis(s.plane) != wanted]
    if wrong:
        got = names[dominant_axis(wrong[0].plane)]
        reason = f"described as {series.view.value}, but {len(wrong)} of {len(series.slices)} slices are {got}"
        told.append((Code.VIEW_WRONG, wrong[0].instance_number, reason))
    shapes = sorted({s.shape for s in series.slices})
    if len(shapes) > 1:
        listed = ", ".join(f"{rows} x {columns}" for rows, columns in shapes[:_NAMED])
        told.append((Code.SIZES_MIXED, None, f"{len(shapes)} sizes (rows x columns): {listed}"))
    spacings = np.array([s.plane.spacing_mm for s in series.slices])
    if np.ptp(spacings, axis=0).max() > _SPACING_TOLERANCE:
        told.append((Code.SPACING_MIXED, None, f"pixels of {spacings.min():.3f} to {spacings.max():.3f} mm"))
    stacks = series.stacks
    if len(stacks) > 1:
        sizes = ", ".join(str(len(stack)) for stack in stacks)
        told.append((Code.TILTS_MIXED, None, f"{len(stacks)} stacks of {sizes} slices"))
    return told


def _positions(item: SeriesRead) -> _Told:
    series, told = item.series, _Told()
    twins = [
        (a.instance_number, b.instance_number)
        for stack in series.stacks
        for a, b, gap in zip(stack, stack[1:], np.diff(positions_mm(stack)), strict=False)
        if gap < SAME_POSITION_MM
    ]
    if twins:
        listed = ", ".join(f"{a} and {b}" for a, b in twins[:_NAMED])
        told.append((Code.POSITIONS_REPEATED, twins[0][0], f"{len(twins)} pairs: instances {listed}"))
    gaps = gaps_mm(series)
    gaps = gaps[gaps >= SAME_POSITION_MM]
    if series.view.is_sagittal and len(series.stacks) == 1 and len(gaps) >= 3:
        usual = float(np.median(gaps))
        wide = int((gaps > _WIDE_GAP * usual).sum())
        if wide:
            told.append((Code.SLICES_LACKING, None, f"{wide} gaps up to {gaps.max():.1f} mm, usually {usual:.1f} mm"))
    return told


def height_mm(series: Series) -> tuple[float, float]:
    """Lowest and highest z of the slices' pictures: how much of the body a series covers from foot to head."""
    corners = []
    for item in series.slices:
        rows, columns = item.shape
        corners.append(item.plane.to_patient([[0, 0], [columns - 1, 0], [0, rows - 1], [columns - 1, rows - 1]]))
    z = np.concatenate(corners) @ HEAD
    return float(z.min()), float(z.max())


def shared_height(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Common height as a share of the smaller one; negative for a distance between them."""
    common = min(a[1], b[1]) - max(a[0], b[0])
    return common / max(min(a[1] - a[0], b[1] - b[0]), 1e-6)


def check_anatomy(read: StudyRead, points_mm: Mapping[str, FloatArray]) -> list[Issue]:
    """Series that show another part of the body than the rest.

    Args:
      points_mm: the study's points in patient space by the series they lie on, [n, 3] each.
    """
    issues = []
    series = [s.series for s in read.series]
    foreign = find_foreign(series, points_mm)
    for item in series:
        if item.series_id in foreign:
            issues.append(_tell(read, item, Code.FOREIGN_ANATOMY, foreign[item.series_id]))
    sagittal = [s for s in series if s.view.is_sagittal and s.series_id not in foreign]
    heights = {s.series_id: _span(height_mm(s)) for s in sagittal}
    for item in sagittal:
        largest = max(heights.values())
        if heights[item.series_id] < _SMALL_FIELD * largest:
            reason = f"{heights[item.series_id]:.0f} mm high, another sagittal series of the study {largest:.0f} mm"
            issues.append(_tell(read, item, Code.FIELD_DIFFERS, reason))
    return issues


def _tell(read: StudyRead, series: Series, code: Code, reason: str) -> Issue:
    return Issue(code=code, part=read.part, study_id=read.study_id, series_id=series.series_id, reason=reason)


def _span(bounds: tuple[float, float]) -> float:
    return bounds[1] - bounds[0]


def find_foreign(series: Sequence[Series], points_mm: Mapping[str, FloatArray]) -> dict[str, str]:
    """Series id -> why it is foreign: its height along the body is not that of the other series and of the points.

    Series at the same place of the scanner's coordinates cannot be told apart this way: a neck that was scanned with a
    landmark of its own looks like a lumbar series. It is then seen at most by its smaller field.
    """
    bounds = {s.series_id: height_mm(s) for s in series}
    sagittal = [s.series_id for s in series if s.view.is_sagittal]
    axial = [s.series_id for s in series if not s.view.is_sagittal]
    found: dict[str, str] = {}
    while len(sagittal) > 1:
        apart = {
            a: [b for b in sagittal if b != a and shared_height(bounds[a], bounds[b]) < _SHARED_HEIGHT]
            for a in sagittal
        }
        if not any(apart.values()):
            break
        # The one that fewest others, axial stacks and points support; between equals the one nearer to the head.
        worst = max(
            (a for a in sagittal if apart[a]),
            key=lambda a: (len(apart[a]) - _support(a, bounds, axial, points_mm), sum(bounds[a])),
        )
        other = apart[worst][0]
        distance = max(bounds[worst][0], bounds[other][0]) - min(bounds[worst][1], bounds[other][1])
        found[worst] = (
            f"covers z {bounds[worst][0]:.0f} to {bounds[worst][1]:.0f} mm, series {other} z {bounds[other][0]:.0f} to "
            f"{bounds[other][1]:.0f} mm" + (f": {distance:.0f} mm apart" if distance > 0 else "")
        )
        sagittal.remove(worst)
    if not sagittal:
        return found
    low, high = min(bounds[s][0] for s in sagittal), max(bounds[s][1] for s in sagittal)
    for series_id in axial:
        middle = sum(bounds[series_id]) / 2
        if not low <= middle <= high:
            found[series_id] = f"lies at z {middle:.0f} mm, the sagittal series cover z {low:.0f} to {high:.0f} mm"
    return found


def _support(
    series_id: str, bounds: Mapping[str, tuple[float, float]], axial: Sequence[str], points_mm: Mapping[str, FloatArray]
) -> float:
    """How many axial series lie within a sagittal field, and twice the number of points on it or within it."""
    low, high = bounds[series_id]
    stacks = sum(low <= sum(bounds[a]) / 2 <= high for a in axial)
    inside = sum(int(((p @ HEAD >= low) & (p @ HEAD <= high)).sum()) for p in points_mm.values())
    return stacks + 2 * inside + len(points_mm.get(series_id, ()))


def levels_by_series(levels: Mapping[str, set[Level]]) -> str:
    """`series 12: L1/L2 L2/L3; series 13: ...`"""
    return "; ".join(f"series {s}: {' '.join(level.display for level in sorted(found))}" for s, found in levels.items())
