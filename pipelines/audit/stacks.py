"""Checks where a study's series lie: order and numbers, stacks, and series that show another part of the body."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from pipelines.audit.files import SeriesRead, StudyRead
from pipelines.audit.issues import Code, Issue
from shared.dicom.views import MIN_SLICES
from shared.geometry import HEAD, PLANE_NAMES, FloatArray, dominant_axis
from shared.labels import Level
from shared.runtime.problems import counted
from shared.study import SAME_POSITION_MM, Series, gaps_mm

HUGE_NUMBER: Final = 1000
# Two sagittal fields of one spine share most of their height; below this share they show different parts of it.
_SHARED_HEIGHT: Final = 0.3
_SMALL_FIELD: Final = 0.7
_WIDE_GAP: Final = 1.8
_SPACING_TOLERANCE: Final = 1e-3
_NAMED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How instance numbers follow positions: right to left in sagittal series, head to foot in axial ones.

    Attributes:
      steps: number of steps compared.
      agreement: 1 when every step rises, -1 when every step falls.
    """

    steps: int
    agreement: float


def instance_order(series: Series) -> Order:
    """Counts steps between neighbours of one stack that differ in position."""
    steps = [
        b.instance_number - a.instance_number
        for stack in series.stacks
        for (a, b), gap in zip(pairwise(stack), gaps_mm(stack), strict=True)
        if gap > SAME_POSITION_MM
    ]
    net = sum(step > 0 for step in steps) - sum(step < 0 for step in steps)
    total = sum(step != 0 for step in steps)
    return Order(steps=total, agreement=net / total if total else 0.0)


def check_stacks(read: StudyRead) -> list[Issue]:
    """Everything that concerns one series on its own."""
    return [
        Issue(code=code, series_id=item.series.series_id, instance_number=number, reason=reason)
        for item in read.series
        for code, number, reason in (*_numbers(item), *_shapes(item), *_positions(item))
    ]


_Oddities = list[tuple[Code, int | None, str]]  # code, instance number, reason


def _numbers(item: SeriesRead) -> _Oddities:
    series, odd = item.series, _Oddities()
    numbers = [f.slice.instance_number for f in item.files]
    if min(numbers) >= HUGE_NUMBER:
        odd.append(
            (
                Code.NUMBERS_HUGE,
                None,
                f"instances {min(numbers)} to {max(numbers)} for {counted(len(numbers), 'slice')}",
            )
        )
    order = instance_order(series)
    if not item.numbered or not order.steps:
        return odd
    # Few steps against the rest are blocks or appended slices; a shuffled series has many.
    if not series.view.is_sagittal and order.agreement <= -0.5:
        odd.append((Code.FEET_FIRST, None, f"{-order.agreement:.0%} net of {order.steps} steps go towards the head"))
    if abs(order.agreement) < 1:
        odd.append((Code.NUMBERS_UNORDERED, None, f"agreement {order.agreement:+.2f} over {order.steps} steps"))
    return odd


def _shapes(item: SeriesRead) -> _Oddities:
    series, odd = item.series, _Oddities()
    if len(series.slices) < MIN_SLICES:
        odd.append((Code.FEW_SLICES, None, f"{counted(len(series.slices), 'slice')}, expected at least {MIN_SLICES}"))
    wanted = 0 if series.view.is_sagittal else 2
    wrong = [s for s in series.slices if dominant_axis(s.plane) != wanted]
    if wrong:
        got = PLANE_NAMES[dominant_axis(wrong[0].plane)]
        reason = (
            f"described as {series.view.value}, but {len(wrong)} of {counted(len(series.slices), 'slice')} are {got}"
        )
        odd.append((Code.VIEW_WRONG, wrong[0].instance_number, reason))
    shapes = sorted({s.shape for s in series.slices})
    if len(shapes) > 1:
        listed = ", ".join(f"{rows} x {columns}" for rows, columns in shapes[:_NAMED])
        odd.append((Code.SIZES_MIXED, None, f"{counted(len(shapes), 'size')} (rows x columns): {listed}"))
    spacings = np.array([s.plane.spacing_mm for s in series.slices])
    if np.ptp(spacings, axis=0).max() > _SPACING_TOLERANCE:
        odd.append((Code.SPACING_MIXED, None, f"pixels of {spacings.min():.3f} to {spacings.max():.3f} mm"))
    stacks = series.stacks
    if len(stacks) > 1:
        sizes = ", ".join(str(len(stack)) for stack in stacks)
        odd.append((Code.TILTS_MIXED, None, f"{counted(len(stacks), 'stack')} of {sizes} slices"))
    return odd


