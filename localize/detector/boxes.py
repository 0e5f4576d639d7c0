"""Turns annotated points into boxes of a fixed size in mm on every slice that shows them.

A level's point is known in patient space, so its box can be drawn on the neighbouring slices too. A class is a level,
never a side: left and right foramina look alike on sagittal slices, and on axial slices one box spans both subarticular
points, with its edges a fixed margin outside them. The slice's plane tells which edge is the patient's left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from localize.config import ViewConfig
from shared.detections import Localization
from shared.geometry import FloatArray, Plane
from shared.labels import Condition, Finding, Level, Side, View
from shared.study import Series, Slice


class Role(Enum):
    """How training uses a slice."""

    POSITIVE = auto()  # shows at least one level
    NEGATIVE = auto()  # shows none
    UNCLEAR = auto()  # too close to a level to count as empty: not used


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelBox:
    """A true box on a slice, in slice pixels (left, top, right, bottom)."""

    level: Level
    box_xyxy_px: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSlice:
    """A slice with its true boxes."""

    item: Slice
    role: Role
    boxes: tuple[LevelBox, ...]


def label_series(
    series: Series, truth: Mapping[Finding, Localization], config: ViewConfig
) -> tuple[LabelledSlice, ...]:
    """Role and true boxes of every slice of a series, in the series' order.

    Points of the same view count on whichever series they were annotated, since a second axial series shows the same
    discs. Without any point all slices are unclear.
    """
    spots = level_spots(truth, series.view)
    if not spots:
        return tuple(LabelledSlice(item=item, role=Role.UNCLEAR, boxes=()) for item in series.slices)
    gap_mm, boxless = slice_gap_mm(series), _boxless_points(truth, {level for level, _ in spots})
    labelled = []
    for item in series.slices:
        result = _label_slice(item, spots, gap_mm, series.view, config)
        if result.role is Role.NEGATIVE and _is_near(item, boxless, (config.neighbours + 1.5) * gap_mm):
            result = LabelledSlice(item=item, role=Role.UNCLEAR, boxes=())
        labelled.append(result)
    return tuple(labelled)


def _boxless_points(truth: Mapping[Finding, Localization], boxed: set[Level]) -> FloatArray:  # [n, 3]
    """Points of levels that are not annotated on this view: slices through them are not empty."""
    points = [loc.point_mm for f, loc in truth.items() if f.level not in boxed]
    return np.array(points, np.float64).reshape(-1, 3)


def _is_near(item: Slice, points_mm: FloatArray, reach_mm: float) -> bool:
    return len(points_mm) > 0 and float(np.abs(item.plane.distance_mm(points_mm)).min()) <= reach_mm


def level_spots(truth: Mapping[Finding, Localization], view: View) -> list[tuple[Level, FloatArray]]:
    """The levels to draw boxes around, with their points in patient mm.

    An axial level with only one annotated side is left out, because its box cannot be drawn.

    Returns:
      Levels with [1, 3] points on sagittal views, [2, 3] points (left, right) on axial ones.
    """
    points = {f: np.array(loc.point_mm) for f, loc in truth.items() if f.view is view}
    if view is not View.AXIAL_T2:
        return [(f.level, p[None]) for f, p in sorted(points.items(), key=lambda item: item[0].index)]
    spots = []
    for level in Level:
        left, right = (
            points.get(Finding(condition=Condition.SUBARTICULAR, side=side, level=level))
            for side in (Side.LEFT, Side.RIGHT)
        )
        if left is not None and right is not None:
            spots.append((level, np.stack([left, right])))
    return spots


def slice_gap_mm(series: Series) -> float:
    """`Series.gap_mm`, or 4 mm when every stack has a single slice."""
    return 4.0 if series.gap_mm is None else series.gap_mm


def _label_slice(
    item: Slice, spots: Sequence[tuple[Level, FloatArray]], gap_mm: float, view: View, config: ViewConfig
) -> LabelledSlice:
    distances = [float(np.abs(item.plane.distance_mm(points)).min()) for _, points in spots]
    reach = (config.neighbours + 0.5) * gap_mm
    nearest = min(distances)
    if nearest > reach + gap_mm:
        return LabelledSlice(item=item, role=Role.NEGATIVE, boxes=())
    if nearest > reach:
        return LabelledSlice(item=item, role=Role.UNCLEAR, boxes=())
    if view is View.AXIAL_T2:
        chosen = [spots[int(np.argmin(distances))]]
    else:
        # A slice that shows one level also shows the others, unless the spine bends away from it.
        chosen = [spot for spot, d in zip(spots, distances, strict=True) if d <= reach + gap_mm]
    boxes = [LevelBox(level=level, box_xyxy_px=_box(item.plane, points, config)) for level, points in chosen]
    inside = tuple(box for box in boxes if item.contains(_center(box)))
    return LabelledSlice(item=item, role=Role.POSITIVE if inside else Role.UNCLEAR, boxes=inside)


def _center(box: LevelBox) -> tuple[float, float]:
    left, top, right, bottom = box.box_xyxy_px
    return (left + right) / 2, (top + bottom) / 2


def _box(plane: Plane, points_mm: FloatArray, config: ViewConfig) -> tuple[float, float, float, float]:
    """Box around one point, or around a left and a right point with a margin on each side."""
    dy, dx = plane.spacing_mm
    points_px = plane.to_pixel(points_mm)
    half_height = config.box_mm / 2 / dy
    half_width = (config.box_mm / 2 if len(points_mm) == 1 else config.margin_mm) / dx
    y = float(points_px[:, 1].mean())
    left, right = float(points_px[:, 0].min()) - half_width, float(points_px[:, 0].max()) + half_width
    return left, y - half_height, right, y + half_height


def side_points_px(
    plane: Plane, box_xyxy_px: tuple[float, float, float, float], margin_mm: float
) -> dict[Side, tuple[float, float]]:
    """The two subarticular points that an axial box was drawn around, by side.

    The points are `margin_mm` inside the left and right edge, at half height; the patient's left is the one with the
    larger x in mm. A box narrower than two margins gives its centre twice.
    """
    left, top, right, bottom = box_xyxy_px
    inset = min(margin_mm / plane.spacing_mm[1], (right - left) / 2)
    y = (top + bottom) / 2
    ends = [(left + inset, y), (right - inset, y)]
    if plane.row_dir[0] < 0:
        ends.reverse()
    return {Side.RIGHT: ends[0], Side.LEFT: ends[1]}