def _positions(item: SeriesRead) -> _Oddities:
    series, odd = item.series, _Oddities()
    gaps = np.concatenate([gaps_mm(stack) for stack in series.stacks])
    pairs = [pair for stack in series.stacks for pair in pairwise(stack)]
    apart = gaps > SAME_POSITION_MM
    twins = [(a.instance_number, b.instance_number) for (a, b), far in zip(pairs, apart, strict=True) if not far]
    if twins:
        listed = ", ".join(f"{a} and {b}" for a, b in twins[:_NAMED])
        odd.append((Code.POSITIONS_REPEATED, twins[0][0], f"{counted(len(twins), 'pair')}: instances {listed}"))
    gaps = gaps[apart]
    if series.view.is_sagittal and len(series.stacks) == 1 and len(gaps) >= 3:
        usual = float(np.median(gaps))
        wide = int((gaps > _WIDE_GAP * usual).sum())
        if wide:
            odd.append((Code.SLICES_LACKING, None, f"{wide} gaps up to {gaps.max():.1f} mm, usually {usual:.1f} mm"))
    return odd


def height_mm(series: Series) -> tuple[float, float]:
    """Lowest and highest z of the slices' corners: how much of the body a series covers from foot to head."""
    corners = []
    for item in series.slices:
        rows, columns = item.shape
        corners.append(item.plane.to_patient([[0, 0], [columns - 1, 0], [0, rows - 1], [columns - 1, rows - 1]]))
    z = np.concatenate(corners) @ HEAD
    return float(z.min()), float(z.max())


def shared_height(a: tuple[float, float], b: tuple[float, float]) -> float:
    """The overlap as a share of the smaller height; negative when they do not overlap."""
    common = min(a[1], b[1]) - max(a[0], b[0])
    return common / max(min(a[1] - a[0], b[1] - b[0]), 1e-6)


def check_anatomy(read: StudyRead, points_mm: Mapping[str, FloatArray]) -> list[Issue]:
    """Series that show another part of the body than the others.

    Args:
      points_mm: the study's points in patient space, by series id; [n, 3] each.
    """
    issues = []
    series = [s.series for s in read.series]
    foreign = find_foreign(series, points_mm)
    for item in series:
        if item.series_id in foreign:
            issues.append(Issue(code=Code.FOREIGN_ANATOMY, series_id=item.series_id, reason=foreign[item.series_id]))
    sagittal = [s for s in series if s.view.is_sagittal and s.series_id not in foreign]
    heights = {s.series_id: _span(height_mm(s)) for s in sagittal}
    for item in sagittal:
        largest = max(heights.values())
        if heights[item.series_id] < _SMALL_FIELD * largest:
            reason = f"{heights[item.series_id]:.0f} mm high, another sagittal series of the study {largest:.0f} mm"
            issues.append(Issue(code=Code.FIELD_DIFFERS, series_id=item.series_id, reason=reason))
    return issues


def _span(bounds: tuple[float, float]) -> float:
    return bounds[1] - bounds[0]


def find_foreign(series: Sequence[Series], points_mm: Mapping[str, FloatArray]) -> dict[str, str]:
    """Series id -> why it is foreign: it lies at another height of the body than the other series and the points.

    This cannot tell apart series at the same scanner coordinates: a neck that was scanned with its own landmark looks
    like a lumbar series. At most its smaller field of view shows.
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
        # The one with the least support from other series, axial stacks and points; of equals, the one nearer the head.
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
    """Number of axial series within a sagittal field, plus twice the number of points within it, plus those on it."""
    low, high = bounds[series_id]
    stacks = sum(low <= sum(bounds[a]) / 2 <= high for a in axial)
    inside = sum(int(((p @ HEAD >= low) & (p @ HEAD <= high)).sum()) for p in points_mm.values())
    return stacks + 2 * inside + len(points_mm.get(series_id, ()))


def levels_by_series(levels: Mapping[str, set[Level]]) -> str:
    """`series 12: L1/L2 L2/L3; series 13: ...`"""
    return "; ".join(f"series {s}: {' '.join(level.display for level in sorted(found))}" for s, found in levels.items())
